"""What every writer of files here needs: errors of our own, and names that are durable."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    InvalidInputError,
    StemmaError,
    UnavailableError,
)

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_IN_THE_WAY: Final = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR})
_SYNC_THREADS: Final = 8
_SHORTER_HINT: Final = "use a shorter path"


def translate_os_error(error: OSError, action: str, *, is_write: bool = True) -> StemmaError:
    """Return our error for what the operating system refused while doing ``action``."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return UnavailableError(
            f"no room to {action}: {reason}",
            code="disk-full",
            hint="df -h; free some space (stemma gc --dry-run shows what may go), run it again",
        )
    if error.errno in _FORBIDDEN and is_write:
        return DeniedError(
            f"not allowed to {action}: {reason}",
            code="read-only",
            hint="make the folder writable, or use another one",
        )
    if error.errno in _FORBIDDEN:
        return DeniedError(
            f"not allowed to {action}: {reason}",
            code="not-readable",
            hint="check the permissions of the file and its folders",
        )
    if error.errno == errno.ENAMETOOLONG:
        return InvalidInputError(f"cannot {action}: {reason}", code="bad-path", hint=_SHORTER_HINT)
    if error.errno in _IN_THE_WAY and error.filename is not None:
        return ConflictError(
            f"cannot {action}: something else is in the way at {error.filename}",
            code="in-the-way",
            hint=f"ls -ld {error.filename}",
        )
    return UnavailableError(f"cannot {action}: {reason}", code="io-error", hint="stemma doctor")


@contextmanager
def translated_os_errors(action: str, *, is_write: bool = True) -> Iterator[None]:
    """Raise what the operating system refuses as errors of our own.

    Raises:
        UnavailableError: With code ``disk-full`` or ``io-error``.
        InvalidInputError: With code ``bad-path``: the path is too long for the system.
        ConflictError: With code ``in-the-way``: a file where a folder must be, or the reverse.
        DeniedError: With code ``read-only``, or ``not-readable`` when ``is_write`` is false.
    """
    try:
        yield
    except OSError as error:
        raise translate_os_error(error, action, is_write=is_write) from error


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def run_together(tasks: Sequence[tuple[Callable[..., None], tuple[object, ...]]]) -> None:
    """Run tasks that mostly wait for the disk; fsyncs that overlap share journal commits."""
    if len(tasks) == 1:
        task, arguments = tasks[0]
        task(*arguments)
        return
    with ThreadPoolExecutor(max_workers=_SYNC_THREADS) as pool:
        futures = [pool.submit(task, *arguments) for task, arguments in tasks]
    for future in futures:
        future.result()
