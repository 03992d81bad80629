"""Trees in the store and in folders: decoding, and looking at a folder's entries.

Invariants (normative text: ``docs/formats/store.md`` §Trees):
    * A tree's key is the blake3 of its canonical bytes.
    * Looking at a folder never follows a link, and refuses what a tree may not hold
      before a byte is read.

This module does not store files; see ``stemma.store.ingest``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from stemma.domain.tree import EntryKind, Tree, check_link, check_paths, decode_tree
from stemma.store.backends.local import translated_os_errors
from stemma.store.hashing import hash_bytes

_MISSING_HINT: Final = "check the path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What stands at a path before it is read.

    Attributes:
        path: Relative POSIX path inside the tree.
        kind: What it is.
        target: Where a link points; empty for a file.
        size_bytes: How large the file was; 0 for a link.
    """

    path: str
    kind: EntryKind
    target: str = ""
    size_bytes: int = 0


def verified_tree(data: bytes, digest: Digest) -> Tree:
    """Read the tree ``digest`` from stored bytes.

    Raises:
        IntegrityError: If they are not that tree.
    """
    if hash_bytes(data) != digest:
        raise IntegrityError(
            f"damaged tree {digest}: its bytes do not match its digest",
            code="tree-damaged",
            hint="stemma doctor",
        )
    try:
        return decode_tree(data)
    except InvalidInputError as error:
        raise IntegrityError(
            f"tree {digest}: {error.message}", code="tree-damaged", hint="stemma doctor"
        ) from error


def look_at(root: Path, paths: Sequence[str]) -> list[Sighting]:
    """Say what each path under ``root`` is, in order of path.

    Raises:
        InvalidInputError: If a name, a link or a kind of file may not be in a tree.
        NotFoundError: If a path does not exist.
    """
    check_paths(paths)
    real_root = os.path.realpath(root)
    folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120  many paths, plain text
    for folder in sorted(folders):
        expected = os.path.join(real_root, folder) if folder else real_root  # noqa: PTH118
        if os.path.realpath(expected) != expected:
            raise InvalidInputError(
                f"{folder!r} is reached through a link",
                code="link-leaves-tree",
                hint="name the files by the folder they are in",
            )
    return [_look(root, path) for path in sorted(paths)]


def _look(root: Path, path: str) -> Sighting:
    place = root / path
    with translated_os_errors(f"read {place}", is_write=False):
        try:
            status = place.lstat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(
                f"no file {place}", code="file-not-found", hint=_MISSING_HINT
            ) from error
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(place)  # noqa: PTH115  Path would normalise the target
            check_link(path, target)
            return Sighting(path=path, kind=EntryKind.SYMLINK, target=target)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError(
            f"{place} is neither a file nor a link",
            code="not-a-file",
            hint="leave it out",
        )
    is_executable = bool(status.st_mode & stat.S_IXUSR)
    return Sighting(
        path=path,
        kind=EntryKind.EXECUTABLE if is_executable else EntryKind.FILE,
        size_bytes=status.st_size,
    )
