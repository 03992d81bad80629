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
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stemma.catalog.snapshot import digest_file
from stemma.domain.errors import ConflictError
from stemma.domain.tree import EntryKind, TreeEntry, check_paths
from stemma.store.backends.local import translated_os_errors

if TYPE_CHECKING:
    from stemma.domain.digest import Digest
    from stemma.domain.manifest import Manifest
    from stemma.hub.base import Hub


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


def plan(hub: Hub, manifest: Manifest, parts: tuple[str, ...]) -> list[RestoredFile]:
    """Return every file of the asked parts, ``params.json`` left out.

    Raises:
        InvalidInputError: If a name would lead out of the folder, or stand for two files.
    """
    files: list[RestoredFile] = []
    if "code" in parts:
        files += _tree(hub, "code", "code", manifest.architecture.content)
    if "pipeline" in parts or "code" in parts:
        known = {file.path for file in files}
        pipeline = _tree(hub, "pipeline", "code", manifest.pipeline.content)
        files += [file for file in pipeline if file.path not in known]
    if "data" in parts:
        for dataset in manifest.datasets.datasets:
            files += _tree(hub, "data", f"data/{dataset.name}", dataset.content)
    if "artifact" in parts:
        files += _tree(hub, "artifact", "artifact", manifest.artifact.content)
    # Names of datasets come from whoever recorded them: none may lead out of the folder.
    check_paths([file.path for file in files])
    return files


def _tree(hub: Hub, part: str, folder: str, tree: Digest) -> list[RestoredFile]:
    return [
        RestoredFile(part=part, path=f"{folder}/{entry.path}", entry=entry)
        for entry in hub.objects.read_tree(tree).entries
    ]


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
