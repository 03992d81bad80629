"""The ``ChunkIndex`` Protocol: where a chunk rests, and which file another digest names.

Invariants:
    * The index is only an index: ``ObjectStore.rebuild_index`` makes it again from the blobs.
    * A row exists only while its frame does: it is added after the frame is durable and
      dropped before the frame is deleted.  A row without frame would make a later write
      believe that its bytes are stored.

Chunk and frame digests are raw 32-byte blake3 values here, for there are many of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, final, runtime_checkable

import msgspec

from stemma.domain.digest import Digest


class ChunkLocation(msgspec.Struct, frozen=True, gc=False):
    """Where a chunk rests.

    Attributes:
        frame: Raw 32-byte blake3 of the frame's stored bytes.
        offset: Where the chunk starts in the frame's decompressed body.
        size_bytes: The chunk's size.
    """

    frame: bytes
    offset: int
    size_bytes: int


class ChunkRow(msgspec.Struct, frozen=True, gc=False):
    """A chunk inside a frame that is being indexed.

    Attributes:
        digest: Raw 32-byte blake3 of the chunk's bytes.
        offset: Where it starts in the frame's decompressed body.
        size_bytes: Its size.
    """

    digest: bytes
    offset: int
    size_bytes: int


def rows_of(chunks: Iterable[tuple[bytes, int]]) -> list[ChunkRow]:
    """Return the rows of a frame from its chunks' digests and sizes, in order."""
    rows: list[ChunkRow] = []
    offset = 0
    for digest, size_bytes in chunks:
        rows.append(ChunkRow(digest, offset, size_bytes))
        offset += size_bytes
    return rows


@runtime_checkable
class ChunkIndex(Protocol):
    """Finds chunks and aliases; implementations are safe to call from several threads."""

    def find(self, digests: Iterable[bytes]) -> dict[bytes, ChunkLocation]:
        """Return the location of every given chunk that is indexed; others are left out.

        Any number of digests may be given, repeated ones too.
        """
        ...

    def add(
        self, frames: Mapping[bytes, Sequence[ChunkRow]], *, instead_of: Iterable[bytes] = ()
    ) -> None:
        """Index frames, durably and all or none: frame digest → the chunks it holds.

        A chunk that is already indexed keeps its row; adding a frame twice changes nothing.

        Args:
            frames: Rows by frame.
            instead_of: Frames whose rows are forgotten in the same step, before.
        """
        ...

    def drop_frames(self, frames: Iterable[bytes]) -> None:
        """Forget every row of these frames, durably; unknown frames are ignored."""
        ...

    def add_aliases(self, aliases: Mapping[Digest, Digest]) -> None:
        """Let each key (a sha256 or md5 of a file) name the blake3 of the same file, durably.

        An alias that exists is replaced.
        """
        ...

    def find_alias(self, digest: Digest) -> Digest | None:
        """Return the blake3 of the file that this sha256 or md5 names, if known."""
        ...

    def drop_aliases(self, files: Iterable[Digest]) -> None:
        """Forget every alias of these files (given by blake3), durably."""
        ...

    def clear(self) -> None:
        """Forget everything: chunks and aliases."""
        ...


@final
class MemoryChunkIndex:
    """A ``ChunkIndex`` in dictionaries."""

    def __init__(self) -> None:
        """Start empty."""
        self._locations: dict[bytes, ChunkLocation] = {}
        self._aliases: dict[Digest, Digest] = {}

    def find(self, digests: Iterable[bytes]) -> dict[bytes, ChunkLocation]:
        """Return the location of every given chunk that is indexed."""
        return {digest: self._locations[digest] for digest in digests if digest in self._locations}

    def add(
        self, frames: Mapping[bytes, Sequence[ChunkRow]], *, instead_of: Iterable[bytes] = ()
    ) -> None:
        """Index frames; a chunk that is already indexed keeps its row."""
        self.drop_frames(instead_of)
        for frame, rows in frames.items():
            for row in rows:
                self._locations.setdefault(
                    row.digest, ChunkLocation(frame, row.offset, row.size_bytes)
                )

    def drop_frames(self, frames: Iterable[bytes]) -> None:
        """Forget every row of these frames."""
        dropped = set(frames)
        self._locations = {
            digest: location
            for digest, location in self._locations.items()
            if location.frame not in dropped
        }

    def add_aliases(self, aliases: Mapping[Digest, Digest]) -> None:
        """Let each key name the blake3 of the same file."""
        self._aliases.update(aliases)

    def find_alias(self, digest: Digest) -> Digest | None:
        """Return the blake3 of the file that this digest names, if known."""
        return self._aliases.get(digest)

    def drop_aliases(self, files: Iterable[Digest]) -> None:
        """Forget every alias of these files."""
        dropped = set(files)
        self._aliases = {
            alias: file for alias, file in self._aliases.items() if file not in dropped
        }

    def clear(self) -> None:
        """Forget everything."""
        self._locations.clear()
        self._aliases.clear()
