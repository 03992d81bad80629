"""Storing files: one batch cuts, groups and writes, with few fsyncs and bounded memory.

Invariants (normative text: ``docs/formats/store.md`` §Order of writing):
    * Frames durable → index rows → alias rows → recipes durable: a file shows only when
      everything that leads to it is there.
    * A frame that a batch relies on is read and hashed when it is first relied on, and so are
      its parents: what rests in a damaged one is stored anew, without a parent, so what is
      acknowledged can be given back.
    * A batch holds at most some 100 MiB, however large the files: frames on their way, earlier
      blocks that new ones are compared with, and what is being cut.
    * A file that changes while it is read is refused, and no recipe names what was read.

This module does not read files back; see ``stemma.store.reading``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, final

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.domain.tree import TreeEntry
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.local import translated_os_errors
from stemma.store.codecs.blocks import encode_block
from stemma.store.cutting import BlockPlace, Piece, Readable, cut_by
from stemma.store.formats.partition import FileRange, Partition, partition
from stemma.store.frames import (
    BODY_LIMIT_BYTES,
    CHUNK_LIMIT,
    HEADER_LIMIT_BYTES,
    Chunk,
    decode_header,
    encode_block_frame,
    encode_frame,
    known_dtype,
    pack_chunks,
)
from stemma.store.hashing import blake3_raw
from stemma.store.index import ChunkIndex, ChunkRow, rows_of
from stemma.store.keys import frame_key, recipe_key
from stemma.store.lineage import Lineage
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

__all__ = ["Batch", "Progress", "StoredFile", "StoredTree"]

_FLUSH_BYTES: Final = 32 << 20
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
        warning: Why a file that looked like a known format is stored as plain bytes; empty when
            nothing was wrong.
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

    def __init__(self, backend: BlobBackend, index: ChunkIndex) -> None:
        """Start with nothing pending."""
        self._backend = backend
        self._index = index
        self._open_chunks: list[Chunk] = []
        self._open_body = bytearray()
        self._pending: set[bytes] = set()
        self._soundness = Soundness(backend, index)
        # A reader of its own: what it holds was read and checked in this batch.
        self._lineage = Lineage(Reader(backend, index, cached_bytes=_PARENTS_BYTES))
        self._frames: dict[bytes, bytes] = {}
        self._rows: dict[bytes, list[ChunkRow]] = {}
        self._frame_bytes = 0
        self._recipes: dict[Digest, Recipe] = {}

    def add_stream(self, stream: Readable, progress: Progress | None = None) -> StoredFile:
        """Take in everything that is left in a stream, as plain bytes."""
        recipe, new_bytes = self._read(stream, progress, (), ())
        return self._keep(recipe, new_bytes, "")

    def add_path(
        self, path: Path, progress: Progress | None = None, *, parents: Sequence[Digest] = ()
    ) -> StoredFile:
        """Take in a file, which must not be a link.

        Args:
            path: The file.
            progress: Called with the number of bytes read since the last call.
            parents: Stored files that it may be another version of, the likeliest first.

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
            recipe, new_bytes = self._read(Source(stream, path), progress, found.ranges, parents)
            refuse_change(path, before, os.fstat(handle), recipe.size_bytes)
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
        parents: Sequence[Digest],
    ) -> tuple[Recipe, int]:
        reader = HashingReader(stream, progress)
        table = bytearray()
        new_bytes = 0
        for window in _windows(cut_by(ranges, reader)):
            known = self._known([piece.digest for piece in window])
            for digest, data, place in window:
                if digest in known.sound or digest in self._pending:
                    continue
                new_bytes += len(data)
                if place is None:
                    self._append(digest, data)
                else:
                    # Blocks may rely on one that is stored anew: it must not rely on others.
                    relatives = () if digest in known.indexed else parents
                    self._append_block(Chunk(digest, len(data)), data, place, relatives)
            table += pack_chunks([Chunk(piece.digest, len(piece.data)) for piece in window])
        recipe = Recipe(
            digest=reader.digest,
            sha256=reader.sha256,
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

    def _append(self, digest: bytes, data: bytes) -> None:
        is_full = len(self._open_body) + len(data) > BODY_LIMIT_BYTES
        if is_full or len(self._open_chunks) == CHUNK_LIMIT:
            self._seal()
        self._open_chunks.append(Chunk(digest, len(data)))
        self._open_body += data
        self._pending.add(digest)

    def _append_block(
        self, chunk: Chunk, data: bytes, place: BlockPlace, parents: Sequence[Digest]
    ) -> None:
        """Encode a tensor block into a frame of its own, against an earlier one if that pays."""
        candidates = self._lineage.candidates(place, len(data), parents)
        dtype = known_dtype(place.tensor.dtype)
        encoded, number = encode_block(data, dtype, [found.parent for found in candidates])
        link = candidates[number].link if number >= 0 else None
        self._pending.add(chunk.digest)
        self._keep_frame(encode_block_frame(chunk, encoded, dtype, link), [chunk])

    def _seal(self) -> None:
        if not self._open_chunks:
            return
        chunks, body = self._open_chunks, bytes(self._open_body)
        self._open_chunks = []
        self._open_body = bytearray()
        self._keep_frame(encode_frame(chunks, body), chunks)

    def _keep_frame(self, frame: bytes, chunks: Sequence[Chunk]) -> None:
        name = blake3_raw(frame)
        self._frames[name] = frame
        self._rows[name] = rows_of(chunks)
        self._frame_bytes += len(frame)
        if self._frame_bytes >= _FLUSH_BYTES:
            self._flush_frames()

    def _flush_frames(self) -> None:
        """Make sealed frames durable, then index them; chunks of the open frame stay pending."""
        blobs = {frame_key(name): frame for name, frame in self._frames.items()}
        created = self._backend.put_many(blobs)
        for name, frame in self._frames.items():
            key = frame_key(name)
            if key not in created and blake3_raw(self._backend.get(key)) != name:
                self._mend(name, frame)
        self._index_frames()
        self._pending = {chunk.digest for chunk in self._open_chunks}
        self._frames = {}
        self._rows = {}
        self._frame_bytes = 0

    def _mend(self, name: bytes, frame: bytes) -> None:
        """Put the bytes that a frame's name promises in the place of damaged ones."""
        key = frame_key(name)
        self._backend.delete(key)
        # Another writer may be first; then its bytes must be right.
        if not self._backend.put(key, frame) and blake3_raw(self._backend.get(key)) != name:
            raise IntegrityError(
                f"damaged frame {key}: its bytes do not match its name",
                code="frame-damaged",
                hint="stemma doctor",
            )
        self._soundness.damaged.discard(name)

    def _index_frames(self) -> None:
        """Index what was written; rows that lead into damaged frames give way to it."""
        kept = {name: self._rows_in(name) for name in self._soundness.damaged}
        self._index.drop_frames(kept)
        self._index.add(self._rows)
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

    def flush(self) -> None:
        """Make everything taken in so far durable, in the order of the invariants."""
        self._seal()
        self._flush_frames()
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


def _partition(stream: BinaryIO, size_bytes: int, path: Path) -> Partition:
    """Look for tensors in a file and leave its stream at the start."""
    buffered = io.BufferedReader(stream)  # type: ignore[type-var]
    with translated_os_errors(f"read {path}", is_write=False):
        try:
            return partition(buffered, size_bytes, name=path.name)
        finally:
            buffered.detach().seek(0)
