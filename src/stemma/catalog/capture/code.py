"""The user's own source files that a run reached, and where they stood in git.

Invariants:
    * Only files under the project root or the script's folder are taken, after links are
      resolved: no link leads out.  Installed packages and virtual environments never are.
    * Nothing is imported or executed: the import graph is read from the syntax trees.
    * Files are captured whole, in git or not, so a version never depends on a remote.

This module does not decide which file defines the model; see ``stemma.catalog.assembly``.

Example:
    >>> capture_code(Path("train.py"), Path()).entry_point  # doctest: +SKIP
    'train.py'
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import stemma
from stemma.catalog.capture.base import CapturedCode
from stemma.catalog.capture.git import read_git
from stemma.catalog.capture.source import is_equal_but_for_hyperparameters

__all__ = ["capture_code", "is_equal_but_for_hyperparameters"]

FILE_LIMIT: Final = 5_000
"""More local source files than this are not followed (said in the notes)."""

_SIZE_LIMIT_BYTES: Final = 16 * 1024 * 1024
_FOREIGN_PARTS: Final = frozenset({"site-packages", "dist-packages", ".stemma", "node_modules"})
_SUFFIXES: Final = frozenset({".py", ".ipynb", ".pyi"})


def capture_code(
    entry_point: Path | None,
    project_root: Path,
    imported_files: Sequence[Path] | None = None,
) -> CapturedCode:
    """Collect the local source files that a run reached.

    Args:
        entry_point: The script that was run; ``None`` when there is none (a notebook).
        project_root: Root of the project; nothing outside of it and the script's folder is taken.
        imported_files: Files of ``sys.modules`` at the end of the run, for dynamic imports.
    """
    project = project_root.resolve()
    entry = entry_point.resolve() if entry_point is not None else None
    base = project
    if entry is not None and not entry.is_relative_to(project):
        base = entry.parent
    walk = _Walk(base=base, roots=_import_roots(base, entry))
    if entry is not None:
        walk.add(entry, is_entry=True)
    for file in imported_files or ():
        if file.suffix in _SUFFIXES:
            walk.add(file)
    walk.follow()
    git, git_notes = read_git(base) if base.is_dir() else (None, ())
    return CapturedCode(
        files=dict(sorted(walk.files.items())),
        entry_point=walk.key(entry) if entry is not None and entry in walk.seen else "",
        git=git,
        notes=(*walk.notes, *git_notes),
    )


def _import_roots(base: Path, entry: Path | None) -> tuple[Path, ...]:
    """Return where absolute imports are looked up, in Python's order."""
    script_folder = (entry.parent,) if entry is not None else ()
    return tuple(dict.fromkeys((*script_folder, base, base / "src")))


@dataclass(slots=True)
class _Walk:
    """The files found so far and those still to be read."""

    base: Path
    roots: tuple[Path, ...]
    files: dict[str, Path] = field(default_factory=dict)
    seen: set[Path] = field(default_factory=set)
    pending: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def key(self, file: Path) -> str:
        return file.relative_to(self.base).as_posix()

    def add(self, path: Path, *, is_entry: bool = False) -> None:
        """Take ``path`` when it is the user's own and a readable regular file."""
        try:
            file = path.resolve(strict=True)
        except (OSError, RuntimeError):
            if is_entry:
                self.notes.append(f"{path}: entry script not found, not captured")
            return
        if file in self.seen or not file.is_file() or not file.is_relative_to(self.base):
            return
        if not is_entry and _is_foreign(file, self.base):
            return
        if len(self.seen) >= FILE_LIMIT:
            self._note_once(f"over {FILE_LIMIT} local source files: the rest is not captured")
            return
        if file.stat().st_size > _SIZE_LIMIT_BYTES:
            self.notes.append(f"{self.key(file)}: over {_SIZE_LIMIT_BYTES} bytes, not captured")
            return
        self.seen.add(file)
        self.files[self.key(file)] = file
        self.pending.append(file)

    def follow(self) -> None:
        """Read imports until nothing new turns up."""
        while self.pending:
            file = self.pending.pop()
            if file.suffix == ".py":
                for found in self._imports_of(file):
                    self.add(found)

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _imports_of(self, file: Path) -> Iterator[Path]:
        try:
            source = file.read_bytes()
        except OSError as error:
            self.notes.append(f"{self.key(file)}: cannot be read ({error.strerror})")
            self.files.pop(self.key(file))
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self.notes.append(f"{self.key(file)}: not parsed, its imports are not followed")
            return
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=names):
                    for name in names:
                        yield from self._module(self.roots, name.name)
                case ast.ImportFrom(level=0, module=str(module), names=names):
                    yield from self._from(self.roots, module, names)
                case ast.ImportFrom(level=int(level), module=module, names=names):
                    yield from self._from((_parent(file, level),), module or "", names)
                case _:
                    pass

    def _from(
        self, roots: tuple[Path, ...], module: str, names: Sequence[ast.alias]
    ) -> Iterator[Path]:
        yield from self._module(roots, module)
        for name in names:
            yield from self._module(roots, f"{module}.{name.name}".lstrip("."))

    @staticmethod
    def _module(roots: tuple[Path, ...], dotted: str) -> Iterator[Path]:
        """Yield the file of a module and the ``__init__`` of every package above it."""
        parts = dotted.split(".") if dotted else []
        for root in roots:
            found = [root.joinpath(*parts[:depth], "__init__.py") for depth in range(len(parts))]
            own = [root.joinpath(*parts, "__init__.py")]
            if parts:
                own.append(root.joinpath(*parts[:-1], parts[-1] + ".py"))
            if any(file.is_file() for file in own):
                # The root's own __init__ is executed only when it is itself a package,
                # which relative imports mean and absolute ones do not.
                yield from (file for file in (*found, *own) if file.is_file())
                return


def _parent(file: Path, level: int) -> Path:
    folder = file.parent
    for _ in range(level - 1):
        folder = folder.parent
    return folder


def _is_foreign(file: Path, base: Path) -> bool:
    """Tell installed packages, virtual environments and Stemma itself from the user's code."""
    if file.is_relative_to(Path(stemma.__file__).resolve().parent):
        return True
    relative = file.relative_to(base)
    if _FOREIGN_PARTS & set(relative.parts):
        return True
    if sys.prefix != sys.base_prefix and file.is_relative_to(Path(sys.prefix).resolve()):
        return True
    folders = [base.joinpath(*relative.parts[:depth]) for depth in range(1, len(relative.parts))]
    return any((folder / "pyvenv.cfg").is_file() for folder in folders)
