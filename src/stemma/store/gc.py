"""Garbage collection: what roots reach, and moving the rest to the trash in a safe order.

Invariants (normative text: ``docs/formats/store.md`` §Garbage collection):
    * Nothing that a root reaches is removed; what is younger than the grace period is a root.
    * When something on the way cannot be read, nothing at all is removed.
    * Order: records, trees, recipes → alias and index rows → frames; each step durable
      before the next, so a crash leaves only objects that nothing names.
    * A frame goes only when none of its chunks is in a live file, nor the parent of a block
      that stays, over as many steps as it takes.

The caller holds the store's lock exclusively and says what the roots are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple, final

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import IntegrityError, InvalidInputError, StemmaError
from stemma.store import frames
from stemma.store.backends.base import BlobStat, PackingBackend
from stemma.store.keys import Family, ObjectKey, blob_key, parse_key, recipe_key
from stemma.store.objects import ObjectStore
from stemma.store.recipes import Recipe, decode_recipe
from stemma.store.trash import TrashHolding, trash_of

_REASONS: Final = {
    Family.RECORD: "record that no root reaches",
    Family.TREE: "tree that no root reaches",
    Family.RECIPE: "file that no root reaches",
    Family.FRAME: "no live chunk inside",
}
"""Why an object goes, in the order in which families are removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A blob that was, or would be, removed.

    Attributes:
        key: Its key.
        size_bytes: Its stored size.
        reason: Why, in words.
    """

    key: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What a collection did, or would do.

    Attributes:
        kept: How many blobs stay.
        removed: What went, in order of removal.
        freed_bytes: Sum of the removed blobs' stored sizes; while they rest in the trash,
            they still take their room.
        is_final: Whether they are gone for good, without going to the trash.
        expired: What the trash no longer holds because its time was over.
        trash: What the trash holds now.
        forgotten: What had named objects until its time was over, such as deleted runs, with
            the size of what it named.
    """

    kept: int
    removed: tuple[Removal, ...]
    freed_bytes: int
    is_final: bool = False
    expired: TrashHolding = field(default_factory=TrashHolding)
    trash: TrashHolding = field(default_factory=TrashHolding)
    forgotten: tuple[Removal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """What roots reach.

    Attributes:
        keys: Keys of records, trees and recipes.
        chunks: Raw digests of the chunks of every reached file; parents of blocks are not
            among them, for frames name those.
    """

    keys: frozenset[ObjectKey]
    chunks: frozenset[bytes]


class _FrameFacts(NamedTuple):
    """What decides over a frame: its chunks, the parent it names, how deep it stands."""

    chunks: tuple[bytes, ...]
    parent: bytes | None
    depth: int


def reachable(store: ObjectStore, roots: Iterable[Digest]) -> Reachable:
    """Say what these records, trees and files reach.

    Raises:
        IntegrityError: If a root is not stored (``root-missing``), or something on the
            way is missing or damaged.
    """
    found = (parse_key(stat.key) for stat in store.backend.list())
    walk = _Walk(store, [key for key in found if key is not None])
    for root in roots:
        walk.follow(root, is_required=True)
    return walk.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What a collection found, before it removes anything.

    Attributes:
        found: Every object, as it was listed.
        dead: What goes, by family, in order of removal.
    """

    found: Mapping[ObjectKey, BlobStat]
    dead: Mapping[Family, Sequence[ObjectKey]]

    def report(self) -> GcReport:
        """Say what goes."""
        removed = tuple(
            _removal(self.found[key], reason)
            for family, reason in _REASONS.items()
            for key in self.dead[family]
        )
        return GcReport(
            kept=len(self.found) - len(removed),
            removed=removed,
            freed_bytes=sum(removal.size_bytes for removal in removed),
        )


def find_garbage(
    store: ObjectStore, roots: Iterable[Digest], *, now: datetime, grace_seconds: int
) -> Garbage:
    """Find what neither the roots nor anything younger than the grace period reaches.

    Raises:
        IntegrityError: As for ``reachable``.
    """
    listed = [(parse_key(stat.key), stat) for stat in store.backend.list()]
    objects = {key: stat for key, stat in listed if key is not None}
    old_before = now - timedelta(seconds=grace_seconds)
    young = {key for key, stat in objects.items() if stat.modified_at > old_before}
    walk = _Walk(store, objects)
    for root in roots:
        walk.follow(root, is_required=True)
    for key in sorted(young, key=lambda key: key.hex):
        walk.visit(key)
    live = walk.finish()
    kept = young | live.keys
    dead: dict[Family, list[ObjectKey]] = {
        family: sorted(
            (key for key in objects.keys() - kept if key.family is family),
            key=lambda key: key.hex,
        )
        for family in _REASONS
        if family is not Family.FRAME
    }
    frames_found = {key: stat for key, stat in objects.items() if key.family is Family.FRAME}
    dead[Family.FRAME] = _dead_frames(store, frames_found, young, live.chunks)
    return Garbage(found=objects, dead=dead)


def remove_garbage(
    store: ObjectStore, garbage: Garbage, *, now: datetime, is_final: bool = False
) -> GcReport:
    """Remove what was found: to the store's trash, when it has one and ``is_final`` is false.

    The caller has held the lock since it was found.
    """
    _remove(store, garbage.dead, _way_out(store, now, is_final=is_final))
    return replace(garbage.report(), is_final=is_final or trash_of(store) is None)


def collect(
    store: ObjectStore,
    roots: Iterable[Digest],
    *,
    now: datetime,
    grace_seconds: int,
    is_dry_run: bool,
    is_final: bool = False,
) -> GcReport:
    """Find garbage, and remove it unless this is a dry run.

    Raises:
        IntegrityError: As for ``reachable``; nothing has been removed then.
    """
    garbage = find_garbage(store, roots, now=now, grace_seconds=grace_seconds)
    if is_dry_run:
        return replace(garbage.report(), is_final=is_final or trash_of(store) is None)
    return remove_garbage(store, garbage, now=now, is_final=is_final)


def _way_out(store: ObjectStore, now: datetime, *, is_final: bool) -> Callable[[list[str]], None]:
    """Return what removes blobs: to the trash, or for good."""
    trash = trash_of(store)
    if trash is None or is_final:
        return store.backend.delete_many
    return partial(trash.take, at=now)


def _removal(stat: BlobStat, reason: str) -> Removal:
    return Removal(key=stat.key, size_bytes=stat.size_bytes, reason=reason)


def _remove(
    store: ObjectStore,
    dead: Mapping[Family, Sequence[ObjectKey]],
    take_away: Callable[[list[str]], None],
) -> None:
    """Remove objects in the order of the invariants."""
    take_away([blob_key(key) for key in dead[Family.RECORD]])
    take_away([blob_key(key) for key in dead[Family.TREE]])
    take_away([blob_key(key) for key in dead[Family.RECIPE]])
    store.index.drop_aliases([key.digest for key in dead[Family.RECIPE]])
    store.index.drop_frames([bytes.fromhex(key.hex) for key in dead[Family.FRAME]])
    # Children before parents: what a crash leaves can be read.
    take_away([blob_key(key) for key in dead[Family.FRAME]])
    if isinstance(store.backend, PackingBackend):
        store.backend.tidy()


def _dead_frames(
    store: ObjectStore,
    found: Mapping[ObjectKey, BlobStat],
    young: AbstractSet[ObjectKey],
    chunks: AbstractSet[bytes],
) -> list[ObjectKey]:
    """Return the frames that hold nothing live, those of greater depth first."""
    facts = {key: _facts_of(store, stat.key) for key, stat in found.items()}
    readable = {key: fact for key, fact in facts.items() if fact is not None}
    live = _with_parents(readable, young, chunks)
    if len(readable) < len(facts):
        held = {chunk for fact in readable.values() for chunk in fact.chunks}
        if not live <= held:
            # What is missing may rest in a frame that cannot be read, and any frame may
            # hold the parent of that.
            return []
    dead = [
        (-fact.depth, key)
        for key, fact in readable.items()
        if key not in young and live.isdisjoint(fact.chunks)
    ]
    return [key for _, key in sorted(dead, key=lambda item: (item[0], item[1].hex))]


def _facts_of(store: ObjectStore, key: str) -> _FrameFacts | None:
    """Return what decides over a frame; nothing when its header cannot be read."""
    try:
        head = store.backend.get_range(key, 0, frames.HEADER_LIMIT_BYTES)
        header = frames.decode_header(head, key)
    except StemmaError:
        return None
    link = header.parent
    return _FrameFacts(
        tuple(chunk.digest for chunk in header.chunks),
        None if link is None else link.chunk.digest,
        header.depth,
    )


def _with_parents(
    facts: Mapping[ObjectKey, _FrameFacts],
    young: AbstractSet[ObjectKey],
    chunks: AbstractSet[bytes],
) -> set[bytes]:
    """Return the live chunks: those of files, and every parent of a block that stays."""
    parents: dict[bytes, set[bytes]] = {}
    live = set(chunks)
    waiting: list[bytes] = []
    for key, fact in facts.items():
        if fact.parent is not None:
            parents.setdefault(fact.chunks[0], set()).add(fact.parent)
            if key in young:
                waiting.append(fact.parent)
    waiting += (parent for child in parents.keys() & live for parent in parents[child])
    while waiting:
        chunk = waiting.pop()
        if chunk not in live:
            live.add(chunk)
            waiting += parents.get(chunk, ())
    return live


def _digests_in(value: object) -> Iterator[Digest]:
    """Yield every string inside a JSON value that reads as a digest, names of fields too."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                try:
                    yield Digest.parse(text)
                except InvalidInputError:
                    continue
            case dict() as fields:
                waiting += [*fields.keys(), *fields.values()]
            case list() as items:
                waiting += items
            case _:
                continue


@final
class _Walk:
    """Marks what is reached, from a listing taken before.

    A damaged recipe stops it even when no digest names it: nobody can tell which
    sha256 does.
    """

    def __init__(self, store: ObjectStore, keys: Iterable[ObjectKey]) -> None:
        self._store = store
        self._keys = set(keys)
        self._by_sha256: dict[str, list[ObjectKey]] = {}
        self._reached: set[ObjectKey] = set()
        self._waiting: list[ObjectKey] = []
        self._chunks: set[bytes] = set()
        for key in self._keys:
            if key.family is Family.RECORD:
                self._by_sha256.setdefault(key.hex, []).append(key)
            elif key.family is Family.RECIPE:
                self._note_sha256(key)

    def _recipe(self, key: ObjectKey) -> Recipe:
        return decode_recipe(self._store.backend.get(recipe_key(key.digest)), key.digest)

    def _note_sha256(self, key: ObjectKey) -> None:
        # From the recipes, not from the index: a lost alias row must not cost a file.
        self._by_sha256.setdefault(self._recipe(key).sha256.hex, []).append(key)

    def follow(self, digest: Digest, *, is_required: bool) -> None:
        """Visit everything stored that a digest may name."""
        targets = self._targets(digest)
        if is_required and not targets:
            raise IntegrityError(
                f"{digest} must be kept and is not in the store",
                code="root-missing",
                hint="stemma doctor",
            )
        for key in targets:
            self.visit(key)

    def visit(self, key: ObjectKey) -> None:
        """Mark one object, to be read in turn; frames live by their chunks."""
        if key in self._reached or key.family is Family.FRAME:
            return
        self._reached.add(key)
        self._waiting.append(key)

    def finish(self) -> Reachable:
        """Read what is marked until nothing new is reached."""
        while self._waiting:
            self._expand(self._waiting.pop())
        return Reachable(keys=frozenset(self._reached), chunks=frozenset(self._chunks))

    def _targets(self, digest: Digest) -> list[ObjectKey]:
        match digest.algorithm:
            case Algorithm.BLAKE3:
                named = [
                    ObjectKey(family, "", digest.hex) for family in (Family.TREE, Family.RECIPE)
                ]
                return [key for key in named if key in self._keys]
            case Algorithm.SHA256:
                return self._by_sha256.get(digest.hex, [])
            case Algorithm.MD5:
                found = self._store.index.find_alias(digest)
                return [] if found is None else self._targets(found)

    def _expand(self, key: ObjectKey) -> None:
        match key.family:
            case Family.RECORD:
                for digest in _references(self._store.read_record(key.kind, key.digest)):
                    self.follow(digest, is_required=False)
            case Family.TREE:
                for entry in self._store.read_tree(key.digest).entries:
                    if entry.digest is not None:
                        self.follow(entry.digest, is_required=True)
            case Family.RECIPE:
                self._chunks.update(chunk.digest for chunk in self._recipe(key).chunks)
            case Family.FRAME:
                return


def _references(data: bytes) -> Iterator[Digest]:
    """Yield every digest in a record; one that is not JSON has none."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return
    yield from _digests_in(value)
