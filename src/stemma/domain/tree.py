"""A tree: the files of a folder as one value, and which names a tree may hold.

Invariants (normative text: ``docs/formats/store.md`` §Trees):
    * Entries are sorted by path, each path once; folders exist only as prefixes of paths.
    * A path is relative, in POSIX form, and means the same file on every file system:
      no ``..``, no control characters, no ``.git*``, no two names that a file system
      ignoring case or Unicode form would take for one.
    * A link's target is relative and stays inside the tree, whatever other links it crosses.

This module does not read folders; see ``stemma.store.trees``.

Example:
    >>> check_paths(["weights.bin", "../secret"])
    Traceback (most recent call last):
    stemma.domain.errors.InvalidInputError: not a path inside a tree: '../secret' has a '..' part
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from stemma.domain import canonical
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError

TREE_SCHEMA: Final = "stemma.tree/1"
_COMPONENT_LIMIT_BYTES: Final = 255
_RENAME_HINT: Final = "rename it, or leave it out"


class EntryKind(Enum):
    """What a path is."""

    FILE = "file"
    EXECUTABLE = "executable"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """One path of a tree.

    Attributes:
        path: Relative POSIX path.
        kind: A plain file, an executable file, or a link.
        size_bytes: Size of the file; 0 for a link.
        digest: blake3 of the file's bytes; ``None`` for a link.
        target: Where a link points, as written in the link; empty for a file.
    """

    path: str
    kind: EntryKind
    size_bytes: int
    digest: Digest | None = None
    target: str = ""

    def __post_init__(self) -> None:
        """Refuse a file without digest, and a link with one or without target."""
        is_link = self.kind is EntryKind.SYMLINK
        if is_link != (self.digest is None) or is_link != bool(self.target):
            raise InvalidInputError(
                f"{self.path!r}: a {self.kind.value} needs "
                + ("a target and no digest" if is_link else "a digest and no target"),
                code="bad-tree-entry",
            )
        if self.size_bytes < 0 or (is_link and self.size_bytes):
            raise InvalidInputError(
                f"{self.path!r}: impossible size {self.size_bytes}", code="bad-tree-entry"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files of a folder.

    Attributes:
        entries: Sorted by path.
        schema: Always ``stemma.tree/1``.
    """

    entries: tuple[TreeEntry, ...]
    schema: str = TREE_SCHEMA

    def __post_init__(self) -> None:
        """Refuse an unknown schema, unsorted entries, and names or links a tree may not hold."""
        if self.schema != TREE_SCHEMA:
            raise InvalidInputError(
                f"tree schema {self.schema!r} is not {TREE_SCHEMA!r}",
                code="unknown-schema",
                hint="upgrade stemma",
            )
        paths = [entry.path for entry in self.entries]
        check_paths(paths)
        if paths != sorted(paths):
            raise InvalidInputError("tree entries are not sorted by path", code="bad-tree")
        for entry in self.entries:
            if entry.kind is EntryKind.SYMLINK:
                check_link(entry.path, entry.target)

    @classmethod
    def of(cls, entries: Iterable[TreeEntry]) -> Tree:
        """Make a tree of entries in any order."""
        return cls(entries=tuple(sorted(entries, key=lambda entry: entry.path)))

    @property
    def size_bytes(self) -> int:
        """Sum of the files' sizes."""
        return sum(entry.size_bytes for entry in self.entries)


def encode_tree(tree: Tree) -> bytes:
    """Return the canonical bytes; their blake3 is the tree's identity."""
    return canonical.encode(tree)


def decode_tree(data: bytes) -> Tree:
    """Read a tree from its canonical bytes.

    Raises:
        InvalidInputError: If they are not a tree of a known schema.
    """
    return canonical.decode(data, Tree, what="tree")


def _component_fault(component: str) -> str:
    if component in {"", "."}:
        return "has an empty part"
    if component == "..":
        return "has a '..' part"
    if component.casefold().startswith(".git"):
        return "has a part that starts with .git, which versions never hold"
    if len(component.encode("utf-8", "surrogatepass")) > _COMPONENT_LIMIT_BYTES:
        return f"has a part longer than {_COMPONENT_LIMIT_BYTES} bytes"
    return ""


def _text_fault(text: str) -> str:
    if "\\" in text:
        return "has a backslash"
    categories = {unicodedata.category(character) for character in text}
    if "Cc" in categories:
        return "has a control character"
    if "Cs" in categories:
        return "is not valid UTF-8"
    return ""


def _path_fault(path: str) -> str:
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    fault = _text_fault(path)
    if fault:
        return fault
    return next(filter(None, map(_component_fault, path.split("/"))), "")


def _refuse(path: str, fault: str) -> InvalidInputError:
    return InvalidInputError(
        f"not a path inside a tree: {path!r} {fault}", code="bad-path", hint=_RENAME_HINT
    )


def _folded(name: str) -> str:
    """Return what two names share when some file system takes them for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_paths(paths: Iterable[str]) -> None:
    """Refuse paths that would not mean the same files on every file system.

    Raises:
        InvalidInputError: Naming the first offender, with code ``bad-path`` or ``path-collision``.
    """
    spelling: dict[str, str] = {}
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        fault = _path_fault(path)
        if fault:
            raise _refuse(path, fault)
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            known = spelling.setdefault(_folded(name), name)
            if known != name:
                raise InvalidInputError(
                    f"{name!r} and {known!r} are one name where case or Unicode form is ignored",
                    code="path-collision",
                    hint="rename one of them",
                )
            if depth < len(parts):
                folders.add(name)
        if path in files:
            raise _collision(path, "is named twice")
        files.add(path)
    both = files & folders
    if both:
        raise _collision(min(both), "is both a file and a folder")


def _collision(path: str, fault: str) -> InvalidInputError:
    return InvalidInputError(f"{path!r} {fault}", code="path-collision", hint=_RENAME_HINT)


def check_link(path: str, target: str) -> None:
    """Refuse a link that leaves the tree.

    Going up is allowed only at the target's start: ``a/../x`` may leave the tree
    when ``a`` is itself a link.

    Raises:
        InvalidInputError: With code ``link-leaves-tree``, or ``bad-path`` for unusable text.
    """
    fault = _text_fault(target)
    if fault:
        raise _refuse(path, f"links to {target!r}, which {fault}")
    parts = [part for part in target.split("/") if part not in {"", "."}]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    if target.startswith("/") or climbs > path.count("/") or ".." in parts[climbs:]:
        raise InvalidInputError(
            f"{path!r} links to {target!r}, which may leave the tree",
            code="link-leaves-tree",
            hint="copy the file in, or leave the link out",
        )
