"""Which frames a batch may rely on: those that were read, with all their parents, and are right.

Invariants (normative text: ``docs/formats/store.md`` §The index):
    * A frame counts as sound only after its bytes matched its name in this batch, or it
      was written by it, and so its parents; a block whose parent is damaged is a damaged block.
    * Each frame is read once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.store.backends.base import BlobBackend
from stemma.store.frames import DEPTH_LIMIT, decode_header
from stemma.store.hashing import blake3_raw
from stemma.store.index import ChunkIndex
from stemma.store.keys import frame_key


@final
class Soundness:
    """Looks at frames and remembers what it saw.

    Attributes:
        damaged: Frames that exist and may not be relied on.
    """

    def __init__(self, backend: BlobBackend, index: ChunkIndex) -> None:
        """Start with nothing seen."""
        self._backend = backend
        self._index = index
        self._depths: dict[bytes, int] = {}
        self._gone: set[bytes] = set()
        self.damaged: set[bytes] = set()

    def is_sound(self, frame: bytes) -> bool:
        """Return whether a frame that was looked at may be relied on."""
        return frame in self._depths

    def trust(self, frames: Iterable[bytes]) -> None:
        """Take frames without parents for sound that this batch wrote itself."""
        for frame in frames:
            self._depths[frame] = 0

    def mended(self, frames: Iterable[bytes]) -> None:
        """Forget that frames were damaged: the right bytes took their place."""
        self.damaged.difference_update(frames)

    def look_at(self, frames: Iterable[bytes]) -> set[bytes]:
        """Look at frames; return those, and parents of those, that do not exist."""
        for frame in frames:
            self._look(frame, 0)
        gone, self._gone = self._gone, set()
        return gone

    def _look(self, frame: bytes, steps: int) -> int | None:
        """Return how long the chain from a frame is; ``None`` when that is not sound."""
        if frame in self._depths or frame in self.damaged:
            return self._depths.get(frame)
        try:
            data = self._backend.get(frame_key(frame))
        except NotFoundError:
            self._gone.add(frame)
            return None
        depth = self._depth(frame, data, steps) if blake3_raw(data) == frame else None
        if depth is None:
            self.damaged.add(frame)
        else:
            self._depths[frame] = depth
        return depth

    def _depth(self, frame: bytes, data: bytes, steps: int) -> int | None:
        try:
            link = decode_header(data, frame_key(frame)).parent
        except IntegrityError:
            return None
        if link is None:
            return 0
        location = self._index.find([link.chunk.digest]).get(link.chunk.digest)
        if location is None or steps == DEPTH_LIMIT:
            return None
        depth = self._look(location.frame, steps + 1)
        return None if depth is None or depth >= DEPTH_LIMIT else depth + 1
