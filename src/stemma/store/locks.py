"""``StoreLock``: writers share the store, garbage collection has it alone.

Invariants:
    * The lock is an ``flock`` on ``store.lock``: it dies with its process, so no crash
      leaves anything to remove by hand.  The file itself stays and means nothing.
    * A writer holds it from its first ``put`` until the record and row that name the
      result are durable, so that collection never sees half a version.
    * Not re-entrant: taking it exclusively while holding it shared waits until the timeout.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

from stemma.domain.errors import LockedError
from stemma.store.backends.local import translated_os_errors

_POLL_SECONDS: Final = 0.02
_PROC_LOCKS: Final = Path("/proc/locks")


@final
class StoreLock:
    """The lock of one store, in the folder around it."""

    def __init__(self, folder: Path) -> None:
        """Name the lock file; nothing is opened yet."""
        self._path = folder / "store.lock"

    @contextmanager
    def shared(self, *, timeout_seconds: float = 30.0) -> Iterator[None]:
        """Hold the lock with other writers.

        Raises:
            LockedError: If somebody holds it exclusively for longer than the timeout.
        """
        with self._held(fcntl.LOCK_SH, timeout_seconds):
            yield

    @contextmanager
    def exclusive(self, *, timeout_seconds: float = 30.0) -> Iterator[None]:
        """Hold the lock alone.

        Raises:
            LockedError: If anybody holds it for longer than the timeout.
        """
        with self._held(fcntl.LOCK_EX, timeout_seconds):
            yield

    @contextmanager
    def _held(self, mode: int, timeout_seconds: float) -> Iterator[None]:
        with translated_os_errors(f"lock {self._path}"):
            handle = self._open(mode)
        try:
            self._wait(handle, mode, timeout_seconds)
            yield
        finally:
            os.close(handle)

    def _open(self, mode: int) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            # Who may only read can still wait until nobody collects garbage.
            is_forbidden = error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}
            if mode != fcntl.LOCK_SH or not is_forbidden or not self._path.exists():
                raise
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def _wait(self, handle: int, mode: int, timeout_seconds: float) -> None:
        give_up_at = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(handle, mode | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= give_up_at:
                    raise LockedError(
                        f"{self._path.parent} is in use by {_holders(handle)}"
                        f" (waited {timeout_seconds:g} s)",
                        hint="wait for it to end; the lock goes with its process",
                    ) from error
                time.sleep(_POLL_SECONDS)
            else:
                return


def _holders(handle: int) -> str:
    """Name the processes that hold the lock, from the kernel's own table where there is one."""
    inode = os.fstat(handle).st_ino
    try:
        table = _PROC_LOCKS.read_text(encoding="ascii")
    except OSError:
        return "another process"
    # "1: FLOCK  ADVISORY  WRITE 1234 fd:00:5678 0 EOF"; waiters have "->" as second field.
    rows = [line.split() for line in table.splitlines()]
    holders = sorted(
        {
            row[4]
            for row in rows
            if row[1] == "FLOCK" and row[5].rpartition(":")[2] == str(inode) and row[4] != "0"
        }
    )
    return "process " + ", ".join(holders) if holders else "another process"
