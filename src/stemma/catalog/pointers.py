"""``PATH.stemma`` pointer files: what stands in git for a tracked file or folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stemma.domain.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What a pointer file says.

    Attributes:
        kind: ``file`` or ``folder``.
        size_bytes: Size of all its files.
        content: Tree of its files (a tracked file is a tree of one).
        sha256: sha256 of the file; ``None`` for a folder.
    """

    kind: str
    size_bytes: int
    content: Digest
    sha256: Digest | None = None


def pointer_path(path: Path) -> Path:
    """Return where the pointer of ``path`` lies: ``data/train.csv.stemma``."""
    return path.with_name(path.name + ".stemma")


def write_pointer(path: Path, pointer: Pointer) -> Path:
    """Write the pointer of the tracked ``path`` beside it and return where."""
    raise NotImplementedError


def read_pointer(path: Path) -> Pointer:
    """Read the pointer file ``path``."""
    raise NotImplementedError


def find_pointers(root: Path) -> list[Path]:
    """Return every pointer file under ``root``, sorted."""
    raise NotImplementedError


def ignore_in_git(path: Path) -> Path | None:
    """Name ``path`` in the nearest ``.gitignore``, once; the file changed or ``None``."""
    raise NotImplementedError
