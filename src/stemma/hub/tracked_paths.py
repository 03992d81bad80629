"""Tracked paths of a working tree: what their pointers name, and putting it in its place.

Invariants:
    * A file that is there and differs is never replaced, nor a part of a folder written beside
      it, unless forced or it is what the pointer named when it was last put here.
    * Files of a folder stay that neither its pointer names nor named then.
    * Every byte is verified before it has its name; a folder that is missing appears whole.
    * Nothing is written through a link.

It asks no remote; see ``stemma.hub.tracked_copy``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stemma.catalog import stat_cache
from stemma.catalog.capture.ignore import list_folder
from stemma.catalog.pointer_files import SUFFIX, find_pointers
from stemma.catalog.pointers import Pointer, pointer_path, read_pointer
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, StemmaError
from stemma.domain.tree import EntryKind, TreeEntry
from stemma.store.backends.local import translated_os_errors
from stemma.store.hashing import hash_file
from stemma.store.objects import ObjectStore


class TrackedPaths(NamedTuple):
    """Pointers by the path they stand for, relative to the project, and why some say nothing."""

    pointers: dict[str, Pointer]
    unreadable: dict[str, StemmaError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What became of one path in the working tree.

    Attributes:
        written_count: Files that were, or would be, written or removed.
        differing_count: Files that are there and differ, and were left.
    """

    written_count: int = 0
    differing_count: int = 0


def read_tracked(root: Path, paths: Collection[str] = ()) -> TrackedPaths:
    """Read the pointers of these paths; of all there are when none is given."""
    files = [pointer_path(root / path) for path in paths] or find_pointers(root)
    found = TrackedPaths({}, {})
    for file in files:
        path = file.relative_to(root).as_posix().removesuffix(SUFFIX)
        try:
            found.pointers[path] = read_pointer(file)
        except StemmaError as error:
            found.unreadable[path] = error
    return found


def is_stored(objects: ObjectStore, pointer: Pointer) -> bool:
    """Whether the store holds all that a pointer names."""
    if not objects.has_tree(pointer.content):
        return False
    entries = objects.read_tree(pointer.content).entries
    return all(entry.digest is None or objects.has(entry.digest) for entry in entries)


class Placing(NamedTuple):
    """How to write out a tracked path.

    ``before`` is the tree that was last put there, if any: files that are as it says are
    unchanged.  ``is_forced`` replaces files that differ, ``is_dry_run`` only looks.
    """

    before: Digest | None = None
    is_forced: bool = False
    is_dry_run: bool = False


def place(objects: ObjectStore, root: Path, path: str, pointer: Pointer, how: Placing) -> Placed:
    """Write out what is missing or outdated of a tracked path.

    Args:
        objects: The store, which holds it.
        root: The project's folder.
        path: The tracked path, relative to it.
        pointer: What its pointer says.
        how: What may be replaced.

    Raises:
        IntegrityError: If what is stored is damaged.
    """
    target = root / path
    is_folder = pointer.kind == "folder"
    if is_folder and not target.exists() and not target.is_symlink():
        if not how.is_dry_run:
            objects.export_tree(pointer.content, target)
        return Placed(written_count=len(objects.read_tree(pointer.content).entries))
    base = target if is_folder else target.parent
    wanted = _named(objects, pointer.content, target, is_folder=is_folder)
    if wanted is None:
        raise IntegrityError(
            f"{path}: its pointer says a file, and its content is a folder",
            code="pointer-damaged",
            hint=f"git checkout -- {path}{SUFFIX}, or stemma add {path}",
        )
    earlier = None
    if how.before is not None and how.before != pointer.content and objects.has_tree(how.before):
        earlier = _named(objects, how.before, target, is_folder=is_folder)
    found = _compare(root, base, wanted, earlier or {}, is_folder=is_folder)
    if found.changed and not how.is_forced:
        return Placed(differing_count=len(found.changed))
    names = sorted({*found.missing, *found.outdated, *(found.changed & wanted.keys())})
    if not how.is_dry_run:
        _write(objects, base, {name: wanted[name] for name in names})
        _remove(base, found.stale)
        if names and found.seen is not None:
            # Else all of it would be read again by the next pull, for the sake of one file.
            stat_cache.note(found.seen, found.same)
    return Placed(written_count=len(names) + len(found.stale))


