"""Storing files: one batch cuts, groups and writes, with few fsyncs and bounded memory.

Invariants (normative text: ``docs/formats/store.md`` §Order of writing):
    * Frames durable → index rows → alias rows → recipes durable: a file shows only when
      everything that leads to it is there.
    * A frame that a batch relies on is read and hashed when it is first relied on: what rests
      in a damaged one is stored anew, so what is acknowledged can be given back.
    * A batch holds at most some 40 MiB of file bytes, however large the files.
    * A file that changes while it is read is refused, and no recipe names what was read.

This module does not read anything back; see ``stemma.store.reading``.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, final

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from stemma.domain.tree import TreeEntry
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.local import translated_os_errors
from stemma.store.frames import (
    BODY_LIMIT_BYTES,
    CHUNK_LIMIT,
    HEADER_LIMIT_BYTES,
    Chunk,
    Readable,
    cut,
    decode_header,
    encode_frame,
    pack_chunks,
)
from stemma.store.hashing import blake3_raw, new_hasher
from stemma.store.index import ChunkIndex, ChunkRow, rows_of
from stemma.store.keys import frame_key, recipe_key
from stemma.store.recipes import Recipe, decode_recipe, encode_recipe

Progress = Callable[[int], None]
"""Called with the number of bytes read since the last call."""

_FLUSH_BYTES: Final = 32 << 20
_FLUSH_RECIPES: Final = 4096
_WINDOW_CHUNKS: Final = 128
_CLOCK_TICK_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file that the store holds.

    Attributes:
        digest: blake3 of its bytes.
        sha256: sha256 of its bytes.
        size_bytes: Its size.
        new_bytes: How many of its bytes were not in the store before (uncompressed).
    """

    digest: Digest
    sha256: Digest
    size_bytes: int
    new_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTree:
    """A tree that the store holds.

    Attributes:
        digest: blake3 of its canonical bytes.
        size_bytes: Sum of its files' sizes.
        file_count: Number of entries, links too.
        new_bytes: How many of its files' bytes were not in the store before (uncompressed).
        entries: Its entries, sorted by path.
        files: What was stored for each path that is not a link; empty for ``put_tree_from``.
    """

    digest: Digest
    size_bytes: int
    file_count: int
    new_bytes: int
    entries: tuple[TreeEntry, ...]
    files: dict[str, StoredFile] = field(default_factory=dict)


