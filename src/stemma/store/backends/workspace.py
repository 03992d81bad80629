"""Where a writer keeps temporary files, and how it makes folders that last.

Invariants:
    * Temporary files rest in ``tmp/<token>/``, beside ``tmp/<token>.lock`` that their process
      holds by ``flock``; whoever finds the lock free knows that the owner is dead and removes both.
    * Folders are made once, and their parents are fsynced before anybody relies on them.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import weakref
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Final, final

from stemma.store.backends.files import fsync_folder

TEMPORARY: Final = "tmp"
"""Name of the folder, beside those of the keys."""


@final
class Workspace:
    """What one backend needs to write; nothing is made before it is needed."""

    def __init__(self, root: Path) -> None:
        """Name the folder of the store."""
        self._root = root
        self._guard = Lock()
        self._tenancy: _Tenancy | None = None
        self._durable_folders: set[Path] = set()

    def new_temporary(self) -> Path:
        """Name a file that does not exist, on the file system of the store."""
        with self._guard:
            if self._tenancy is None:
                self.make_folders([self._root / TEMPORARY])
                _remove_abandoned(self._root / TEMPORARY)
                self._tenancy = _Tenancy(self._root / TEMPORARY)
                weakref.finalize(self, self._tenancy.close)
            return self._tenancy.folder / secrets.token_hex(8)

    def make_folders(self, folders: Iterable[Path]) -> None:
        """Make folders, and fsync their parents up to the root's own parent once."""
        fresh: set[Path] = set()
        for folder in set(folders) - self._durable_folders:
            folder.mkdir(parents=True, exist_ok=True)
            while folder not in self._durable_folders and folder != self._root.parent:
                fresh.add(folder)
                folder = folder.parent  # noqa: PLW2901  climbing is the point
        for parent in {folder.parent for folder in fresh}:
            fsync_folder(parent)
        self._durable_folders |= fresh

    def close(self) -> None:
        """Remove the temporary folder; a later write makes another."""
        with self._guard:
            if self._tenancy is not None:
                self._tenancy.close()
                self._tenancy = None


class _Tenancy:
    """A folder for temporary files whose lock tells whether its owner lives."""

    def __init__(self, parent: Path) -> None:
        """Make and lock a new folder."""
        while True:
            token = secrets.token_hex(8)
            self._lock_path = parent / f"{token}.lock"
            self._handle = os.open(
                self._lock_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
            )
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            # A cleaner may have taken the lock file between its creation and our lock.
            if self._lock_path.exists():
                break
            os.close(self._handle)
        self.folder = parent / token
        self.folder.mkdir()
        self._owner_pid = os.getpid()

    def close(self) -> None:
        """Remove the folder, then the lock."""
        if self._handle < 0 or self._owner_pid != os.getpid():  # a forked child owns nothing
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = -1


def _remove_abandoned(parent: Path) -> None:
    """Remove the workspaces of processes that are dead."""
    for lock_path in parent.glob("*.lock"):
        try:
            handle = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
            lock_path.unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)
