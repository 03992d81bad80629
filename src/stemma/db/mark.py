"""The mark: the last generation that was acknowledged, in a file beside the database.

SQLite reads its write-ahead log up to the first frame whose checksum is wrong and drops
what follows, for it cannot tell damage from a write that was cut short.  After a crash one
flipped bit in the log would therefore take back acknowledged transactions, silently.

So every write transaction leaves its generation here, after it is durable and before it
returns.  A database that is behind its mark has lost something.

Invariants:
    * The mark never says more than what is durable: it is written after the commit, and
      what a power cut takes from it only makes it say less.  Hence no fsync.
    * It is written in place in one call, and carries its own checksum; an empty file or one
      of zeros, as a power cut may leave it, says nothing.
    * It is read before the generation it is compared with, so a writer at work never makes
      a sound database look behind.
    * A process that has written holds the file by ``flock`` until it closes the database, so
      others can tell a writer at work from one that died.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from blake3 import blake3

_MAGIC: Final = "stemma-mark-1"
_LINE: Final = re.compile(rb"(stemma-mark-1 ([0-9]{20})) ([0-9a-f]{32})\n")
_SIZE_LIMIT_BYTES: Final = 256


def mark_path(database: Path) -> Path:
    """Return where the mark of a database file lies."""
    return database.with_name(f"{database.name}.mark")


def write_mark(database: Path, generation: int) -> None:
    """Leave the generation of a durable transaction; one that cannot be left protects less."""
    body = f"{_MAGIC} {generation:020d}"
    line = f"{body} {_checksum(body.encode())}\n".encode()
    with suppress(OSError):
        handle = os.open(mark_path(database), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(handle, line, 0)
        finally:
            os.close(handle)


def hold_mark(database: Path) -> int | None:
    """Say that this process writes, until the descriptor is closed; ``None``: could not be said."""
    try:
        handle = os.open(mark_path(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def is_mark_held(database: Path) -> bool:
    """Whether a living process has written to the database and has not closed it."""
    try:
        handle = os.open(mark_path(database), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def read_mark(database: Path) -> int:
    """Return the last generation that was acknowledged; 0 when there is no sound mark."""
    match = _LINE.fullmatch(_read(database))
    if match is None or _checksum(match[1]).encode() != match[3]:
        return 0
    return int(match[2])


def is_mark_damaged(database: Path) -> bool:
    """Whether there is a mark that is not what was written."""
    return bool(_read(database).strip(b"\0")) and not read_mark(database)


def _checksum(body: bytes) -> str:
    return blake3(body).hexdigest(length=16)


def _read(database: Path) -> bytes:
    try:
        with mark_path(database).open("rb") as stream:
            return stream.read(_SIZE_LIMIT_BYTES)
    except OSError:
        return b""
