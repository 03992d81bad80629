"""``verify``: read everything that is stored and say what is not as it was written.

Invariants:
    * Every blob is read whole and hashed; any single flipped bit and any renamed blob is found.
    * Every file is put together again and compared with its blake3 and sha256: so each file
      that a damaged parent harms is named.
    * Nothing is changed.

Run it under the store's lock: a writer at work has frames that are not indexed yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import IntegrityError, StemmaError
from stemma.store import frames, recipes, trees
from stemma.store.backends.base import BlobStat, PackingBackend
from stemma.store.hashing import blake3_raw, new_hasher
from stemma.store.keys import Family, ObjectKey, parse_key
from stemma.store.objects import ObjectStore, Progress
from stemma.store.reading import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something stored that is not as it was written.

    Attributes:
        kind: Stable machine name: ``frame-damaged``, ``recipe-damaged``, ``tree-damaged``,
            ``record-damaged``, ``missing-chunk``, ``missing-file``, ``index-missing``,
            ``index-wrong``, ``unknown-key``, ``parent-unreadable``, ``pack-damaged``, or the
            code of an error met while reading.
        key: The blob concerned.
        detail: What is wrong, in words.
    """

    kind: str
    key: str
    detail: str


def verify(store: ObjectStore, progress: Progress | None = None) -> list[Problem]:
    """Read and check everything; an empty list means all is as it was written.

    Args:
        store: The store to check.
        progress: Called with the number of stored bytes checked since the last call.
    """
    return _Verification(store).run(progress)


@final
class _Verification:
    """One pass over the keys in order: frames, recipes, records, trees."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        # One that remembers nothing from before: what it cached may have rotted since.
        self._reader = Reader(store.backend, store.index)
        self._problems: list[Problem] = []
        self._chunks: set[bytes] = set()
        self._unindexed: set[bytes] = set()
        self._files: dict[Digest, int] = {}
        self._steps: dict[Family, Callable[[str, ObjectKey], None]] = {
            Family.FRAME: self._check_frame,
            Family.RECIPE: self._check_recipe,
            Family.RECORD: self._check_record,
            Family.TREE: self._check_tree,
        }

    def run(self, progress: Progress | None) -> list[Problem]:
        """Check every blob."""
        for stat in self._store.backend.list():
            self._check(stat)
            if progress is not None:
                progress(stat.size_bytes)
        if isinstance(self._store.backend, PackingBackend):
            for damage in self._store.backend.damages():
                self._report(damage.kind, damage.key, damage.detail)
        return self._problems

    def _report(self, kind: str, key: str, detail: str) -> None:
        self._problems.append(Problem(kind=kind, key=key, detail=detail))

    def _check(self, stat: BlobStat) -> None:
        name = parse_key(stat.key)
        if name is None:
            self._report("unknown-key", stat.key, "not an object of this store")
            return
        try:
            self._steps[name.family](stat.key, name)
        except StemmaError as error:
            self._report(error.code, stat.key, error.message)

    def _check_frame(self, key: str, object_key: ObjectKey) -> None:
        name = bytes.fromhex(object_key.hex)
        data = self._store.backend.get(key)
        if blake3_raw(data) != name:
            self._report("frame-damaged", key, "its bytes do not match its name")
            return
        try:
            header, body = self._reader.decode(name, data)
        except IntegrityError as error:
            if error.code != "parent-unreadable":
                raise
            # The frame is as it was written.  Whether the missing parent harms anything is
            # told by the files that need it; what a crash left may have lost its parent.
            header, body = frames.decode_header(data, key), None
        locations = self._store.index.find([chunk.digest for chunk in header.chunks])
        offset = 0
        for digest, size_bytes in header.chunks:
            if body is not None and blake3_raw(body[offset : offset + size_bytes]) != digest:
                self._report("frame-damaged", key, f"chunk {digest.hex()} has other bytes")
            self._chunks.add(digest)
            location = locations.get(digest)
            if location is None:
                self._unindexed.add(digest)
            elif location.frame == name and (location.offset, location.size_bytes) != (
                offset,
                size_bytes,
            ):
                self._report("index-wrong", key, f"chunk {digest.hex()} is indexed elsewhere")
            offset += size_bytes

    def _check_recipe(self, key: str, object_key: ObjectKey) -> None:
        digest = object_key.digest
        recipe = recipes.decode_recipe(self._store.backend.get(key), digest)
        self._files[digest] = recipe.size_bytes
        missing = [chunk for chunk in recipe.chunks if chunk.digest not in self._chunks]
        if missing:
            first = missing[0].digest.hex()
            rest = "1 chunk rests" if len(missing) == 1 else f"{len(missing)} chunks rest"
            self._report("missing-chunk", key, f"{rest} nowhere, first {first}")
            return
        # A frame that a crash left unindexed is harmless until a file needs it.
        unindexed = sum(chunk.digest in self._unindexed for chunk in recipe.chunks)
        if unindexed:
            self._report(
                "index-missing", key, f"{unindexed} of its {len(recipe.chunks)} chunks not indexed"
            )
            return
        hasher = new_hasher(Algorithm.SHA256)
        for data in self._reader.stream(digest):
            hasher.update(data)
        if hasher.hexdigest() != recipe.sha256.hex:
            self._report("recipe-damaged", key, "the file has another sha256 than it says")
        if self._store.index.find_alias(recipe.sha256) != digest:
            self._report("index-missing", key, f"the alias {recipe.sha256} is not indexed")

    def _check_tree(self, key: str, object_key: ObjectKey) -> None:
        digest = object_key.digest
        tree = trees.verified_tree(self._store.backend.get(key), digest)
        for entry in tree.entries:
            if entry.digest is None:
                continue
            size_bytes = self._files.get(entry.digest)
            if size_bytes is None:
                self._report("missing-file", key, f"no recipe of {entry.path!r}, {entry.digest}")
            elif size_bytes != entry.size_bytes:
                self._report("tree-damaged", key, f"{entry.path!r} has another size")

    def _check_record(self, _key: str, object_key: ObjectKey) -> None:
        self._store.read_record(object_key.kind, object_key.digest)
