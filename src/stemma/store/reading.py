"""Reading files back: recipes, frames and chunks, each verified before it is passed on.

Invariants:
    * A chunk is checked against its digest, and the file against its blake3 before its
      last chunk is delivered.  A parent is checked before a block is made from it.
    * A chunk that the index does not know is an error that names the way out, never a
      short file.
    * Chains of parents are followed for two steps; a longer one, or a circle, is an error.
    * Frames are read ahead by a few threads; chunks come in order all the same, and no thread
      outlives the reading of its file.
    * Memory holds some frames, bounded in bytes, however large the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Final, NamedTuple, final

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.store.backends.base import BlobBackend
from stemma.store.codecs.base import Parent
from stemma.store.frame_cache import Body, FrameCache
from stemma.store.frames import (
    DEPTH_LIMIT,
    HEADER_LIMIT_BYTES,
    Chunk,
    Header,
    Link,
    decode_frame,
    decode_header,
)
from stemma.store.hashing import blake3_raw, new_hasher
from stemma.store.index import ChunkIndex, ChunkLocation
from stemma.store.keys import frame_key, recipe_key
from stemma.store.pipeline import Lane, worker_threads
from stemma.store.recipes import Recipe, decode_recipe

_CACHED_BYTES: Final = 128 << 20
"""A base model of 100 MB stays while its fine-tunes are read one after another."""

_WINDOW_CHUNKS: Final = 256
_AHEAD_BYTES: Final = 32 << 20

NOT_HERE_HINT: Final = "stemma doctor   (or stemma pull, when a remote has it)"
"""Helps where contents are missing: a version may have been pulled without them."""


class StoredChunk(NamedTuple):
    """A chunk's verified bytes, and the frame they came from.

    ``depth`` counts the steps over parents that reading it took.
    """

    data: bytes
    header: Header
    depth: int


class _Run(NamedTuple):
    """Chunks of one file that rest in one frame, with where the index says they are."""

    owner: str
    places: list[tuple[Chunk, ChunkLocation | None]]

    @property
    def size_bytes(self) -> int:
        return sum(chunk.size_bytes for chunk, _ in self.places)


@final
class Reader:
    """Reads verified files; safe to use from several threads."""

    def __init__(
        self,
        backend: BlobBackend,
        index: ChunkIndex,
        *,
        cached_bytes: int = _CACHED_BYTES,
        threads: int | None = None,
        ahead_bytes: int = _AHEAD_BYTES,
    ) -> None:
        """Start with an empty cache of frames.

        Args:
            backend: Where the bytes rest.
            index: Where chunks are found.
            cached_bytes: How much of what was read is kept.
            threads: How many read ahead in a file; as many as pay if not given, 0 for none.
            ahead_bytes: How much of a file waits to be taken.
        """
        self._ahead_bytes = ahead_bytes
        self._threads = worker_threads() if threads is None else threads
        self._backend = backend
        self._index = index
        self._cache = FrameCache(cached_bytes)

    def recipe(self, digest: Digest) -> Recipe:
        """Return a file's recipe.

        Raises:
            NotFoundError: If the file is not stored (``file-not-stored``).
            IntegrityError: If the recipe is damaged.
        """
        try:
            data = self._backend.get(recipe_key(digest))
        except NotFoundError as error:
            raise NotFoundError(
                f"the store holds no file {digest}", code="file-not-stored", hint=NOT_HERE_HINT
            ) from error
        return decode_recipe(data, digest)

    def recipe_of(self, digest: Digest) -> Recipe:
        """Return the recipe of the file that a blake3, or an alias of it, names.

        Raises:
            NotFoundError: If the file is not stored, or the alias not known (``file-not-stored``).
            IntegrityError: If the recipe is damaged, or the alias names another file.
        """
        file = self.resolve(digest)
        recipe = self.recipe(file)
        if digest.algorithm is Algorithm.SHA256 and recipe.sha256 != digest:
            raise _wrong_alias(digest, file)
        return recipe

    def resolve(self, digest: Digest) -> Digest:
        """Return the blake3 that an alias names, as the index says; a blake3 names itself.

        Raises:
            NotFoundError: If the alias is not known (``file-not-stored``).
        """
        if digest.algorithm is Algorithm.BLAKE3:
            return digest
        found = self._index.find_alias(digest)
        if found is None:
            raise NotFoundError(
                f"the store knows no file {digest}",
                code="file-not-stored",
                hint="stemma doctor --rebuild",
            )
        return found

    def stream(self, digest: Digest) -> Iterator[bytes]:
        """Yield a file's bytes, chunk by chunk; the last one only if the whole is right.

        Raises:
            NotFoundError: If the file is not stored (``file-not-stored``).
            IntegrityError: If anything stored is missing or damaged.
        """
        recipe = self.recipe_of(digest)
        hasher = new_hasher(Algorithm.BLAKE3)
        # The recipe vouches for the sha256; nothing but the bytes vouches for an md5.
        md5 = new_hasher(Algorithm.MD5) if digest.algorithm is Algorithm.MD5 else None
        held = b""
        for data in self.pieces(recipe, 0, recipe.chunk_count, is_passing=True):
            if held:
                yield held
            hasher.update(data)
            if md5 is not None:
                md5.update(data)
            held = data
        if hasher.hexdigest() != recipe.digest.hex:
            raise IntegrityError(
                f"the recipe of {recipe.digest} makes another file",
                code="recipe-damaged",
                hint="stemma doctor",
            )
        if md5 is not None and md5.hexdigest() != digest.hex:
            raise _wrong_alias(digest, recipe.digest)
        if held:
            yield held

    def pieces(
        self, recipe: Recipe, start: int, stop: int, *, is_passing: bool = False
    ) -> Iterator[bytes]:
        """Yield some of a file's chunks, each verified.

        Args:
            recipe: The file.
            start: Number of the first chunk.
            stop: Number after the last one.
            is_passing: Whether nobody will ask for parts of these chunks again soon: then
                they leave the cache to small files, and to what others are differences to.
        """
        if stop - start == 1:
            # Many small files are read one by one: no thread could help.
            (run,) = self._runs(recipe, start, stop)
            yield from self._read_run(run, is_passing=is_passing)
            return
        lane: Lane[list[bytes]] = Lane(threads=self._threads, limit_bytes=self._ahead_bytes)
        try:
            for run in self._runs(recipe, start, stop):
                lane.put(partial(self._read_run, run, is_passing=is_passing), run.size_bytes)
                while lane.is_full:
                    yield from lane.take()
            while lane:
                yield from lane.take()
        finally:
            lane.close()

    def _runs(self, recipe: Recipe, start: int, stop: int) -> Iterator[_Run]:
        """Yield chunks together that follow one another in a file and rest in one frame."""
        owner = f"file {recipe.digest}"
        for first in range(start, stop, _WINDOW_CHUNKS):
            window = recipe.between(first, min(first + _WINDOW_CHUNKS, stop))
            found = self._find([chunk.digest for chunk in window])
            places = [(chunk, found.get(chunk.digest)) for chunk in window]
            for _, members in groupby(places, key=lambda place: place[1] and place[1].frame):
                yield _Run(owner, list(members))

    def _read_run(self, run: _Run, *, is_passing: bool) -> list[bytes]:
        first, location = run.places[0]
        if location is None:
            raise _not_indexed(first.digest, run.owner)
        body = self._body(location.frame, 0, passing_bytes=run.size_bytes if is_passing else 0)
        return [
            self._checked(run.owner, chunk, place, body) for chunk, place in run.places if place
        ]

    def header(self, digest: bytes) -> Header:
        """Return the header of the frame that a chunk rests in.

        Raises:
            IntegrityError: If the chunk is not indexed, or the frame missing or damaged.
        """
        location = self._find([digest]).get(digest)
        if location is None:
            raise _not_indexed(digest, "the store")
        body = self._cache.peek(location.frame)
        return self._header(location.frame) if body is None else body.header

    def chunk(self, digest: bytes, size_bytes: int) -> StoredChunk:
        """Return one chunk, verified.

        Raises:
            IntegrityError: If it is missing or damaged.
        """
        chunk = Chunk(digest, size_bytes)
        return self._chunk("the store", chunk, self._find([digest]).get(digest), steps=0)

    def stored_share(self, frame: bytes, size_bytes: int) -> int:
        """Return how many stored bytes so many bytes of a frame's body take.

        Raises:
            IntegrityError: If the frame is missing or its header damaged.
        """
        header = self._header(frame)
        return header.stored_bytes * size_bytes // max(header.body_bytes, 1)

    def _header(self, frame: bytes) -> Header:
        key = frame_key(frame)
        try:
            return decode_header(self._backend.get_range(key, 0, HEADER_LIMIT_BYTES), key)
        except NotFoundError as error:
            raise _missing(key) from error

    def decode(self, frame: bytes, data: bytes) -> tuple[Header, bytes]:
        """Return header and body of a frame from its stored bytes; chunks are not checked yet.

        Raises:
            IntegrityError: If it is not sound, or its parent cannot be had.
        """
        body = self._decode(frame, data, 0)
        return body.header, body.data

    def _find(self, digests: list[bytes]) -> dict[bytes, ChunkLocation]:
        found = self._cache.locate(digests)
        distant = [digest for digest in digests if digest not in found]
        return found | self._index.find(distant) if distant else found

    def _chunk(
        self, owner: str, chunk: Chunk, location: ChunkLocation | None, *, steps: int
    ) -> StoredChunk:
        if location is None:
            raise _not_indexed(chunk.digest, owner)
        body = self._body(location.frame, steps)
        return StoredChunk(self._checked(owner, chunk, location, body), body.header, body.depth)

    def _checked(self, owner: str, chunk: Chunk, location: ChunkLocation, body: Body) -> bytes:
        data = body.data[location.offset : location.offset + location.size_bytes]
        if len(data) != chunk.size_bytes or blake3_raw(data) != chunk.digest:
            self._cache.forget(location.frame)
            raise IntegrityError(
                f"chunk {chunk.digest.hex()} of {owner} in {frame_key(location.frame)} is damaged",
                code="chunk-damaged",
                hint="stemma doctor",
            )
        return data

    def _body(self, frame: bytes, steps: int, *, passing_bytes: int = 0) -> Body:
        body = self._cache.get(frame)
        if body is not None:
            return body
        key = frame_key(frame)
        try:
            data = self._backend.get(key)
        except NotFoundError as error:
            raise _missing(key) from error
        body = self._decode(frame, data, steps)
        # What passes whole, or is a difference, will not be asked for again soon.
        is_whole = body.header.block is None and passing_bytes >= len(body.data)
        if not passing_bytes or not (is_whole or body.depth):
            self._cache.keep(frame, body)
        return body

    def _decode(self, frame: bytes, data: bytes, steps: int) -> Body:
        """Decode a frame that stands so many steps up a chain."""
        depth = 0

        def parent_of(link: Link) -> Parent:
            nonlocal depth
            found = self._parent(frame, link, steps + 1)
            depth = found.depth + 1
            return Parent(data=found.data, dtype=link.dtype)

        header, body = decode_frame(data, frame_key(frame), parent_of)
        return Body(header, body, depth)

    def _parent(self, child: bytes, link: Link, steps: int) -> StoredChunk:
        """Return the parent of a block; whatever is wrong with it, the error names both."""
        digest = link.chunk.digest
        try:
            if steps > DEPTH_LIMIT:
                raise _too_deep(digest)
            location = self._find([digest]).get(digest)
            found = self._chunk(frame_key(child), link.chunk, location, steps=steps)
            if found.depth >= DEPTH_LIMIT:
                raise _too_deep(digest)
        except IntegrityError as error:
            raise IntegrityError(
                f"{frame_key(child)} cannot be read without its parent {digest.hex()}:"
                f" {error.message}",
                code="parent-unreadable",
                hint=error.hint,
            ) from error
        return found


def _missing(key: str) -> IntegrityError:
    return IntegrityError(
        f"the index names {key}, which does not exist",
        code="frame-missing",
        hint="stemma doctor --rebuild",
    )


def _not_indexed(digest: bytes, owner: str) -> IntegrityError:
    return IntegrityError(
        f"the index does not know chunk {digest.hex()} of {owner}",
        code="chunk-not-indexed",
        hint="stemma doctor --rebuild",
    )


def _too_deep(digest: bytes) -> IntegrityError:
    return IntegrityError(
        f"chunk {digest.hex()} is more than {DEPTH_LIMIT} parents away from one without parent",
        code="chain-too-long",
        hint="stemma doctor --rebuild",
    )


def _wrong_alias(digest: Digest, file: Digest) -> IntegrityError:
    return IntegrityError(
        f"the index says that {digest} is {file}, which is another file",
        code="alias-wrong",
        hint="stemma doctor --rebuild",
    )
