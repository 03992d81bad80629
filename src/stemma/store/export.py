"""Writing stored files and trees out into folders.

Invariants:
    * Nothing stands at the target unless all of it was verified: bytes go to a temporary
      name beside it, are fsynced, and are renamed.
    * A tree appears whole or not at all, and never replaces a folder that holds something.
    * Links are made last, so nothing is ever written through one.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError
from stemma.domain.tree import EntryKind, Tree, TreeEntry
from stemma.store.backends.local import fsync_folder, run_together, translated_os_errors
from stemma.store.pipeline import Lane
from stemma.store.reflink import CLONED_BYTES, clone_file

_PLAIN_MODE: Final = 0o666
_EXECUTABLE_MODE: Final = 0o777
_LARGE_BYTES: Final = 4 << 20
_UNSYNCED_BYTES: Final = 1 << 30
_SYNCED_BYTES: Final = 16 << 20

Pieces = Iterable[bytes]
"""A file's verified bytes; the iteration raises when they are not right."""


def write_file(pieces: Pieces, target: Path, *, is_executable: bool) -> None:
    """Write a file and rename it to ``target``, replacing a file that is there."""
    with translated_os_errors(f"write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".stemma-{secrets.token_hex(8)}.part")
        try:
            _write(pieces, temporary, is_executable=is_executable)
            _fsync_file(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(target.parent)


def write_tree(
    tree: Tree,
    open_file: Callable[[Digest], Pieces],
    target: Path,
    twins: Mapping[Digest, Path],
) -> None:
    """Write a tree and rename it to ``target``, which must be missing or an empty folder.

    Args:
        tree: What to write.
        open_file: Opens a file of it.
        target: Where.
        twins: Files that should hold the same, to share their room on the disk where it can.

    Raises:
        ConflictError: If something is there (``target-exists``).
    """
    with translated_os_errors(f"write {target}"):
        if target.is_symlink() or (
            target.exists() and (not target.is_dir() or any(target.iterdir()))
        ):
            raise ConflictError(
                f"{target} exists and is not an empty folder",
                code="target-exists",
                hint="name another folder, or move this one away",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".stemma-{secrets.token_hex(8)}.part")
        try:
            _fill(tree, open_file, temporary, twins)
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        fsync_folder(target.parent)


def _fill(
    tree: Tree,
    open_file: Callable[[Digest], Pieces],
    folder: Path,
    twins: Mapping[Digest, Path],
) -> None:
    folder.mkdir()
    folders = {folder}
    small: list[Path] = []
    # What is large goes to the disk while the next file is decoded.
    large: Lane[None] = Lane(threads=1, limit_bytes=_UNSYNCED_BYTES)
    try:
        for entry in tree.entries:
            place = folder / entry.path
            place.parent.mkdir(parents=True, exist_ok=True)
            folders |= {folder / parent for parent in Path(entry.path).parents}
            if entry.digest is None:
                continue
            if not _is_cloned(entry, place, twins):
                is_executable = entry.kind is EntryKind.EXECUTABLE
                _write(open_file(entry.digest), place, is_executable=is_executable)
            if entry.size_bytes < _LARGE_BYTES:
                small.append(place)
                continue
            large.put(partial(_fsync_file, place), entry.size_bytes)
            large.start()
            while large.is_full:
                large.take()
        while large:
            large.take()
    finally:
        large.close()
    for entry in tree.entries:
        if entry.kind is EntryKind.SYMLINK:
            (folder / entry.path).symlink_to(entry.target)
    run_together([(_fsync_file, (place,)) for place in small])
    run_together([(fsync_folder, (place,)) for place in folders])


def _is_cloned(entry: TreeEntry, place: Path, twins: Mapping[Digest, Path]) -> bool:
    """Make a file from its twin, when it has one and the file system can."""
    if entry.digest is None or entry.digest not in twins or entry.size_bytes < CLONED_BYTES:
        return False
    mode = _EXECUTABLE_MODE if entry.kind is EntryKind.EXECUTABLE else _PLAIN_MODE
    return clone_file(twins[entry.digest], place, entry.digest, mode)


def _write(pieces: Pieces, place: Path, *, is_executable: bool) -> None:
    mode = _EXECUTABLE_MODE if is_executable else _PLAIN_MODE
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(place, flags, mode), "wb") as stream:
        _write_through(pieces, stream)


def _write_through(pieces: Pieces, stream: BinaryIO) -> None:
    """Write pieces, and have what is written go to the disk while more is decoded.

    The fsync at the end would otherwise wait for all of a large file.
    """
    syncing: Lane[None] = Lane(threads=1, limit_bytes=0)
    unsynced_bytes = 0
    try:
        for piece in pieces:
            stream.write(piece)
            unsynced_bytes += len(piece)
            if unsynced_bytes < _SYNCED_BYTES:
                continue
            stream.flush()
            while syncing:
                syncing.take()
            syncing.put(partial(os.fdatasync, stream.fileno()), unsynced_bytes)
            syncing.start()
            unsynced_bytes = 0
        while syncing:
            syncing.take()
    finally:
        syncing.close()


def _fsync_file(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
