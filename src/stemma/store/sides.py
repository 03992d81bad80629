"""The two ends of a copy: blobs, and what says where their chunks rest.

A side is our own store with its index, or a remote, where nobody but files answers
(``stemma.store.remote_index``).  It copies nothing; see ``stemma.store.transfer``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, final

from stemma.domain.digest import Digest
from stemma.store import frames
from stemma.store.backends.base import BlobBackend
from stemma.store.index import ChunkIndex, rows_of
from stemma.store.keys import frame_key
from stemma.store.reading import Reader
from stemma.store.remote_index import FrameFacts, facts_of, read_header


class FrameFinder(Protocol):
    """Says where chunks rest on one side, and learns of new frames."""

    def find(self, chunks: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the frame of every given chunk that is known."""
        ...

    def facts(self, names: Collection[bytes]) -> dict[bytes, FrameFacts]:
        """Return what copying must know of frames that ``find`` named."""
        ...

    def forget(self, names: Collection[bytes]) -> None:
        """Drop what is known of frames that are gone or damaged."""
        ...

    def note(self, headers: Mapping[bytes, bytes]) -> None:
        """Take in the headers of frames that are durable now."""
        ...

    def note_files(self, files: Mapping[Digest, Digest]) -> None:
        """Take in which file (blake3) a sha256 names."""
        ...

    def flush(self) -> None:
        """Make durable what was noted."""
        ...


@final
class LocalFrames:
    """The frames of a store with an index."""

    def __init__(self, backend: BlobBackend, index: ChunkIndex) -> None:
        """Stand on a backend and its index."""
        self._backend = backend
        self._index = index

    def find(self, chunks: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the frame of every given chunk that is indexed."""
        return {chunk: location.frame for chunk, location in self._index.find(chunks).items()}

    def facts(self, names: Collection[bytes]) -> dict[bytes, FrameFacts]:
        """Return what copying must know of frames, from their headers."""
        return {name: facts_of(read_header(self._backend, name)) for name in names}

    def forget(self, names: Collection[bytes]) -> None:
        """Drop the rows of these frames."""
        self._index.drop_frames(names)

    def note(self, headers: Mapping[bytes, bytes]) -> None:
        """Index frames that are durable now."""
        self._index.add(
            {
                name: rows_of(frames.decode_header(head, frame_key(name)).chunks)
                for name, head in headers.items()
            }
        )

    def note_files(self, files: Mapping[Digest, Digest]) -> None:
        """Index which file a sha256 names."""
        self._index.add_aliases(files)

    def flush(self) -> None:
        """Do nothing: every note is durable at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two stores.

    Attributes:
        name: What messages call it.
        backend: Its blobs.
        frames: Where its chunks are.
        reader: Decodes frames with the parents that are here; only on our own side.
    """

    name: str
    backend: BlobBackend
    frames: FrameFinder
    reader: Reader | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is our own side, where reading is cheap."""
        return self.reader is not None
