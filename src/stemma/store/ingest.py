"""Storing files: one batch cuts them and leaves out what is stored, with bounded memory.

Invariants (normative text: ``docs/formats/store.md`` §Order of writing):
    * Frames durable → index rows → alias rows → recipes durable: a file shows only when
      everything that leads to it is there.
    * A frame that a batch relies on is read and hashed when it is first relied on, and so are
      its parents: what rests in a damaged one is stored anew, without a parent, so what is
      acknowledged can be given back.
    * A batch holds at most some 100 MiB and 30 MiB for each thread, however large the files:
      frames on their way, earlier blocks that new ones are compared with, what is being cut.
    * What is stored does not depend on how many threads there are; none is left by ``flush``
      or by an error.
    * A file that changes while it is read is refused, and no recipe names what was read.

This module does not read files back (see ``stemma.store.reading``) and does not write frames
(see ``stemma.store.writing``).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast, final

from stemma.domain.digest import Digest
from stemma.domain.tree import TreeEntry
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.local import translated_os_errors
from stemma.store.beside import NOTHING, Beside, cut_as_said
from stemma.store.codecs.blocks import encode_block
from stemma.store.cutting import BlockPlace, Piece, Readable, cut_by
from stemma.store.formats.partition import FileRange, Partition, partition
from stemma.store.frames import Chunk, encode_block_frame, known_dtype, pack_chunks
from stemma.store.index import ChunkIndex
from stemma.store.keys import recipe_key
from stemma.store.lineage import NO_RELATIVES, Lineage, Relatives, Sought
from stemma.store.pipeline import worker_threads
from stemma.store.reading import Reader
from stemma.store.recipes import Recipe, decode_recipe, encode_recipe
from stemma.store.soundness import Soundness
from stemma.store.sources import (
    HashingReader,
    Progress,
    Source,
    open_regular,
    refuse_change,
    settled,
)
from stemma.store.writing import FrameWriter

__all__ = ["Batch", "Progress", "StoredFile", "StoredTree"]

_FLUSH_RECIPES: Final = 4096
_WINDOW_CHUNKS: Final = 128
_WINDOW_BYTES: Final = 8 << 20
_PARENTS_BYTES: Final = 24 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file that the store holds.

    Attributes:
        digest: blake3 of its bytes.
        sha256: sha256 of its bytes.
        size_bytes: Its size.
        new_bytes: How many of its bytes were not in the store before (uncompressed).
        warning: Why a file that looked like a known format, or weights that it keeps in another
            file, are stored as plain bytes; empty when nothing was wrong.
    """

    digest: Digest
    sha256: Digest
    size_bytes: int
    new_bytes: int
    warning: str = ""


