"""Puts a version's parts back on disk, beside what is there, never over it.

Invariants:
    * A file that differs is never overwritten without ``--force``; then nothing is written at all.
    * Restoring twice is the same as once.
    * Every byte is verified before any file stands under its name: files are made in a
      folder beside, and a restore that is refused leaves nothing behind.
"""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stemma.catalog.snapshot import digest_file
from stemma.domain.errors import ConflictError, NotFoundError
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.tree import EntryKind, Tree, TreeEntry, check_paths
from stemma.hub.portions import PortionHere
from stemma.hub.selection import PlacedTree, is_under, may_hold, trees_of
from stemma.store.backends.local import translated_os_errors

if TYPE_CHECKING:
    from stemma.domain.digest import Digest
    from stemma.domain.manifest import Manifest
    from stemma.hub.base import Hub, VersionView


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredFile:
    """One file to restore.

    Attributes:
        part: ``code``, ``data``, ``params``, ``artifact`` or ``pipeline``.
        path: Where, relative to the target folder.
        entry: What.
    """

    part: str
    path: str
    entry: TreeEntry


PARTS = ("code", "data", "params", "artifact", "pipeline")
_NOTHING = PortionHere(Tree(entries=()), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to restore of a version.

    Attributes:
        parts: Whole parts, of ``PARTS``.
        paths: Files and folders beside them, such as ``data/digits-train/images.csv``.
        within: Of all that only what is this path or lies in it; empty: all.
        has_environment: Whether its environment is to be built.
    """

    parts: tuple[str, ...] = PARTS
    paths: tuple[str, ...] = ()
    within: str = ""
    has_environment: bool = False

    @property
    def has_params(self) -> bool:
        """Whether ``params.json`` is among it."""
        return "params" in self.parts and self.within in {"", "params.json"}


def plan(hub: Hub, view: VersionView, wanted: Wanted) -> list[RestoredFile]:
    """Return every file that is wanted, ``params.json`` left out.

    Raises:
        InvalidInputError: If a name would lead out of the folder, or stand for two files.
        NotFoundError: If a path names nothing (``path-not-found``), or what is wanted was left
            on a remote (``contents-not-here``).
    """
    left = hub.left_elsewhere(view.digest)
    files: dict[str, RestoredFile] = {}
    absent: dict[PlacedTree, PortionHere] = {}
    for place in trees_of(view.manifest):
        if not _is_wanted(place, wanted):
            continue
        if place.digest in left.contents:
            absent[place] = left.portions.get(place.digest, _NOTHING)
            tree = absent[place].tree
        else:
            tree = hub.objects.read_tree(place.digest)
        for file in _files_of(place, tree):
            if _is_chosen(place, file.path, wanted):
                files.setdefault(file.path, file)
    _refuse_absent(view, wanted, absent, left.contents, files)
    _refuse_unknown(view, wanted, files)
    # Names of datasets come from whoever recorded them: none may lead out of the folder.
    check_paths(files)
    return list(files.values())


def _is_wanted(place: PlacedTree, wanted: Wanted) -> bool:
    """Whether any file of a tree may be wanted."""
    if wanted.within and not may_hold(place.folder, wanted.within):
        return False
    return _is_whole_part(place, wanted) or any(
        may_hold(place.folder, path) for path in wanted.paths
    )


def _is_chosen(place: PlacedTree, path: str, wanted: Wanted) -> bool:
    if wanted.within and not is_under(path, wanted.within):
        return False
    return _is_whole_part(place, wanted) or any(is_under(path, it) for it in wanted.paths)


def _is_whole_part(place: PlacedTree, wanted: Wanted) -> bool:
    # The code of a pipeline goes with the code of the model.
    return _part(place) in wanted.parts or (_part(place) == "pipeline" and "code" in wanted.parts)


def _part(place: PlacedTree) -> str:
    return {"architecture": "code", "datasets": "data"}.get(place.component, place.component)


def _files_of(place: PlacedTree, tree: Tree) -> list[RestoredFile]:
    return [
        RestoredFile(part=_part(place), path=f"{place.folder}/{entry.path}", entry=entry)
        for entry in tree.entries
    ]


def _refuse_absent(
    view: VersionView,
    wanted: Wanted,
    absent: Mapping[PlacedTree, PortionHere],
    left: Collection[Digest],
    files: Collection[str],
) -> None:
    """Refuse what was left on a remote.

    Raises:
        NotFoundError: Naming all of it (``contents-not-here``).
    """
    elsewhere: list[str] = []
    for place, portion in absent.items():
        asked = [wanted.within] if wanted.within else list(wanted.paths)
        if _is_whole_part(place, wanted) and wanted.within in {"", place.folder.split("/")[0]}:
            asked = [
                "code" if "code" in wanted.parts and _part(place) == "pipeline" else _part(place)
            ]
        elsewhere += [
            path for path in asked if path not in files and _is_absent(place, portion, path)
        ]
    manifest = view.manifest
    others = {
        "params": (wanted.has_params, manifest.hyperparameters.content),
        "environment": (wanted.has_environment, manifest.environment.lock),
    }
    elsewhere += [name for name, (is_asked, file) in others.items() if is_asked and file in left]
    if elsewhere:
        only = list(dict.fromkeys(elsewhere))
        raise NotFoundError(
            f"{view.label} is here in part: {', '.join(only)} stayed on the remote",
            code="contents-not-here",
            hint=shlex.join(["stemma", "pull", view.label, "--only", ",".join(only)]),
        )


def _is_absent(place: PlacedTree, portion: PortionHere, path: str) -> bool:
    """Whether some of what a path names in a tree that is not here whole may be missing."""
    if "/" not in path:
        return True
    is_here = any(is_under(path, it) for it in portion.paths)
    return may_hold(place.folder, path) and not is_here


def _refuse_unknown(view: VersionView, wanted: Wanted, files: Collection[str]) -> None:
    """Refuse a path that names nothing.

    Raises:
        NotFoundError: Naming the first (``path-not-found``).
    """
    for path in [wanted.within] if wanted.within else wanted.paths:
        is_params = wanted.has_params and path == "params.json"
        if is_params or any(is_under(file, path) for file in files):
            continue
        near = suggest(path, list(files))
        raise NotFoundError(
            f"{view.label} holds no {path}{did_you_mean(near)}",
            code="path-not-found",
            hint=f"stemma checkout {view.label} --dry-run --json",
        )


def params_bytes(hub: Hub, manifest: Manifest) -> bytes:
    """Return ``params.json``: what was passed and what defaulted, readable."""
    table = json.loads(hub.objects.read_bytes(manifest.hyperparameters.content))
    return (json.dumps(table, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def find_conflicts(target: Path, files: list[RestoredFile]) -> list[str]:
    """Return the paths under ``target`` that hold something else."""
    return [file.path for file in files if _holds_another(target / file.path, file.entry)]


def _holds_another(path: Path, entry: TreeEntry) -> bool:
    if not path.exists() and not path.is_symlink():
        return False
    return not _is_same(path, entry)


def _is_same(path: Path, entry: TreeEntry) -> bool:
    if entry.kind is EntryKind.SYMLINK:
        return path.is_symlink() and str(path.readlink()) == entry.target
    if path.is_symlink() or not path.is_file() or entry.digest is None:
        return False
    return path.stat().st_size == entry.size_bytes and digest_file(path) == entry.digest.hex


def refuse_conflicts(target: Path, conflicts: list[str], command: str) -> None:
    """Refuse when files would be overwritten.

    Raises:
        ConflictError: If there is any.
    """
    if conflicts:
        more = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
        raise ConflictError(
            f"{target / conflicts[0]}{more} differs from the version; nothing was written",
            code="would-overwrite",
            hint=f"{command} --to OTHER-FOLDER, or --force",
        )


def restore(
    hub: Hub,
    target: Path,
    files: Sequence[RestoredFile],
    texts: Mapping[str, bytes],
    advance: Callable[[int], None],
) -> int:
    """Put files into ``target``, all of them or none; returns how many had to be written.

    Args:
        hub: Where their bytes are.
        target: The folder, which may be missing.
        files: What to restore.
        texts: Further files, by name.
        advance: Called with the bytes done since the last call.

    Raises:
        IntegrityError: If anything stored is damaged; then nothing was written.
    """
    missing = [file for file in files if not _is_same(target / file.path, file.entry)]
    advance(_size(files) - _size(missing))
    with translated_os_errors(f"write {target}"):
        if target.exists():
            target.mkdir(exist_ok=True)  # a file is in the way
        base = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
        staging = base / f".stemma-{secrets.token_hex(8)}.part"
        try:
            staging.mkdir()
            for file in missing:
                _write_file(hub, staging, file)
                advance(file.entry.size_bytes)
            for name, text in texts.items():
                (staging / name).write_bytes(text)
                advance(len(text))
            _move(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return len(missing)


def write_beside(target: Path, data: bytes, command: str, *, is_forced: bool) -> None:
    """Write one file whole or not at all; a file that differs stays, unless forced.

    Raises:
        ConflictError: If another file is there (``would-overwrite``).
    """
    with translated_os_errors(f"write {target}"):
        if target.is_file() and target.read_bytes() == data:
            return
        if target.exists() and not is_forced:
            raise ConflictError(
                f"{target} exists and differs; nothing was written",
                code="would-overwrite",
                hint=f"{command} --to OTHER-FILE, or --force",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".stemma-{secrets.token_hex(8)}.part")
        try:
            part.write_bytes(data)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _size(files: Sequence[RestoredFile]) -> int:
    return sum(file.entry.size_bytes for file in files)


def _move(staging: Path, target: Path) -> None:
    """Give everything its name: in one step where the folder is new, else file by file."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(target)
        return
    for path in sorted(staging.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            place = target / path.relative_to(staging)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)


def _write_file(hub: Hub, folder: Path, file: RestoredFile) -> None:
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.entry.kind is EntryKind.SYMLINK:
        path.symlink_to(file.entry.target)
    elif file.entry.digest is not None:
        hub.objects.export_file(
            file.entry.digest, path, is_executable=file.entry.kind is EntryKind.EXECUTABLE
        )
