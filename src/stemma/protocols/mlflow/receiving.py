"""Bodies of uploads on their way into the content store.

Invariants:
    * Memory holds a small body, or a part of a large one, whatever is sent.
    * A large body waits in a file without a name, so nothing of it is left by any end of the
      process, and the store is not held while a slow client sends.
    * The row that names a file is written while the store is held, after the file is durable.

It decides nothing about places; see ``artifact_paths``.
"""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol, final

import anyio.to_thread

from stemma.db.engine import Connection
from stemma.domain.artifact import Artifact
from stemma.domain.digest import Algorithm
from stemma.protocols.mlflow.artifact_paths import Place
from stemma.protocols.mlflow.ports import Services
from stemma.store.backends.files import translated_os_errors
from stemma.store.hashing import new_hasher
from stemma.store.ingest import Batch, StoredFile
from stemma.tracking import artifacts

IN_MEMORY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A whole body.

    Attributes:
        stream: Its bytes, from the start.
        size_bytes: How many.
    """

    stream: io.RawIOBase | io.BytesIO
    size_bytes: int


@asynccontextmanager
async def received(parts: AsyncIterator[bytes], folder: Path) -> AsyncIterator[Received]:
    """Take a body in, in memory or in a file without a name in ``folder``."""
    head = bytearray()
    async for part in parts:
        head += part
        if len(head) > IN_MEMORY_BYTES:
            break
    else:
        yield Received(stream=io.BytesIO(bytes(head)), size_bytes=len(head))
        return
    spool = await anyio.to_thread.run_sync(_new_spool, folder)
    try:
        size_bytes = await write_all(spool, parts, head)
        await anyio.to_thread.run_sync(spool.seek, 0)
        yield Received(stream=spool, size_bytes=size_bytes)
    finally:
        spool.close()


async def write_all(target: _Writable, parts: AsyncIterator[bytes], head: bytearray) -> int:
    """Write ``head`` and what follows it; returns how many bytes."""
    size_bytes, waiting = 0, head
    async for part in parts:
        waiting += part
        if len(waiting) >= IN_MEMORY_BYTES:
            size_bytes += len(waiting)
            await anyio.to_thread.run_sync(_write, target, waiting)
            waiting = bytearray()
    await anyio.to_thread.run_sync(_write, target, waiting)
    return size_bytes + len(waiting)


async def save_part(parts: AsyncIterator[bytes], path: Path) -> str:
    """Write a part of an upload to a new file and return its blake3, in hexadecimal digits.

    Nothing is left of one that does not arrive whole.
    """
    with translated_os_errors("write an upload"):
        target = await anyio.to_thread.run_sync(_new_file, path)
    is_whole = False
    try:
        hashed = _Hashing(target)
        await write_all(hashed, parts, bytearray())
        is_whole = True
    finally:
        target.close()
        if not is_whole:
            path.unlink(missing_ok=True)  # noqa: ASYNC240 - a cancelled task can await nothing
    return hashed.hexdigest


@final
class _Hashing:
    """Hashes what is written."""

    def __init__(self, target: io.FileIO) -> None:
        self._target = target
        self._hasher = new_hasher(Algorithm.BLAKE3)

    def write(self, data: memoryview, /) -> int | None:
        """Write some of it."""
        count = self._target.write(data)
        self._hasher.update(bytes(data[: count or 0]))
        return count

    @property
    def hexdigest(self) -> str:
        """The blake3 of all that was written."""
        return self._hasher.hexdigest()


class _Writable(Protocol):
    """What bytes can be written to."""

    def write(self, data: memoryview, /) -> int | None:
        """Write some of it; return how much."""
        ...


def _new_file(path: Path) -> io.FileIO:
    return io.FileIO(path, "xb")


async def keep_all(services: Services, place: Place, body: Received) -> None:
    """Store a body and write its row; durable when it returns.

    Raises:
        StemmaError: As for ``artifacts.put``; what was stored goes by garbage collection then.
    """
    if isinstance(body.stream, io.BytesIO):
        submitted = services.small_files.submit(
            body.stream.getvalue(), partial(_row_writer, services, place)
        )
        await asyncio.wrap_future(submitted)
    else:
        await anyio.to_thread.run_sync(keep, services, place, body.stream, body.size_bytes)


def keep(services: Services, place: Place, stream: io.RawIOBase, size_bytes: int) -> None:
    """Store an open file and write its row; durable when it returns.  For a worker thread.

    Raises:
        StemmaError: As for ``artifacts.put``; what was stored goes by garbage collection then.
    """
    with services.database.read() as connection:
        parents = artifacts.relatives(connection, place.owner, place.path)
    with services.ports.writing():
        batch = Batch(services.objects.backend, services.objects.index)
        stored = batch.add_open(stream, size_bytes, name=place.path, parents=parents)
        batch.flush()
        services.ingest.run(_row_writer(services, place, stored))


def _row_writer(
    services: Services, place: Place, stored: StoredFile
) -> Callable[[Connection], None]:
    artifact = Artifact(
        owner=place.owner, path=place.path, file=stored.digest, size_bytes=stored.size_bytes
    )
    return partial(
        artifacts.put, artifact=artifact, now=services.clock(), experiment=place.experiment
    )


def _new_spool(folder: Path) -> io.RawIOBase:
    with translated_os_errors(f"write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as made:
            # A plain ``FileIO`` of the same nameless file: the store reads it unbuffered.
            return io.FileIO(os.dup(made.fileno()), "r+b")


def _write(target: _Writable, data: bytearray) -> None:
    with translated_os_errors("write an upload"):
        view = memoryview(data)
        while view:
            view = view[target.write(view) or 0 :]
