"""Frames that were decoded a moment ago, and where their chunks are.

Invariants:
    * What is kept is bounded in bytes; what was asked for longest ago goes first.
    * It says where a chunk is only while the chunk's frame is kept.

Safe to use from several threads.  It reads nothing; see ``stemma.store.reading``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple, final

from stemma.store.frames import Header
from stemma.store.index import ChunkLocation, rows_of


class Body(NamedTuple):
    """A decoded frame; ``depth`` counts the steps over parents that it took."""

    header: Header
    data: bytes
    depth: int


@final
class FrameCache:
    """Keeps decoded frames by raw digest."""

    def __init__(self, limit_bytes: int) -> None:
        """Start empty."""
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._bodies: OrderedDict[bytes, Body] = OrderedDict()
        # Files stored together are read together, and asking the index for each of many
        # small files would cost more than reading.
        self._nearby: dict[bytes, ChunkLocation] = {}
        self._guard = Lock()

    def locate(self, digests: Iterable[bytes]) -> dict[bytes, ChunkLocation]:
        """Return where those of the chunks are that rest in frames kept here."""
        with self._guard:
            return {digest: self._nearby[digest] for digest in digests if digest in self._nearby}

    def get(self, frame: bytes) -> Body | None:
        """Return a frame if it is kept, which counts as asking for it."""
        with self._guard:
            body = self._bodies.get(frame)
            if body is not None:
                self._bodies.move_to_end(frame)
            return body

    def peek(self, frame: bytes) -> Body | None:
        """Return a frame if it is kept; that changes nothing."""
        with self._guard:
            return self._bodies.get(frame)

    def keep(self, frame: bytes, body: Body) -> None:
        """Keep a frame, and let others go for it."""
        with self._guard:
            if frame not in self._bodies:
                self._size_bytes += len(body.data)
            self._bodies[frame] = body
            for row in rows_of(body.header.chunks):
                self._nearby[row.digest] = ChunkLocation(frame, row.offset, row.size_bytes)
            while self._size_bytes > self._limit_bytes and len(self._bodies) > 1:
                self._drop(next(iter(self._bodies)))

    def forget(self, frame: bytes) -> None:
        """Drop a frame, for it may be mended meanwhile."""
        with self._guard:
            self._drop(frame)

    def _drop(self, frame: bytes) -> None:
        body = self._bodies.pop(frame, None)
        if body is None:
            return
        self._size_bytes -= len(body.data)
        for chunk in body.header.chunks:
            location = self._nearby.get(chunk.digest)
            if location is not None and location.frame == frame:
                del self._nearby[chunk.digest]
