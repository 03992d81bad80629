"""Files while they are read for storing: hashed on the way, refused when they change.

Invariants:
    * A file is opened once, never through a link, and only if it is a regular file.
    * What the operating system refuses is one of our own errors.

This module does not know chunks.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Self, final

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.store.backends.local import translated_os_errors
from stemma.store.cutting import Readable
from stemma.store.hashing import new_hasher
from stemma.store.pipeline import Lane

Progress = Callable[[int], None]
"""Called with the number of bytes read since the last call."""

_CLOCK_TICK_SECONDS: Final = 0.02
_HASHED_BYTES: Final = 1 << 20
"""Small reads are hashed together: each hand-over to the thread costs."""

_UNHASHED_BYTES: Final = 16 << 20


@final
class HashingReader:
    """Passes a stream on while counting it, and hashes it beside whoever works with the bytes.

    Attributes:
        size_bytes: How much was read.
    """

    def __init__(self, stream: Readable, progress: Progress | None, *, threads: int = 1) -> None:
        """Start with nothing read; ``threads`` may be 0 for none."""
        self._stream = stream
        self._progress = progress
        self._blake3 = new_hasher(Algorithm.BLAKE3)
        self._sha256 = new_hasher(Algorithm.SHA256)
        self._lane: Lane[None] = Lane(threads=min(threads, 1), limit_bytes=_UNHASHED_BYTES)
        self._blocks: list[bytes] = []
        self._block_bytes = 0
        self.size_bytes = 0

    def __enter__(self) -> Self:
        """Return itself; leaving ends the thread."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread, whatever was read."""
        self._lane.close()

    def read(self, size_bytes: int, /) -> bytes:
        """Return up to that many bytes; none at the end."""
        block = self._stream.read(size_bytes)
        self.size_bytes += len(block)
        self._blocks.append(block)
        self._block_bytes += len(block)
        if self._block_bytes >= _HASHED_BYTES:
            self._hand_on()
        if self._progress is not None and block:
            self._progress(len(block))
        return block

    def _hand_on(self) -> None:
        self._lane.put(partial(self._hash, self._blocks), self._block_bytes)
        self._blocks, self._block_bytes = [], 0
        while self._lane.is_full:
            self._lane.take()

    def _hash(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self._blake3.update(block)
            self._sha256.update(block)

    def digests(self) -> tuple[Digest, Digest]:
        """Return blake3 and sha256 of what was read."""
        while self._lane:
            self._lane.take()
        self._hash(self._blocks)
        self._blocks, self._block_bytes = [], 0
        return (
            Digest.blake3(self._blake3.hexdigest()),
            Digest.sha256(self._sha256.hexdigest()),
        )


@final
class Source:
    """A file whose read errors are translated."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        """Read from a stream of this file."""
        self._stream = stream
        self._path = path

    def read(self, size_bytes: int, /) -> bytes:
        """Return up to that many bytes; none at the end."""
        with translated_os_errors(f"read {self._path}", is_write=False):
            return self._stream.read(size_bytes)


def open_regular(path: Path) -> int:
    """Open a file and return its handle.

    Raises:
        NotFoundError: If it does not exist (``file-not-found``).
        InvalidInputError: If it is not a regular file (``not-a-file``).
        ConflictError: If it is a link (``file-changed``).
    """
    # O_NONBLOCK: a named pipe must be refused, not waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"no file {path}", code="file-not-found", hint="check the path"
        ) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _changed(path, "became a link") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InvalidInputError(f"{path} is not a file", code="not-a-file", hint="name a file")
    return handle


def _changed(path: Path, how: str) -> ConflictError:
    return ConflictError(
        f"{path} {how} while it was captured",
        code="file-changed",
        hint="wait until nothing writes to it, and run the command again",
    )


def settled(handle: int) -> os.stat_result:
    """Return the file's facts, late enough for any later write to show in them.

    Clocks of file systems tick every few milliseconds: a write in the same tick as
    the last one would leave the modification time as it is.
    """
    facts = os.fstat(handle)
    age_seconds = time.time() - facts.st_mtime
    if 0 <= age_seconds < _CLOCK_TICK_SECONDS:
        time.sleep(_CLOCK_TICK_SECONDS)
        facts = os.fstat(handle)
    return facts


def refuse_change(
    path: Path, before: os.stat_result, after: os.stat_result, size_bytes: int
) -> None:
    """Raise unless the file is what it was and all of it was read.

    Raises:
        ConflictError: With code ``file-changed``.
    """
    try:
        named = path.lstat()
    except OSError as error:
        raise _changed(path, "vanished") from error

    def facts(status: os.stat_result) -> tuple[int, int, int, int]:
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    if not facts(before) == facts(after) == facts(named) or size_bytes != after.st_size:
        raise _changed(path, "changed")
