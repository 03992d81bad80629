"""Folders for a run's files in the making, which a crash does not leave behind for ever.

Invariants:
    * A folder belongs to whoever holds its lock file by ``flock``: the lock goes with its
      process, so a folder whose lock is free has lost its owner.
    * The lock is taken before the folder is made and given up after the folder is gone.
    * Only what a work folder is named like is ever removed.

Example:
    >>> folder = WorkFolder(state / "tmp", "r-7f3c")  # doctest: +SKIP
    >>> folder.close()  # doctest: +SKIP
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import Final, final

_PREFIX: Final = "r-"
_LOCK_SUFFIX: Final = ".lock"


@final
class WorkFolder:
    """A new, empty folder of one run.

    Attributes:
        path: Where it is.
    """

    def __init__(self, parent: Path, run: str) -> None:
        """Remove folders whose process is dead, then make one for ``run``."""
        parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(parent)
        while True:
            self.path = parent / f"{run}-{secrets.token_hex(4)}"
            self._lock_path = _lock_path(self.path)
            self._handle = os.open(
                self._lock_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
            )
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            # A cleaner may have taken the lock file between its creation and our lock.
            if self._lock_path.exists():
                break
            os.close(self._handle)
        self.path.mkdir()

    def close(self) -> None:
        """Remove the folder, then the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._handle)


def remove_abandoned(parent: Path) -> list[Path]:
    """Remove the folders under ``parent`` whose process is dead, and return them."""
    # Folders first: one that is made later has its lock by then, or is not in this list.
    folders = {path for path in parent.glob(f"{_PREFIX}*") if path.suffix != _LOCK_SUFFIX}
    locks = parent.glob(f"{_PREFIX}*{_LOCK_SUFFIX}")
    folders |= {path.with_suffix("") for path in locks}
    return [folder for folder in sorted(folders) if _remove(folder)]


def _remove(folder: Path) -> bool:
    """Remove a folder unless its owner lives; one without a lock has none."""
    lock_path = _lock_path(folder)
    try:
        handle = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return False  # Read-only, or another user's: not ours to clean.
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
        lock_path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK_SUFFIX)
