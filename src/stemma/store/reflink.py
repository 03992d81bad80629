"""``clone_file``: a copy that shares its bytes on the disk with another file, where that can be.

btrfs, XFS and others keep such a copy's blocks once, until one of the two is written to.

Invariants:
    * A clone is read and hashed before it counts: its source may have rotted since it was made.
    * Where no clone can be had there is none, silently, and nothing of it is left.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from stemma.domain.digest import Digest
from stemma.store.hashing import hash_file

CLONED_BYTES: Final = 64 << 10
"""Smaller files are not worth the call."""
_FICLONE: Final = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_READING: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_MAKING: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def clone_file(source: Path, target: Path, digest: Digest, mode: int) -> bool:
    """Make ``target`` a clone of ``source``; returns whether it holds what ``digest`` names.

    Args:
        source: A file that should hold it, which may be gone.
        target: Where nothing is yet; nor is there when the answer is no.
        digest: blake3 of the bytes.
        mode: Mode of the new file, less the process's mask.
    """
    with suppress(OSError):  # gone, on another disk, or on one that cannot
        _clone(source, target, mode)
        if hash_file(target) == digest:
            return True
    target.unlink(missing_ok=True)
    return False


def _clone(source: Path, target: Path, mode: int) -> None:
    read = os.open(source, _READING)
    try:
        made = os.open(target, _MAKING, mode)
        try:
            fcntl.ioctl(made, _FICLONE, read)
        finally:
            os.close(made)
    finally:
        os.close(read)
