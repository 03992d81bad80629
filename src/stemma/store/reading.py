"""Reading files back: recipes, frames and chunks, each verified before it is passed on.

Invariants:
    * A chunk is checked against its digest, and the file against its blake3 before its
      last chunk is delivered.
    * A chunk that the index does not know is an error that names the way out, never a
      short file.
    * Memory holds a few frames, however large the file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import Final, final

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import IntegrityError, NotFoundError
from stemma.store.backends.base import BlobBackend
from stemma.store.frames import Chunk, decode_frame
from stemma.store.hashing import blake3_raw, new_hasher
from stemma.store.index import ChunkIndex, ChunkLocation, rows_of
from stemma.store.keys import frame_key, recipe_key
from stemma.store.recipes import Recipe, decode_recipe

_CACHED_FRAMES: Final = 16
_WINDOW_CHUNKS: Final = 256


@final
class Reader:
    """Reads verified files; safe to use from several threads."""

    def __init__(self, backend: BlobBackend, index: ChunkIndex) -> None:
        """Start with an empty cache of frames."""
        self._backend = backend
        self._index = index
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()
        # Where the chunks of cached frames are: files stored together are read together,
        # and asking the index for each of many small files would cost more than reading.
        self._nearby: dict[bytes, ChunkLocation] = {}
        self._guard = Lock()

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
                f"the store holds no file {digest}", code="file-not-stored", hint="stemma doctor"
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
        for data in self._chunks(recipe):
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

    def _chunks(self, recipe: Recipe) -> Iterator[bytes]:
        chunks = recipe.chunks
        for start in range(0, len(chunks), _WINDOW_CHUNKS):
            window = chunks[start : start + _WINDOW_CHUNKS]
            found = self._find([chunk.digest for chunk in window])
            for chunk in window:
                yield self._chunk(recipe, chunk, found.get(chunk.digest))

    def _find(self, digests: list[bytes]) -> dict[bytes, ChunkLocation]:
        with self._guard:
            found = {digest: self._nearby[digest] for digest in digests if digest in self._nearby}
        distant = [digest for digest in digests if digest not in found]
        return found | self._index.find(distant) if distant else found

    def _chunk(self, recipe: Recipe, chunk: Chunk, location: ChunkLocation | None) -> bytes:
        name = chunk.digest.hex()
        if location is None:
            raise IntegrityError(
                f"the index does not know chunk {name} of file {recipe.digest}",
                code="chunk-not-indexed",
                hint="stemma doctor --rebuild",
            )
        body = self._body(location.frame)
        data = body[location.offset : location.offset + location.size_bytes]
        if len(data) != chunk.size_bytes or blake3_raw(data) != chunk.digest:
            self._forget(location.frame)
            raise IntegrityError(
                f"chunk {name} of file {recipe.digest} in {frame_key(location.frame)} is damaged",
                code="chunk-damaged",
                hint="stemma doctor",
            )
        return data

    def _body(self, frame: bytes) -> bytes:
        with self._guard:
            body = self._bodies.get(frame)
            if body is not None:
                self._bodies.move_to_end(frame)
                return body
        key = frame_key(frame)
        try:
            data = self._backend.get(key)
        except NotFoundError as error:
            raise IntegrityError(
                f"the index names {key}, which does not exist",
                code="frame-missing",
                hint="stemma doctor --rebuild",
            ) from error
        header, body = decode_frame(data, key)
        with self._guard:
            self._bodies[frame] = body
            for row in rows_of(header.chunks):
                self._nearby[row.digest] = ChunkLocation(frame, row.offset, row.size_bytes)
            evicted = next(iter(self._bodies)) if len(self._bodies) > _CACHED_FRAMES else None
        if evicted is not None:
            self._forget(evicted)
        return body

    def _forget(self, frame: bytes) -> None:
        """Drop a frame from the cache: it is the oldest, or may be mended meanwhile."""
        with self._guard:
            self._bodies.pop(frame, None)
            self._nearby = {
                digest: location
                for digest, location in self._nearby.items()
                if location.frame != frame
            }


def _wrong_alias(digest: Digest, file: Digest) -> IntegrityError:
    return IntegrityError(
        f"the index says that {digest} is {file}, which is another file",
        code="alias-wrong",
        hint="stemma doctor --rebuild",
    )
