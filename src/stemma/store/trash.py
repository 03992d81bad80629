"""What collection removed: how much it is, bringing it back, and freeing it for good.

Invariants (normative text: ``docs/formats/store.md`` §The trash):
    * Nothing comes back that is not what its name says; what is damaged stays in the trash.
    * Order: frames, those of greater depth last, and their rows → aliases of recipes → recipes
      → trees → records; so whatever is there leads to nothing that is missing.
    * A chunk that rests in several frames then is found in one of the least depth.
    * A return that was killed, or one after a collection that was, ends as if it was not.

The caller holds the store's lock exclusively, except for ``holding``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import StemmaError
from stemma.store import frames
from stemma.store.backends.base import PackingBackend
from stemma.store.backends.trash import Trash, TrashedBlob, TrashingBackend
from stemma.store.checking import checked, damaged, put_sound
from stemma.store.hashing import blake3_raw
from stemma.store.index import rows_of
from stemma.store.keys import Family, ObjectKey, frame_key, parse_key
from stemma.store.objects import ObjectStore
from stemma.store.recipes import Recipe, decode_recipe
from stemma.store.reindex import index_frames

_ORDER: Final = (Family.RECIPE, Family.TREE, Family.RECORD)
_BATCH: Final = 256
_HERE: Final = "the trash"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashHolding:
    """How much rests in the trash.

    Attributes:
        count: How many blobs.
        size_bytes: Their stored size.
        oldest_at: When the oldest went there; ``None`` when there is nothing.
    """

    count: int = 0
    size_bytes: int = 0
    oldest_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What came, or would come, back from the trash.

    Attributes:
        restored: The blobs, in order of writing.
        damaged: Keys of those that are not what they were, and stay in the trash.
        records: Records that came back, by kind and sha256.
    """

    restored: tuple[TrashedBlob, ...]
    damaged: tuple[str, ...]
    records: tuple[tuple[str, Digest], ...]


def trash_of(store: ObjectStore) -> Trash | None:
    """Return the trash of a store; a remote and a store in memory have none."""
    backend = store.backend
    return backend.trash if isinstance(backend, TrashingBackend) else None


def holding(store: ObjectStore) -> TrashHolding:
    """Say how much rests in the trash."""
    trash = trash_of(store)
    return summed([] if trash is None else trash.list())


def empty(store: ObjectStore, *, before: datetime | None, is_dry_run: bool) -> TrashHolding:
    """Free what went to the trash before a moment, or all of it; says what that is."""
    trash = trash_of(store)
    if trash is None:
        return TrashHolding()
    old = [blob for blob in trash.list() if before is None or blob.trashed_at <= before]
    if not is_dry_run:
        trash.remove(old)
        if isinstance(store.backend, PackingBackend):
            store.backend.tidy()
    return summed(old)


def restore(store: ObjectStore, *, since: datetime | None, is_dry_run: bool) -> RestoreReport:
    """Bring back what went to the trash since a moment, or all of it."""
    trash = trash_of(store)
    if trash is None:
        return RestoreReport(restored=(), damaged=(), records=())
    # The trash knows whole seconds.
    since = since and since.replace(microsecond=0)
    # The newest of each key: the one that was in the store last.
    found = {blob.key: blob for blob in trash.list() if since is None or blob.trashed_at >= since}
    levels, broken = _sorted(trash, found)
    if not is_dry_run:
        for blobs in levels:
            _bring_back(store, trash, blobs)
    restored = tuple(blob for blobs in levels for blob in blobs)
    named = (parse_key(blob.key) for blob in restored)
    return RestoreReport(
        restored=restored,
        damaged=tuple(broken),
        records=tuple(
            (key.kind, key.digest) for key in named if key and key.family is Family.RECORD
        ),
    )


def summed(blobs: Iterable[TrashedBlob]) -> TrashHolding:
    """Count blobs of a trash."""
    found = list(blobs)
    return TrashHolding(
        count=len(found),
        size_bytes=sum(blob.size_bytes for blob in found),
        oldest_at=min((blob.trashed_at for blob in found), default=None),
    )


def _sorted(
    trash: Trash, found: Mapping[str, TrashedBlob]
) -> tuple[list[list[TrashedBlob]], list[str]]:
    """Return the sound blobs in order of writing, and the keys of the others."""
    depths = frames.DEPTH_LIMIT + 1
    levels: list[list[TrashedBlob]] = [[] for _ in range(depths + len(_ORDER))]
    broken: list[str] = []
    for key, blob in sorted(found.items()):
        name = parse_key(key)
        try:
            if name is None:
                raise damaged(key, _HERE)
            if name.family is Family.FRAME:
                level = _frame_header(key, name, trash.read(blob)).depth
            else:
                checked(key, trash.read(blob), _HERE, None)
                level = depths + _ORDER.index(name.family)
        except StemmaError:
            broken.append(key)
        else:
            levels[level].append(blob)
    return levels, broken


