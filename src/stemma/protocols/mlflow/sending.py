"""Stored files on their way to clients.

Invariants:
    * Every byte is verified before it is sent; when one is wrong the answer breaks off before
      its announced length, and no client takes it for whole.
    * The first bytes are read before an answer begins, so what is lost is an error, not a
      broken answer.
    * A file is an attachment that browsers do not look into.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import quote

import anyio.to_thread

from stemma.domain.artifact import Artifact
from stemma.protocols.mlflow.byte_ranges import UnsatisfiableRangeError, parse_range
from stemma.protocols.mlflow.routes import MlflowRequest, Response
from stemma.store.objects import ObjectStore
from stemma.store.ranges import stream_range
from stemma.store.reading import Reader

_BLOCK_BYTES: Final = 1 << 20
_CACHED_BYTES: Final = 32 << 20
_AHEAD_BYTES: Final = 4 << 20
_BYTES: Final = "application/octet-stream"


async def send_file(request: MlflowRequest, find: Callable[[], Artifact]) -> Response:
    """Return the answer with a file, or with the stretch of it that the request asks for.

    Args:
        request: The request.
        find: Finds the file; called in a worker thread.

    Raises:
        StemmaError: What ``find`` raised, or that nothing of the file can be read.
    """
    return await anyio.to_thread.run_sync(_begin, request, find)


def _begin(request: MlflowRequest, find: Callable[[], Artifact]) -> Response:
    """Find the file and read its first bytes: one visit of a worker thread for small ones."""
    artifact = find()
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": _disposition(artifact.path),
        "etag": f'"{artifact.file.hex}"',
    }
    try:
        asked = parse_range(_wanted_range(request, headers["etag"]), artifact.size_bytes)
    except UnsatisfiableRangeError:
        headers["content-range"] = f"bytes */{artifact.size_bytes}"
        return Response(status=416, media_type=_BYTES, headers=headers)
    reader = _reader(request.services.objects)
    if asked is None:
        status, size_bytes = 200, artifact.size_bytes
        pieces = reader.stream(artifact.file)
    else:
        status, size_bytes = 206, asked.size_bytes
        headers["content-range"] = asked.said_of(artifact.size_bytes)
        pieces = stream_range(reader, artifact.file, asked.start, asked.size_bytes)
    headers["content-length"] = str(size_bytes)
    first = _next_block(pieces)
    body = first if len(first) == size_bytes else _all_blocks(first, pieces)
    return Response(body=body, status=status, media_type=_BYTES, headers=headers)


def _wanted_range(request: MlflowRequest, etag: str) -> str:
    is_other = request.headers.get("if-range", etag) != etag
    return "" if is_other else request.headers.get("range", "")


@lru_cache(maxsize=4)
def _reader(objects: ObjectStore) -> Reader:
    """Return what downloads are read with: many go on at once, each reads a little ahead."""
    return Reader(
        objects.backend, objects.index, cached_bytes=_CACHED_BYTES, ahead_bytes=_AHEAD_BYTES
    )


def _next_block(pieces: Iterator[bytes]) -> bytes:
    """Return the next verified bytes, some together; none at the end."""
    block: list[bytes] = []
    size_bytes = 0
    for piece in pieces:
        block.append(piece)
        size_bytes += len(piece)
        if size_bytes >= _BLOCK_BYTES:
            break
    return block[0] if len(block) == 1 else b"".join(block)


async def _all_blocks(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    block = first
    while block:
        yield block
        block = await anyio.to_thread.run_sync(_next_block, pieces)


def _disposition(path: str) -> str:
    name = path.rpartition("/")[2]
    plain = name.encode("ascii", "replace").decode().replace('"', "'").replace("\\", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
