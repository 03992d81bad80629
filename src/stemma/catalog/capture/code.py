"""The user's own source files that a run reached, and where they stood in git.

Invariants:
    * Only files under the project root or the script's folder are taken, after links are
      resolved: no link leads out.  Installed packages and virtual environments never are.
    * Nothing is imported or executed: the import graph is read from the syntax trees.
    * Files are captured whole, in git or not, so a version never depends on a remote.
    * A file that is edited while it runs is recorded as it ran, and that is said.

This module does not decide which file defines the model; see ``stemma.catalog.assembly``.

Example:
    >>> capture_code(Path("train.py"), Path()).entry_point  # doctest: +SKIP
    'train.py'
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import stemma
from stemma.catalog.capture.base import CapturedCode
from stemma.catalog.capture.git import read_git
from stemma.catalog.capture.source import is_equal_but_for_hyperparameters

__all__ = ["RunningCode", "capture_code", "is_equal_but_for_hyperparameters"]

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
    walk = _Walk.start(entry_point, project_root)
    return walk.captured(imported_files or ())


class RunningCode:
    """The sources of a run, copied when it begins and completed when it ends.

    Attributes:
        copies: Where the text that runs is kept, by the resolved file it was read from.
    """

    def __init__(
        self,
        entry_point: Path | None,
        project_root: Path,
        folder: Path,
        imported_files: Sequence[Path] = (),
        *,
        read: Callable[[Path], bytes] = Path.read_bytes,
    ) -> None:
        """Copy what is reached now.

        Args:
            entry_point: As for ``capture_code``.
            project_root: As for ``capture_code``.
            folder: New folder for the copies; they must stay until the run is recorded.
            imported_files: Files of the modules imported so far; none when another process runs.
            read: Gives the text of a file as the interpreter read it.
        """
        self._walk = _Walk.start(entry_point, project_root)
        self._folder = folder
        self._read = read
        self._code = self._walk.captured(imported_files)
        loaded = {file.resolve() for file in imported_files}
        self._loaded = loaded | ({entry_point.resolve()} if entry_point is not None else set())
        self.copies: dict[Path, Path] = {}
        for name, file in self._code.files.items():
            self._keep(name, file)

    def finish(self, imported_files: Sequence[Path] = ()) -> CapturedCode:
        """Add the modules that were imported since, and return the text of all that ran."""
        late = {file.resolve() for file in imported_files} - self._loaded
        edited = [name for name, file in self._code.files.items() if self._is_edited(file)]
        # It was imported after it was first seen, so what ran is more likely the newer text.
        newer = [name for name in edited if self._code.files[name] in late]
        older = [name for name in edited if name not in newer]
        for name in newer:
            self._keep(name, self._code.files[name])
        known = len(self._walk.notes)
        files = self._walk.reach(imported_files)
        for name in files.keys() - self._code.files.keys():
            self._keep(name, files[name])
        changes = [
            f"{', '.join(names)} changed during the run: recorded as {when}"
            for names, when in ((older, "at its start"), (newer, "at its end: imported late"))
            if names
        ]
        return replace(
            self._code,
            files=files,
            copies={name: self.copies[file] for name, file in files.items() if file in self.copies},
            notes=(*self._code.notes, *self._walk.notes[known:], *changes),
        )

    def _keep(self, name: str, file: Path) -> None:
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.write_bytes(self._read(file))
            target.chmod(file.stat().st_mode & 0o777 | 0o600)
        except FileNotFoundError:
            return  # Gone in this moment; assembling says so with the file's name.
        self.copies[file] = target

    def _is_edited(self, file: Path) -> bool:
        """A file that is gone was edited too."""
        try:
            return file in self.copies and file.read_bytes() != self.copies[file].read_bytes()
        except OSError:
            return True


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
    entry: Path | None = None

    @classmethod
    def start(cls, entry_point: Path | None, project_root: Path) -> _Walk:
        """Begin at the entry script; outside of the project its own folder is the base."""
        base = project_root.resolve()
        entry = entry_point.resolve() if entry_point is not None else None
        if entry is not None and not entry.is_relative_to(base):
            base = entry.parent
        walk = cls(base=base, roots=_import_roots(base, entry), entry=entry)
        if entry is not None:
            walk.add(entry, is_entry=True)
        return walk

    def reach(self, imported_files: Sequence[Path]) -> dict[str, Path]:
        """Add imported files and all they import; the files found so far, sorted."""
        for file in imported_files:
            if file.suffix in _SUFFIXES:
                self.add(file)
        self.follow()
        return dict(sorted(self.files.items()))

    def captured(self, imported_files: Sequence[Path]) -> CapturedCode:
        """Return what is reached now, and where it stands in git."""
        files = self.reach(imported_files)
        git, git_notes = read_git(self.base, tuple(files)) if self.base.is_dir() else (None, ())
        has_entry = self.entry is not None and self.entry in self.seen
        return CapturedCode(
            files=files,
            entry_point=self.key(self.entry) if self.entry is not None and has_entry else "",
            git=git,
            notes=(*self.notes, *git_notes),
        )

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
