"""Which files of a folder are captured: ``.stemmaignore``, ``.gitignore``, ``.dvcignore``.

Invariants:
    * Only ignore files inside the folder count, not those above it: ``stemma add data``
      itself writes ``/data`` into the ``.gitignore`` above.
    * Links are reported, never followed.
    * The answer is sorted by path, so it does not depend on the file system's order.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pathspec import GitIgnoreSpec

from stemma.domain.errors import InvalidInputError
from stemma.domain.tree import check_link, check_paths

IGNORE_FILES: Final = (".gitignore", ".dvcignore", ".stemmaignore")
"""Later files win, as later lines do."""

_ALWAYS_LEFT_OUT: Final = frozenset({".stemma", ".dvc", "__pycache__", ".DS_Store"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFiles:
    """What a folder holds.

    Attributes:
        files: Relative POSIX path -> file on disk, sorted; links too.
        ignored_count: Files and folders left out by an ignore file.
    """

    files: dict[str, Path]
    ignored_count: int


def list_folder(root: Path) -> FolderFiles:
    """Return the files under ``root`` that ignore files do not leave out.

    Raises:
        InvalidInputError: If a name may not be in a version, or a link leaves the folder.
    """
    files: dict[str, Path] = {}
    ignored_count = 0
    for path, is_ignored in _walk(root, root, ()):
        if is_ignored:
            ignored_count += 1
        else:
            files[path.relative_to(root).as_posix()] = path
    check_paths(files)
    for name, path in files.items():
        if path.is_symlink():
            check_link(name, str(path.readlink()))
    return FolderFiles(files=dict(sorted(files.items())), ignored_count=ignored_count)


def _walk(
    root: Path, folder: Path, specs: tuple[tuple[Path, GitIgnoreSpec], ...]
) -> Iterator[tuple[Path, bool]]:
    own = _read_spec(folder)
    specs = (*specs, (folder, own)) if own is not None else specs
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidInputError(
            f"{folder}: cannot be read: {error.strerror}",
            code="unreadable-folder",
            hint=f"chmod u+rx {folder}",
        ) from error
    for entry in entries:
        if entry.name in _ALWAYS_LEFT_OUT or entry.name.casefold().startswith(".git"):
            continue
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        if _is_ignored(path, specs, is_folder=is_folder):
            yield path, True
        elif is_folder:
            yield from _walk(root, path, specs)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield path, False
        else:
            raise InvalidInputError(
                f"{path}: neither a file, a folder nor a link",
                code="bad-path",
                hint=f"name it in {root / '.stemmaignore'}",
            )


def _is_ignored(
    path: Path, specs: tuple[tuple[Path, GitIgnoreSpec], ...], *, is_folder: bool
) -> bool:
    """Ask the nearest ignore file first: the deepest one that says anything decides."""
    for folder, spec in reversed(specs):
        name = PurePosixPath(path.relative_to(folder)).as_posix() + ("/" if is_folder else "")
        answer = spec.check_file(name).include
        if answer is not None:
            return answer
    return False


def _read_spec(folder: Path) -> GitIgnoreSpec | None:
    lines: list[str] = []
    for name in IGNORE_FILES:
        try:
            lines += (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
    return GitIgnoreSpec.from_lines(lines) if lines else None


def stamp_files(files: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """Return size and modification time (ns) of each file, to see later that it changed.

    Raises:
        InvalidInputError: If one is neither a file nor a link: a named pipe would be waited for.
        OSError: If one of them is gone.
    """
    stamps: dict[str, tuple[int, int]] = {}
    for name, path in files.items():
        status = path.lstat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            raise InvalidInputError(
                f"{path} is neither a file nor a folder",
                code="not-a-file",
                hint="write it to a file, and name that",
            )
        stamps[name] = (status.st_size, status.st_mtime_ns)
    return stamps
