"""Mending what is damaged or missing from copies elsewhere: the trash, remotes, files.

Invariants:
    * A copy is checked before it replaces anything, and a damaged object gives way only to
      bytes that are what its name says.
    * What cannot be mended stays as it was; whether all is well is told by ``verify``, and
      only by it.
    * Nothing that any file still reads from a damaged frame is lost with that frame.

The caller holds the store's lock: shared to mend, exclusively for ``set_aside``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, NotFoundError, StemmaError
from stemma.domain.tree import EntryKind, Tree, TreeEntry, encode_tree
from stemma.store import trees
from stemma.store.checking import checked_record, put_sound
from stemma.store.hashing import hash_bytes, hash_file
from stemma.store.keys import Family, frame_key, parse_key, recipe_key, tree_key
from stemma.store.objects import ObjectStore
from stemma.store.reading import Reader
from stemma.store.recipes import Recipe, decode_recipe
from stemma.store.remote_index import read_header
from stemma.store.sides import Side
from stemma.store.transfer import Content, Transfer
from stemma.store.trash import restore_needed, trash_of


class Harmed(NamedTuple):
    """Something that must be mended: a record by its key, or a tree or file by its digest."""

    digest: Digest
    record_key: str = ""


def is_whole(store: ObjectStore, item: Harmed) -> bool:
    """Whether it can be read whole again; of a tree, whether its files are stored."""
    try:
        if item.record_key:
            return hash_bytes(store.backend.get(item.record_key), item.digest.algorithm) == (
                item.digest
            )
        if store.has_tree(item.digest):
            entries = store.read_tree(item.digest).entries
            return all(entry.digest is None or store.has(entry.digest) for entry in entries)
        for _ in Reader(store.backend, store.index).stream(item.digest):
            pass
    except (IntegrityError, NotFoundError):
        return False
    return True


def with_files(store: ObjectStore, items: Iterable[Harmed]) -> list[Harmed]:
    """Return the items, and the files of readable trees among them that are not stored."""
    found = dict.fromkeys(items)
    for item in list(found):
        for entry in _entries(store, item):
            if entry.digest is not None and not store.has(entry.digest):
                found.setdefault(Harmed(entry.digest))
    return list(found)


def from_trash(store: ObjectStore, items: Collection[Harmed]) -> None:
    """Bring back from the trash what the items need; the caller holds the lock exclusively."""
    keys = {item.record_key for item in items if item.record_key}
    for item in items:
        if not item.record_key:
            keys |= {tree_key(item.digest), recipe_key(item.digest)}
    restore_needed(store, keys, ())
    # Only now can be read which files a tree, and which chunks a file, needs.
    files = with_files(store, items)
    restore_needed(store, {recipe_key(item.digest) for item in files if not item.record_key}, ())
    chunks, frames = _reach(store, {chunk for item in files for chunk in _chunks(store, item)})
    damaged = {frame_key(frame) for frame in frames if not _is_frame_sound(store, frame)}
    restore_needed(store, damaged, chunks - store.index.find(chunks).keys())


def from_remote(here: Side, there: Side, items: Collection[Harmed]) -> None:
    """Copy from a remote what the items need.

    Raises:
        UnavailableError: If the remote does not answer.
        DeniedError: If it does not let us in.
    """
    for item in items:
        if item.record_key:
            with suppress(IntegrityError, NotFoundError):
                data = checked_record(there.backend, item.record_key, there.name)
                put_sound(here.backend, {item.record_key: data}, here.name)
    contents = [Content(item.digest, is_required=True) for item in items if not item.record_key]
    try:
        _copy(here, there, contents)
    except (IntegrityError, NotFoundError):
        # One that the remote lacks must not keep the others from being mended.
        for content in contents:
            with suppress(IntegrityError, NotFoundError):
                _copy(here, there, [content])


def _copy(here: Side, there: Side, contents: Sequence[Content]) -> None:
    transfer = Transfer(there, here, is_repair=True)
    transfer.copy(transfer.plan(contents), lambda _bytes: None)


def from_folder(store: ObjectStore, folder: Path, names: Sequence[str], tree: Digest) -> bool:
    """Store the tree of a folder, with its files, if it is the one that is harmed."""
    try:
        if hash_bytes(encode_tree(_tree_of(folder, names))) != tree:
            return False
        key = tree_key(tree)
        if store.backend.exists(key) and hash_bytes(store.backend.get(key)) != tree:
            store.backend.delete(key)
        for name in names:
            if not (folder / name).is_symlink():
                from_file(store, folder / name, hash_file(folder / name))
        store.put_tree(folder, names)
    except (StemmaError, OSError):
        return False
    return True


def from_file(store: ObjectStore, path: Path, digest: Digest) -> bool:
    """Store a file whose digest was found to be that of a harmed one; whether it is whole now."""
    item = Harmed(digest)
    if is_whole(store, item):
        return True
    key = recipe_key(digest)
    try:
        if store.backend.exists(key) and not _recipe(store, digest):
            store.backend.delete(key)
        if store.put_file(path).digest == digest and not is_whole(store, item):
            # Its recipe names chunks that were cut otherwise, and that rest nowhere.
            store.backend.delete(key)
            store.put_file(path)
    except StemmaError:
        return False
    return is_whole(store, item)


def set_aside(
    store: ObjectStore, damaged: Iterable[str], scratch: Path, now: datetime
) -> list[str]:
    """Move damaged objects that nothing needs any more to the trash; returns their keys.

    What files still read from a damaged frame is stored anew first.

    Args:
        store: The store.
        damaged: Keys of frames that ``verify`` calls damaged, and of other objects of which
            nothing that is recorded needs any.
        scratch: A folder for temporary files.
        now: When they go.
    """
    damaged = list(damaged)
    frames = {
        bytes.fromhex(name.hex): key
        for key in damaged
        if (name := parse_key(key)) is not None and name.family is Family.FRAME
    }
    others = [key for key in damaged if key not in frames.values()]
    _take_away(store, others, now)
    if frames:
        scratch.mkdir(parents=True, exist_ok=True)
        for file in _files_in(store, frames):
            copy = scratch / "mending"
            with suppress(StemmaError):
                store.export_file(file, copy)
                store.put_file(copy)
            copy.unlink(missing_ok=True)
        live = {chunk.digest for recipe in _files(store) for chunk in recipe.chunks}
        _, needed = _reach(store, live)
        frames = {frame: key for frame, key in frames.items() if frame not in needed}
        store.index.drop_frames(frames)
        _take_away(store, list(frames.values()), now)
    return [*frames.values(), *others]


def _take_away(store: ObjectStore, keys: list[str], now: datetime) -> None:
    trash = trash_of(store)
    if trash is None:
        store.backend.delete_many(keys)
    else:
        trash.take(keys, now)


def _tree_of(folder: Path, names: Sequence[str]) -> Tree:
    entries: list[TreeEntry] = []
    for sighting in trees.look_at(folder, names):
        path = folder / sighting.path
        is_link = sighting.kind is EntryKind.SYMLINK
        entries.append(
            TreeEntry(
                path=sighting.path,
                kind=sighting.kind,
                size_bytes=0 if is_link else path.stat().st_size,
                digest=None if is_link else hash_file(path),
                target=sighting.target,
            )
        )
    return Tree.of(entries)


def _entries(store: ObjectStore, item: Harmed) -> Sequence[TreeEntry]:
    if item.record_key:
        return ()
    try:
        return store.read_tree(item.digest).entries
    except (IntegrityError, NotFoundError):
        return ()


def _chunks(store: ObjectStore, item: Harmed) -> Iterator[bytes]:
    recipe = None if item.record_key else _recipe(store, item.digest)
    if recipe is not None:
        yield from (chunk.digest for chunk in recipe.chunks)


def _recipe(store: ObjectStore, digest: Digest) -> Recipe | None:
    try:
        return decode_recipe(store.backend.get(recipe_key(digest)), digest)
    except (IntegrityError, NotFoundError):
        return None


def _is_frame_sound(store: ObjectStore, frame: bytes) -> bool:
    try:
        return hash_bytes(store.backend.get(frame_key(frame))).hex == frame.hex()
    except NotFoundError:
        return False


def _files(store: ObjectStore) -> Iterator[Recipe]:
    for stat in store.backend.list(Family.RECIPE.prefix):
        name = parse_key(stat.key)
        recipe = None if name is None else _recipe(store, name.digest)
        if recipe is not None:
            yield recipe


def _files_in(store: ObjectStore, frames: Collection[bytes]) -> list[Digest]:
    """Return the files that have chunks in these frames."""
    return [
        recipe.digest
        for recipe in _files(store)
        if any(
            location.frame in frames
            for location in store.index.find(chunk.digest for chunk in recipe.chunks).values()
        )
    ]


def _reach(store: ObjectStore, chunks: Collection[bytes]) -> tuple[set[bytes], set[bytes]]:
    """Return chunks with their parents, and the frames that hold them as the index says."""
    reached: set[bytes] = set()
    frames: set[bytes] = set()
    waiting = set(chunks)
    while waiting:
        reached |= waiting
        found = {location.frame for location in store.index.find(waiting).values()} - frames
        frames |= found
        waiting = set()
        for frame in found:
            with suppress(IntegrityError, NotFoundError):
                parent = read_header(store.backend, frame).parent
                if parent is not None:
                    waiting.add(parent.chunk.digest)
        waiting -= reached
    return reached, frames
