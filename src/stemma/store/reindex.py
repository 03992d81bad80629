"""The chunk index, made again from what the blobs themselves say.

Invariants:
    * Frames name their chunks in their headers and recipes their sha256, so nothing but
      the blobs is needed.
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
    skipped: list[str] = []
    frame_count = chunk_count = 0
    rows: dict[bytes, list[ChunkRow]] = {}
    for stat in backend.list(Family.FRAME.prefix):
        key = parse_key(stat.key)
        found = _frame_rows(backend, stat.key)
        if key is None or found is None:
            skipped.append(stat.key)
            continue
        rows[bytes.fromhex(key.hex)] = found
        frame_count += 1
        chunk_count += len(found)
        if len(rows) == _REBUILD_BATCH:
            index.add(rows)
            rows = {}
        if progress is not None:
            progress(stat.size_bytes)
    index.add(rows)
    aliases, unreadable = _sha256_aliases(backend, reader)
    index.add_aliases(aliases)
    return RebuildReport(
        frame_count=frame_count,
        chunk_count=chunk_count,
        file_count=len(aliases),
        skipped=(*skipped, *unreadable),
    )


def _frame_rows(backend: BlobBackend, key: str) -> list[ChunkRow] | None:
    try:
        head = backend.get_range(key, 0, frames.HEADER_LIMIT_BYTES)
        header = frames.decode_header(head, key)
    except (IntegrityError, InvalidInputError):
        return None
    return rows_of(header.chunks)


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
