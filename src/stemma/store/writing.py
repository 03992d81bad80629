"""Frames on their way into a store: grouped, encoded by threads, written and then indexed.

Invariants (normative text: ``docs/formats/store.md`` §Order of writing):
    * Frames are durable before they are indexed, one set after the other.
    * What is written does not depend on how many threads there are.
    * A bounded number of bytes is on its way, however large the files.
    * After ``flush`` and ``pause`` no thread is left.  What could not be encoded or written
      stays, so the next call meets the error again and nothing is acknowledged without it.

This module does not look for what the store holds already; the batch does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, final

from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.store.backends.base import BlobBackend
from stemma.store.frames import (
    BODY_LIMIT_BYTES,
    CHUNK_LIMIT,
    HEADER_LIMIT_BYTES,
    Chunk,
    decode_header,
    encode_frame,
)
from stemma.store.hashing import blake3_raw
from stemma.store.index import ChunkIndex, ChunkRow, rows_of
from stemma.store.keys import frame_key
from stemma.store.pipeline import Lane
from stemma.store.soundness import Soundness

_FLUSH_BYTES: Final = 32 << 20
_ENCODING_BYTES: Final = 32 << 20


class _Frame(NamedTuple):
    """A frame's name, its stored bytes, and the chunks inside."""

    name: bytes
    data: bytes
    chunks: Sequence[Chunk]


class _Written(NamedTuple):
    """Frames that are durable and indexed, and those that took the place of damaged ones."""

    frames: Mapping[bytes, _Frame]
    mended: frozenset[bytes]


@final
class FrameWriter:
    """Writes chunks; none counts as stored before ``flush`` returns."""

    def __init__(
        self, backend: BlobBackend, index: ChunkIndex, soundness: Soundness, *, threads: int
    ) -> None:
        """Start with nothing on its way; with 0 threads the caller does everything."""
        self._backend = backend
        self._index = index
        self._soundness = soundness
        self._pending: set[bytes] = set()
        self._open_chunks: list[Chunk] = []
        self._open_parts: list[bytes] = []
        self._open_bytes = 0
        self._encoding: Lane[_Frame] = Lane(threads=threads, limit_bytes=_ENCODING_BYTES)
        self._frames: dict[bytes, _Frame] = {}
        self._frame_bytes = 0
        self._writing: Lane[_Written] = Lane(threads=min(threads, 1), limit_bytes=0)

    def __contains__(self, digest: bytes) -> bool:
        """Return whether a chunk is on its way."""
        return digest in self._pending

    def add(self, chunk: Chunk, data: bytes) -> None:
        """Take a chunk that shares a frame with others."""
        is_full = self._open_bytes + len(data) > BODY_LIMIT_BYTES
        if is_full or len(self._open_chunks) == CHUNK_LIMIT:
            self._seal()
        self._open_chunks.append(chunk)
        self._open_parts.append(data)
        self._open_bytes += len(data)
        self._pending.add(chunk.digest)

    def add_block(self, chunk: Chunk, encode: Callable[[], bytes]) -> None:
        """Take a chunk with a frame of its own, which ``encode`` returns; a thread calls it."""
        self._pending.add(chunk.digest)
        self._encode([chunk], encode, chunk.size_bytes)

    def flush(self) -> None:
        """Make everything taken in so far durable and indexed, and end the threads."""
        self._seal()
        self.settle()
        self.pause()

    def settle(self) -> None:
        """Make every frame so far durable and indexed, but the one that chunks are added to."""
        while self._encoding:
            self._take_encoded()
        self._await_written()
        self._write()
        self._await_written()

    def pause(self) -> None:
        """Wait for what is under way and end the threads; nothing taken in is lost."""
        self._encoding.pause()
        self._writing.pause()

    def _seal(self) -> None:
        if not self._open_chunks:
            return
        chunks, parts, size_bytes = self._open_chunks, self._open_parts, self._open_bytes
        self._open_chunks, self._open_parts, self._open_bytes = [], [], 0
        self._encode(chunks, lambda: encode_frame(chunks, b"".join(parts)), size_bytes)

    def _encode(
        self, chunks: Sequence[Chunk], encode: Callable[[], bytes], size_bytes: int
    ) -> None:
        self._encoding.put(partial(_encoded, chunks, encode), size_bytes)
        while self._encoding.is_full:
            self._take_encoded()

    def _take_encoded(self) -> None:
        frame = self._encoding.take()
        self._frames[frame.name] = frame
        self._frame_bytes += len(frame.data)
        if self._frame_bytes >= _FLUSH_BYTES:
            self._await_written()
            self._write()
            self._writing.start()

    def _write(self) -> None:
        """Put what is encoded in line to be stored."""
        if not self._frames:
            return
        frames, self._frames, self._frame_bytes = self._frames, {}, 0
        damaged = frozenset(self._soundness.damaged)
        self._writing.put(partial(self._store, frames, damaged), 0)
        if damaged:
            # Rows of damaged frames go and come back: nobody may look in between.
            self._await_written()

    def _await_written(self) -> None:
        while self._writing:
            written = self._writing.take()
            for frame in written.frames.values():
                self._pending.difference_update(chunk.digest for chunk in frame.chunks)
            self._soundness.mended(written.mended)
            self._soundness.trust(
                name
                for name, frame in written.frames.items()
                if decode_header(frame.data, frame_key(name)).parent is None
            )

    def _store(self, frames: Mapping[bytes, _Frame], damaged: frozenset[bytes]) -> _Written:
        """Make frames durable, then index them."""
        created = self._backend.put_many(
            {frame_key(name): frame.data for name, frame in frames.items()}
        )
        mended = frozenset(
            name
            for name, frame in frames.items()
            if frame_key(name) not in created and self._mend(frame)
        )
        self._add_rows(frames, damaged - mended)
        return _Written(frames, mended)

    def _mend(self, frame: _Frame) -> bool:
        """Put the bytes that a frame's name promises in the place of damaged ones, if they are."""
        key = frame_key(frame.name)
        if blake3_raw(self._backend.get(key)) == frame.name:
            return False
        self._backend.delete(key)
        # Another writer may be first; then its bytes must be right.
        is_written = self._backend.put(key, frame.data)
        if not is_written and blake3_raw(self._backend.get(key)) != frame.name:
            raise IntegrityError(
                f"damaged frame {key}: its bytes do not match its name",
                code="frame-damaged",
                hint="stemma doctor",
            )
        return True

    def _add_rows(self, frames: Mapping[bytes, _Frame], damaged: frozenset[bytes]) -> None:
        """Index what was written; rows that lead into damaged frames give way to it."""
        kept = {name: self._rows_in(name) for name in damaged}
        self._index.drop_frames(kept)
        self._index.add({name: rows_of(frame.chunks) for name, frame in frames.items()})
        # A chunk keeps its first row: these come back only where nothing took their place.
        self._index.add(kept)

    def _rows_in(self, frame: bytes) -> list[ChunkRow]:
        """Return the rows of a damaged frame; none when its header cannot be read."""
        key = frame_key(frame)
        try:
            header = decode_header(self._backend.get_range(key, 0, HEADER_LIMIT_BYTES), key)
        except (IntegrityError, NotFoundError):
            return []
        return rows_of(header.chunks)


def _encoded(chunks: Sequence[Chunk], encode: Callable[[], bytes]) -> _Frame:
    data = encode()
    return _Frame(blake3_raw(data), data, chunks)