def _named(
    objects: ObjectStore, content: Digest, target: Path, *, is_folder: bool
) -> dict[str, TreeEntry] | None:
    """Return the entries of a tree by name; nothing when it is no file as it should be."""
    entries = objects.read_tree(content).entries
    if is_folder:
        return {entry.path: entry for entry in entries}
    if len(entries) != 1 or entries[0].digest is None:
        return None
    # A pointer that was renamed keeps the old name in its tree.
    return {target.name: entries[0]}


class _Standing(NamedTuple):
    """Names by how they stand.

    ``changed`` stand for something of the user's, ``outdated`` for what they stood for earlier,
    as do the ``stale``, which are wanted no longer.  ``same`` are files as they should be, in
    what was ``seen``.
    """

    missing: set[str]
    changed: set[str]
    outdated: set[str]
    stale: set[str]
    same: Mapping[str, Digest] = {}
    seen: stat_cache.Survey | None = None


def _compare(
    root: Path,
    base: Path,
    wanted: Mapping[str, TreeEntry],
    earlier: Mapping[str, TreeEntry],
    *,
    is_folder: bool,
) -> _Standing:
    """Look at every name that is wanted or was earlier."""
    if is_folder and (base.is_symlink() or not base.is_dir()):
        return _Standing(set(), set(wanted), set(), set())
    every = {**earlier, **wanted}
    barred = {name for name in every if _is_barred(base, name)}
    there = {name for name in every.keys() - barred if os.path.lexists(base / name)}
    plain = {name for name in there if _is_plain(base / name)}
    # The names that ``stemma add`` looks at, so that both remember the same.
    names = list(list_folder(base).files) if is_folder else list(plain)
    digests: dict[str, Digest] = {}
    seen = None
    if names:
        seen = stat_cache.survey(root / ".stemma", base, names, now_ns=time.time_ns())
        expected = {name: every[name].digest for name in plain}
        digests = stat_cache.compared(seen, {k: v for k, v in expected.items() if v is not None})

    def differs(name: str, entries: Mapping[str, TreeEntry]) -> bool:
        entry = entries.get(name)
        return entry is None or not _is_same(base / name, entry, digests.get(name))

    unlike = {name for name in there if differs(name, wanted)}
    mine = {name for name in unlike if differs(name, earlier)}
    return _Standing(
        missing=wanted.keys() - there - barred,
        changed=mine | (barred & wanted.keys()),
        outdated=(unlike - mine) & wanted.keys(),
        stale=(unlike - mine) - wanted.keys(),
        same={name: digest for name, digest in digests.items() if name not in unlike},
        seen=seen,
    )


def _is_same(path: Path, entry: TreeEntry, digest: Digest | None) -> bool:
    if entry.kind is EntryKind.SYMLINK:
        return path.is_symlink() and str(path.readlink()) == entry.target
    if not _is_plain(path):
        return False
    # An ignore file may leave out what was tracked before it was written.
    return (digest or hash_file(path)) == entry.digest


def _is_barred(base: Path, name: str) -> bool:
    """Whether a link or a file stands where a folder above this name should be."""
    above = [base / parent for parent in Path(name).parents if parent != Path()]
    return any(path.is_symlink() or (path.exists() and not path.is_dir()) for path in above)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _write(objects: ObjectStore, base: Path, entries: Mapping[str, TreeEntry]) -> None:
    for name, entry in entries.items():
        if entry.digest is not None:
            is_executable = entry.kind is EntryKind.EXECUTABLE
            objects.export_file(entry.digest, base / name, is_executable=is_executable)
    for name, entry in entries.items():
        if entry.digest is None:
            link = base / name
            with translated_os_errors(f"write {link}"):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(entry.target)


def _remove(base: Path, names: Collection[str]) -> None:
    """Remove files, and the folders that they leave empty."""
    with translated_os_errors(f"remove files of {base}"):
        for name in names:
            (base / name).unlink(missing_ok=True)
        parents = {parent for name in names for parent in Path(name).parents} - {Path()}
        for parent in sorted(parents, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):  # there is more in it
                (base / parent).rmdir()
