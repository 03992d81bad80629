"""Tracked paths of a working tree: what their pointers name, and putting it in its place.

Invariants:
    * A file that is there and differs is never replaced, nor a part of a folder written beside
      it, unless forced.  Files of a folder that its pointer does not name stay.
    * Every byte is verified before it has its name; a folder that is missing appears whole.
    * Nothing is written through a link.

It asks no remote; see ``stemma.hub.tracked_copy``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
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
        written_count: Files that were, or would be, written.
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


def place(
    objects: ObjectStore,
    root: Path,
    path: str,
    pointer: Pointer,
    *,
    is_forced: bool = False,
    is_dry_run: bool = False,
) -> Placed:
    """Write out what is missing of a tracked path.

    Args:
        objects: The store, which holds it.
        root: The project's folder.
        path: The tracked path, relative to it.
        pointer: What its pointer says.
        is_forced: Replace files that differ.
        is_dry_run: Only look.

    Raises:
        IntegrityError: If what is stored is damaged.
    """
    target = root / path
    entries = objects.read_tree(pointer.content).entries
    if pointer.kind == "folder" and not target.exists() and not target.is_symlink():
        if not is_dry_run:
            objects.export_tree(pointer.content, target)
        return Placed(written_count=len(entries))
    if pointer.kind == "folder":
        base, wanted = target, {entry.path: entry for entry in entries}
    else:
        if len(entries) != 1 or entries[0].digest is None:
            raise IntegrityError(
                f"{path}: its pointer says a file, and its content is a folder",
                code="pointer-damaged",
                hint=f"git checkout -- {path}{SUFFIX}, or stemma add {path}",
            )
        # A pointer that was renamed keeps the old name in its tree.
        base, wanted = target.parent, {target.name: entries[0]}
    missing, differing = _compare(root, base, wanted, is_folder=pointer.kind == "folder")
    if differing and not is_forced:
        return Placed(differing_count=len(differing))
    if not is_dry_run:
        _write(objects, base, {name: wanted[name] for name in sorted({*missing, *differing})})
    return Placed(written_count=len(missing) + len(differing))


def _compare(
    root: Path, base: Path, wanted: Mapping[str, TreeEntry], *, is_folder: bool
) -> tuple[list[str], list[str]]:
    """Return the names that are missing, and those that stand for something else."""
    if is_folder and (base.is_symlink() or not base.is_dir()):
        return [], list(wanted)
    there = {name for name in wanted if os.path.lexists(base / name)}
    barred = {name for name in wanted if _is_barred(base, name)}
    plain = {name for name in there - barred if _is_plain(base / name)}
    # The names that ``stemma add`` looks at, so that both remember the same.
    names = list(list_folder(base).files) if is_folder else list(plain)
    digests: dict[str, Digest] = {}
    if names:
        seen = stat_cache.survey(root / ".stemma", base, names, now_ns=time.time_ns())
        expected = {name: wanted[name].digest for name in plain}
        digests = stat_cache.compared(seen, {k: v for k, v in expected.items() if v is not None})
    differing = barred | {
        name for name in there if not _is_same(base / name, wanted[name], digests.get(name))
    }
    return sorted(wanted.keys() - there - barred), sorted(differing)


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
