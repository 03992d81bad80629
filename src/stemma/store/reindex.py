"""The chunk index, made again from what the blobs themselves say.

Invariants:
    * Frames name their chunks in their headers and recipes their sha256, so nothing but
      the blobs is needed.
    * A chunk that rests in several frames is found in one of the least depth, so that every
      chain of parents comes to an end.
    * What cannot be read is skipped and reported, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, InvalidInputError
from stemma.store import frames
from stemma.store.backends.base import BlobBackend
from stemma.store.index import ChunkIndex, ChunkRow, rows_of
from stemma.store.ingest import Progress
from stemma.store.keys import Family, parse_key
from stemma.store.reading import Reader

_REBUILD_BATCH: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What rebuilding the index found.

    Attributes:
        frame_count: Frames that were indexed.
        chunk_count: Chunks in them.
        file_count: Files whose aliases were written.
        skipped: Keys of frames and recipes that could not be read.
    """

    frame_count: int
    chunk_count: int
    file_count: int
    skipped: tuple[str, ...]


def rebuild_index(
    backend: BlobBackend, index: ChunkIndex, reader: Reader, progress: Progress | None = None
) -> RebuildReport:
    """Make ``index`` again; see ``ObjectStore.rebuild_index``."""
    index.clear()
    frame_count, chunk_count, skipped = index_frames(backend, index, progress)
    aliases, unreadable = _sha256_aliases(backend, reader)
    index.add_aliases(aliases)
    return RebuildReport(
        frame_count=frame_count,
        chunk_count=chunk_count,
        file_count=len(aliases),
        skipped=(*skipped, *unreadable),
    )


def index_frames(
    backend: BlobBackend, index: ChunkIndex, progress: Progress | None = None
) -> tuple[int, int, list[str]]:
    """Index every frame; a chunk that has a row keeps it.

    Returns:
        How many frames and chunks there are, and the keys of frames that could not be read.
    """
    skipped: list[str] = []
    frame_count = chunk_count = 0
    # A chunk keeps its first row, so frames of greater depth wait.
    rows: list[dict[bytes, list[ChunkRow]]] = [{} for _ in range(frames.DEPTH_LIMIT + 1)]
    for stat in backend.list(Family.FRAME.prefix):
        key = parse_key(stat.key)
        header = _header(backend, stat.key)
        if key is None or header is None:
            skipped.append(stat.key)
            continue
        rows[header.depth][bytes.fromhex(key.hex)] = rows_of(header.chunks)
        frame_count += 1
        chunk_count += len(header.chunks)
        if len(rows[0]) == _REBUILD_BATCH:
            index.add(rows[0])
            rows[0] = {}
        if progress is not None:
            progress(stat.size_bytes)
    for of_depth in rows:
        index.add(of_depth)
    return frame_count, chunk_count, skipped


def _header(backend: BlobBackend, key: str) -> frames.Header | None:
    try:
        head = backend.get_range(key, 0, frames.HEADER_LIMIT_BYTES)
        return frames.decode_header(head, key)
    except (IntegrityError, InvalidInputError):
        return None


def _sha256_aliases(backend: BlobBackend, reader: Reader) -> tuple[dict[Digest, Digest], list[str]]:
    aliases: dict[Digest, Digest] = {}
    unreadable: list[str] = []
    for stat in backend.list(Family.RECIPE.prefix):
        key = parse_key(stat.key)
        try:
            if key is not None:
                aliases[reader.recipe(key.digest).sha256] = key.digest
                continue
        except IntegrityError:
            pass
        unreadable.append(stat.key)
    return aliases, unreadable