def _frame_header(key: str, name: ObjectKey, data: bytes) -> frames.Header:
    """Check a frame's bytes; its parent may come later, so nothing is decoded."""
    if blake3_raw(data) != bytes.fromhex(name.hex):
        raise damaged(key, _HERE)
    return frames.decode_header(data, key)


def _bring_back(store: ObjectStore, trash: Trash, blobs: list[TrashedBlob]) -> None:
    """Bring back blobs of one level, and make the rows that find them."""
    _index_lost(store, trash, blobs)
    for start in range(0, len(blobs), _BATCH):
        batch = blobs[start : start + _BATCH]
        _index_files(store, trash, batch)  # first: a file shows as soon as its recipe is there
        for blob in batch:
            if store.backend.exists(blob.key):
                put_sound(store.backend, {blob.key: trash.read(blob)}, _HERE)
        trash.give_back(batch)
        _index_frames(store, batch)


def _recipes(trash: Trash, blobs: Iterable[TrashedBlob]) -> Iterator[Recipe]:
    for blob in blobs:
        name = parse_key(blob.key)
        if name is not None and name.family is Family.RECIPE:
            yield decode_recipe(trash.read(blob), name.digest)


def _index_lost(store: ObjectStore, trash: Trash, blobs: Iterable[TrashedBlob]) -> None:
    """Index all frames if these files need one that is there and that no row names.

    A collection, or an earlier return, that was killed leaves such frames.
    """
    for recipe in _recipes(trash, blobs):
        chunks = {chunk.digest for chunk in recipe.chunks}
        if len(store.index.find(chunks)) < len(chunks):
            index_frames(store.backend, store.index)
            return


def _index_files(store: ObjectStore, trash: Trash, batch: Iterable[TrashedBlob]) -> None:
    aliases = {recipe.sha256: recipe.digest for recipe in _recipes(trash, batch)}
    if aliases:
        store.index.add_aliases(aliases)


def _index_frames(store: ObjectStore, batch: Iterable[TrashedBlob]) -> None:
    headers: dict[bytes, frames.Header] = {}
    for blob in batch:
        name = parse_key(blob.key)
        if name is not None and name.family is Family.FRAME:
            data = store.backend.get_range(blob.key, 0, frames.HEADER_LIMIT_BYTES)
            headers[bytes.fromhex(name.hex)] = frames.decode_header(data, blob.key)
    if headers:
        store.index.add(
            {frame: rows_of(header.chunks) for frame, header in headers.items()},
            instead_of=_deeper(store, headers),
        )


def _deeper(store: ObjectStore, headers: Mapping[bytes, frames.Header]) -> set[bytes]:
    """Return frames that hold, at greater depth, chunks which these frames hold too.

    A frame that has a parent holds one block, so no other chunk loses its row.
    """
    depths = {chunk.digest: header.depth for header in headers.values() for chunk in header.chunks}
    deeper: set[bytes] = set()
    for chunk, location in store.index.find(depths).items():
        if location.frame in headers:
            continue
        key = frame_key(location.frame)
        try:
            data = store.backend.get_range(key, 0, frames.HEADER_LIMIT_BYTES)
            depth = frames.decode_header(data, key).depth
        except StemmaError:
            depth = frames.DEPTH_LIMIT + 1
        if depth > depths[chunk]:
            deeper.add(location.frame)
    return deeper


def restore_needed(store: ObjectStore, keys: Collection[str], chunks: Collection[bytes]) -> int:
    """Bring back these objects, and frames that hold these chunks or parents of such frames.

    Returns how many blobs came back.
    """
    trash = trash_of(store)
    if trash is None:
        return 0
    found = {blob.key: blob for blob in trash.list()}
    needed = {key: blob for key, blob in found.items() if key in keys}
    headers = _headers(trash, found)
    wanted = set(chunks)
    waiting = True
    while waiting:
        holding_them = {
            key
            for key, header in headers.items()
            if key not in needed and not wanted.isdisjoint(chunk.digest for chunk in header.chunks)
        }
        needed.update((key, found[key]) for key in holding_them)
        links = (headers[key].parent for key in holding_them)
        parents = {link.chunk.digest for link in links if link is not None}
        waiting = not parents <= wanted
        wanted |= parents
    levels, _ = _sorted(trash, needed)
    for blobs in levels:
        _bring_back(store, trash, blobs)
    return sum(map(len, levels))


def _headers(trash: Trash, found: Mapping[str, TrashedBlob]) -> dict[str, frames.Header]:
    """Return the headers of the frames that can be read."""
    headers: dict[str, frames.Header] = {}
    for key, blob in found.items():
        name = parse_key(key)
        if name is not None and name.family is Family.FRAME:
            with suppress(StemmaError):
                headers[key] = frames.decode_header(trash.read(blob), key)
    return headers
