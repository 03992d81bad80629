"""``Leases``: what is being read just now, kept from garbage collection without stopping it.

Invariants (normative text: ``docs/formats/store.md`` §Leases):
    * A lease is a file whose reader holds it by ``flock``: it dies with its process, and a
      file that nobody holds means nothing and is removed by the next collection.
    * A collection that begins after ``take`` returned sees the lease; who takes one while a
      collection runs must wait for its end, unless that one keeps the digest anyway.
    * Who may not write here gets none.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, final

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.store.backends.local import translated_os_errors

_FOLDER: Final = "leases"
_LIMIT_BYTES: Final = 256


@final
class Lease:
    """One digest, kept until ``release``."""

    def __init__(self, path: Path) -> None:
        """Make the file and lock it."""
        self._path = path
        self._process = os.getpid()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._handle = os.open(path, flags, 0o666)
        fcntl.flock(self._handle, fcntl.LOCK_EX)

    def write(self, digest: Digest) -> bool:
        """Say what is kept; false when a collection took the file for a dead reader's."""
        os.write(self._handle, str(digest).encode("ascii"))
        return self._path.exists()

    def release(self) -> None:
        """Give it up; a forked process leaves its parent's alone."""
        if self._process == os.getpid():
            self._process = 0
            with suppress(OSError):
                self._path.unlink()
            os.close(self._handle)


@final
class Leases:
    """The leases of one store, in the folder around it."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is opened yet."""
        self._folder = folder / _FOLDER

    def take(self, digest: Digest) -> Lease | None:
        """Keep a record or tree from collections that begin from now on.

        Returns:
            The lease; ``None`` where it cannot be written, on a read-only or full disk.
        """
        try:
            self._folder.mkdir(exist_ok=True)
            while True:
                lease = Lease(self._folder / secrets.token_hex(8))
                with ExitStack() as stack:
                    stack.callback(lease.release)
                    if lease.write(digest):
                        stack.pop_all()
                        return lease
        except OSError:
            return None

    def living(self) -> list[Digest]:
        """Return what is being read, and remove what dead readers left.

        Raises:
            UnavailableError: If a lease cannot be read; nobody can tell what it keeps.
        """
        with translated_os_errors(f"read {self._folder}", is_write=False):
            if not self._folder.is_dir():
                return []
            found = [_read(path) for path in sorted(self._folder.iterdir())]
        return [digest for digest in found if digest is not None]


def _read(path: Path) -> Digest | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None  # released meanwhile
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(handle, _LIMIT_BYTES).decode("ascii", "replace")
        with suppress(InvalidInputError):
            return Digest.parse(text)
        # Not written yet: its reader waits for the end of this collection.
        return None
    else:
        path.unlink(missing_ok=True)
        return None
    finally:
        os.close(handle)