@final
class _HashingReader:
    """Passes a stream on while hashing and counting it."""

    def __init__(self, stream: Readable, progress: Progress | None) -> None:
        self._stream = stream
        self._progress = progress
        self._blake3 = new_hasher(Algorithm.BLAKE3)
        self._sha256 = new_hasher(Algorithm.SHA256)
        self.size_bytes = 0

    def read(self, size_bytes: int, /) -> bytes:
        """Return up to that many bytes; none at the end."""
        block = self._stream.read(size_bytes)
        self._blake3.update(block)
        self._sha256.update(block)
        self.size_bytes += len(block)
        if self._progress is not None and block:
            self._progress(len(block))
        return block

    @property
    def digest(self) -> Digest:
        """The blake3 of what was read."""
        return Digest.blake3(self._blake3.hexdigest())

    @property
    def sha256(self) -> Digest:
        """The sha256 of what was read."""
        return Digest.sha256(self._sha256.hexdigest())


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
        self._sound_frames: set[bytes] = set()
        self._damaged_frames: set[bytes] = set()
        self._frames: dict[bytes, bytes] = {}
        self._rows: dict[bytes, list[ChunkRow]] = {}
        self._frame_bytes = 0
        self._recipes: dict[Digest, Recipe] = {}

    def add_stream(self, stream: Readable, progress: Progress | None = None) -> StoredFile:
        """Take in everything that is left in a stream."""
        recipe, new_bytes = self._read(stream, progress)
        return self._keep(recipe, new_bytes)

    def add_path(self, path: Path, progress: Progress | None = None) -> StoredFile:
        """Take in a file, which must not be a link.

        Raises:
            NotFoundError: If it does not exist (``file-not-found``).
            InvalidInputError: If it is not a regular file (``not-a-file``).
            ConflictError: If it changes while it is read (``file-changed``).
        """
        with translated_os_errors(f"read {path}", is_write=False):
            handle = _open(path)
        with os.fdopen(handle, "rb", buffering=0) as stream:
            before = _settled(handle)
            recipe, new_bytes = self._read(_Source(stream, path), progress)
            _refuse_change(path, before, os.fstat(handle), recipe.size_bytes)
        return self._keep(recipe, new_bytes)

    def _keep(self, recipe: Recipe, new_bytes: int) -> StoredFile:
        self._recipes[recipe.digest] = recipe
        if len(self._recipes) >= _FLUSH_RECIPES:
            self.flush()
        return StoredFile(
            digest=recipe.digest,
            sha256=recipe.sha256,
            size_bytes=recipe.size_bytes,
            new_bytes=new_bytes,
        )

    def _read(self, stream: Readable, progress: Progress | None) -> tuple[Recipe, int]:
        reader = _HashingReader(stream, progress)
        table = bytearray()
        new_bytes = 0
        chunks = cut(reader)
        while window := list(islice(chunks, _WINDOW_CHUNKS)):
            known = self._known([digest for digest, _ in window])
            for digest, data in window:
                if digest not in known and digest not in self._pending:
                    self._append(digest, data)
                    new_bytes += len(data)
            table += pack_chunks([Chunk(digest, len(data)) for digest, data in window])
        recipe = Recipe(
            digest=reader.digest,
            sha256=reader.sha256,
            size_bytes=reader.size_bytes,
            table=bytes(table),
        )
        return recipe, new_bytes

    def _known(self, digests: list[bytes]) -> set[bytes]:
        """Return the chunks that need not be stored: indexed, in a frame that is sound.

        Rows of a frame that somebody removed are dropped, so that the chunk is stored anew.
        """
        found = self._index.find(digests)
        frames = {location.frame for location in found.values()}
        gone = {name for name in self._unseen(frames) if not self._look_at(name)}
        if gone:
            self._index.drop_frames(gone)
        return {
            digest for digest, location in found.items() if location.frame in self._sound_frames
        }

    def _unseen(self, frames: set[bytes]) -> set[bytes]:
        return frames - self._sound_frames - self._damaged_frames

    def _look_at(self, frame: bytes) -> bool:
        """Read a frame and note whether it is sound; return whether it exists."""
        try:
            data = self._backend.get(frame_key(frame))
        except NotFoundError:
            return False
        seen = self._sound_frames if blake3_raw(data) == frame else self._damaged_frames
        seen.add(frame)
        return True

    def _append(self, digest: bytes, data: bytes) -> None:
        is_full = len(self._open_body) + len(data) > BODY_LIMIT_BYTES
        if is_full or len(self._open_chunks) == CHUNK_LIMIT:
            self._seal()
            if self._frame_bytes >= _FLUSH_BYTES:
                self._flush_frames()
        self._open_chunks.append(Chunk(digest, len(data)))
        self._open_body += data
        self._pending.add(digest)

    def _seal(self) -> None:
        if not self._open_chunks:
            return
        frame = encode_frame(self._open_chunks, bytes(self._open_body))
        name = blake3_raw(frame)
        self._frames[name] = frame
        self._rows[name] = rows_of(self._open_chunks)
        self._frame_bytes += len(frame)
        self._open_chunks = []
        self._open_body = bytearray()

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
        self._damaged_frames.discard(name)

    def _index_frames(self) -> None:
        """Index what was written; rows that lead into damaged frames give way to it."""
        kept = {name: self._rows_in(name) for name in self._damaged_frames}
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


@final
class _Source:
    """A file whose read errors are translated."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path

    def read(self, size_bytes: int, /) -> bytes:
        """Return up to that many bytes; none at the end."""
        with translated_os_errors(f"read {self._path}", is_write=False):
            return self._stream.read(size_bytes)


def _open(path: Path) -> int:
    # O_NONBLOCK: a named pipe must be refused, not waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"no file {path}", code="file-not-found", hint="check the path"
        ) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _changed(path, "became a link") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InvalidInputError(f"{path} is not a file", code="not-a-file", hint="name a file")
    return handle


def _changed(path: Path, how: str) -> ConflictError:
    return ConflictError(
        f"{path} {how} while it was captured",
        code="file-changed",
        hint="wait until nothing writes to it, and run the command again",
    )


def _settled(handle: int) -> os.stat_result:
    """Return the file's facts, late enough for any later write to show in them.

    Clocks of file systems tick every few milliseconds: a write in the same tick as
    the last one would leave the modification time as it is.
    """
    facts = os.fstat(handle)
    age_seconds = time.time() - facts.st_mtime
    if 0 <= age_seconds < _CLOCK_TICK_SECONDS:
        time.sleep(_CLOCK_TICK_SECONDS)
        facts = os.fstat(handle)
    return facts


def _refuse_change(
    path: Path, before: os.stat_result, after: os.stat_result, size_bytes: int
) -> None:
    try:
        named = path.lstat()
    except OSError as error:
        raise _changed(path, "vanished") from error

    def facts(status: os.stat_result) -> tuple[int, int, int, int]:
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    if not facts(before) == facts(after) == facts(named) or size_bytes != after.st_size:
        raise _changed(path, "changed")