class _Known(NamedTuple):
    """What the index says of some chunks: which rest in sound frames, which in any."""

    sound: frozenset[bytes]
    indexed: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTree:
    """A tree that the store holds.

    Attributes:
        digest: blake3 of its canonical bytes.
        size_bytes: Sum of its files' sizes.
        file_count: Number of entries, links too.
        new_bytes: How many of its files' bytes were not in the store before (uncompressed).
        entries: Its entries, sorted by path.
        files: What was stored for each file that was read; empty for ``put_tree_from``.
    """

    digest: Digest
    size_bytes: int
    file_count: int
    new_bytes: int
    entries: tuple[TreeEntry, ...]
    files: dict[str, StoredFile] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of files that are not what they look like."""
        return tuple(f"{path}: {file.warning}" for path, file in self.files.items() if file.warning)


@final
class Batch:
    """Stores files; nothing counts as stored before ``flush`` returns."""

    def __init__(
        self, backend: BlobBackend, index: ChunkIndex, *, threads: int | None = None
    ) -> None:
        """Start with nothing pending.

        Args:
            backend: Where the bytes will rest.
            index: Where chunks are found.
            threads: How many work beside the caller; as many as pay if not given, 0 for none.
        """
        self._backend = backend
        self._index = index
        self._threads = worker_threads() if threads is None else threads
        self._soundness = Soundness(backend, index)
        self._writer = FrameWriter(backend, index, self._soundness, threads=self._threads)
        # A reader of its own: what it holds was read and checked in this batch.
        self._lineage = Lineage(Reader(backend, index, cached_bytes=_PARENTS_BYTES, threads=0))
        self._recipes: dict[Digest, Recipe] = {}

    def add_stream(self, stream: Readable, progress: Progress | None = None) -> StoredFile:
        """Take in everything that is left in a stream, as plain bytes."""
        recipe, new_bytes = self._read(stream, progress, (), NO_RELATIVES)
        return self._keep(recipe, new_bytes, "")

    def add_path(
        self,
        path: Path,
        progress: Progress | None = None,
        *,
        parents: Sequence[Digest] = (),
        beside: Beside = NOTHING,
    ) -> StoredFile:
        """Take in a file, which must not be a link.

        Args:
            path: The file.
            progress: Called with the number of bytes read since the last call.
            parents: Stored files that it may be another version of, the likeliest first.
            beside: What the files beside it say of it.

        Raises:
            NotFoundError: If it does not exist (``file-not-found``).
            InvalidInputError: If it is not a regular file (``not-a-file``).
            ConflictError: If it changes while it is read (``file-changed``).
        """
        with translated_os_errors(f"read {path}", is_write=False):
            handle = open_regular(path)
        with os.fdopen(handle, "rb", buffering=0) as stream:
            before = settled(handle)
            found = _partition(stream, before.st_size, path)
            if beside.claims:
                found = cut_as_said(found, beside.claims, before.st_size)
                self._lineage.assume(parents, found.ranges)
            relatives = self._lineage.relatives(found.ranges, parents)
            recipe, new_bytes = self._read(Source(stream, path), progress, found.ranges, relatives)
            refuse_change(path, before, os.fstat(handle), recipe.size_bytes)
        self._lineage.add_companion(recipe, found.ranges)
        return self._keep(recipe, new_bytes, found.warning or beside.warning)

    def add_open(
        self,
        stream: io.RawIOBase,
        size_bytes: int,
        *,
        name: str = "",
        parents: Sequence[Digest] = (),
    ) -> StoredFile:
        """Take in a file that is open and that nobody else writes to.

        Args:
            stream: The file, seekable.
            size_bytes: Its size.
            name: Its name, for formats that have no mark of their own.
            parents: Stored files that it may be another version of, the likeliest first.
        """
        found = _partition(stream, size_bytes, Path(name))
        relatives = self._lineage.relatives(found.ranges, parents)
        readable = cast("BinaryIO", stream)
        recipe, new_bytes = self._read(readable, None, found.ranges, relatives)
        self._lineage.add_companion(recipe, found.ranges)
        return self._keep(recipe, new_bytes, found.warning)

    def _keep(self, recipe: Recipe, new_bytes: int, warning: str) -> StoredFile:
        self._recipes[recipe.digest] = recipe
        if len(self._recipes) >= _FLUSH_RECIPES:
            self.flush()
        return StoredFile(
            digest=recipe.digest,
            sha256=recipe.sha256,
            size_bytes=recipe.size_bytes,
            new_bytes=new_bytes,
            warning=warning,
        )

    def _read(
        self,
        stream: Readable,
        progress: Progress | None,
        ranges: Sequence[FileRange],
        relatives: Relatives,
    ) -> tuple[Recipe, int]:
        try:
            with HashingReader(stream, progress, threads=self._threads) as reader:
                return self._cut(reader, ranges, relatives)
        except BaseException:
            self._writer.pause()
            raise

    def _cut(
        self, reader: HashingReader, ranges: Sequence[FileRange], relatives: Relatives
    ) -> tuple[Recipe, int]:
        table = bytearray()
        new_bytes = 0
        for window in _windows(cut_by(ranges, reader)):
            known = self._known([piece.digest for piece in window])
            for digest, data, place in window:
                if digest in known.sound or digest in self._writer:
                    continue
                new_bytes += len(data)
                chunk = Chunk(digest, len(data))
                if place is None:
                    self._writer.add(chunk, data)
                else:
                    # Blocks may rely on one that is stored anew: it must not rely on others.
                    allowed = NO_RELATIVES if digest in known.indexed else relatives
                    self._append_block(chunk, data, place, allowed)
            table += pack_chunks([Chunk(piece.digest, len(piece.data)) for piece in window])
        blake3, sha256 = reader.digests()
        recipe = Recipe(
            digest=blake3,
            sha256=sha256,
            size_bytes=reader.size_bytes,
            table=bytes(table),
        )
        return recipe, new_bytes

    def _known(self, digests: list[bytes]) -> _Known:
        """Say which chunks need not be stored: indexed, in a frame that is sound.

        Rows of a frame that somebody removed are dropped, so that the chunk is stored anew.
        """
        found = self._index.find(digests)
        gone = self._soundness.look_at({location.frame for location in found.values()})
        if gone:
            self._index.drop_frames(gone)
        sound = {
            digest for digest, location in found.items() if self._soundness.is_sound(location.frame)
        }
        return _Known(frozenset(sound), frozenset(found))

    def _append_block(
        self, chunk: Chunk, data: bytes, place: BlockPlace, relatives: Relatives
    ) -> None:
        """Have a tensor block encoded, against an earlier one if that pays."""
        sought = self._lineage.sought(place, len(data), relatives)
        if any(found.chunk.digest in self._writer for found in sought):
            # A parent's frame and row come before those of its child.
            self._writer.settle()
        dtype = known_dtype(place.tensor.dtype)
        self._writer.add_block(chunk, partial(self._encode_block, chunk, data, dtype, sought))

    def _encode_block(
        self, chunk: Chunk, data: bytes, dtype: str, sought: Sequence[Sought]
    ) -> bytes:
        """Return the frame of a tensor block; several threads call this."""
        candidates = self._lineage.candidates(sought)
        encoded, number = encode_block(data, dtype, [found.parent for found in candidates])
        link = candidates[number].link if number >= 0 else None
        return encode_block_frame(chunk, encoded, dtype, link)

    def flush(self) -> None:
        """Make everything taken in so far durable, in the order of the invariants."""
        try:
            self._writer.flush()
        except BaseException:
            self._writer.pause()
            raise
        self._index.add_aliases({recipe.sha256: recipe.digest for recipe in self._recipes.values()})
        recipes = {recipe_key(recipe.digest): recipe for recipe in self._recipes.values()}
        created = self._backend.put_many(
            {key: encode_recipe(recipe) for key, recipe in recipes.items()}
        )
        for key, recipe in recipes.items():
            if key not in created:
                decode_recipe(self._backend.get(key), recipe.digest)
        self._recipes = {}


def _windows(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Yield pieces together that the index is asked for at once."""
    window: list[Piece] = []
    size_bytes = 0
    for piece in pieces:
        window.append(piece)
        size_bytes += len(piece.data)
        if len(window) == _WINDOW_CHUNKS or size_bytes >= _WINDOW_BYTES:
            yield window
            window, size_bytes = [], 0
    if window:
        yield window


def _partition(stream: BinaryIO | io.RawIOBase, size_bytes: int, path: Path) -> Partition:
    """Look for tensors in a file and leave its stream at the start."""
    buffered = io.BufferedReader(stream)  # type: ignore[type-var]
    with translated_os_errors(f"read {path}", is_write=False):
        try:
            return partition(buffered, size_bytes, name=path.name)
        finally:
            buffered.detach().seek(0)
