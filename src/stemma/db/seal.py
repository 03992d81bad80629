"""Seals a SQLite file, so that every flipped bit of it is found, used page or not.

``PRAGMA integrity_check`` says "ok" to most flipped bits, and row digests cover the
rows that are read, not indexes, free pages or rows that no longer turn up.  So, after
writing, the whole file is hashed into a sidecar, ``stemma.db.seal``: the generation
(``meta.generation``, raised by every write transaction), the file's blake3, and the
sidecar's own checksum.

**Closing** (``write_seal``).  The write-ahead log is folded into the file and truncated;
then the write lock is taken and the log looked at again.  When it is empty, nobody can
change the file while the lock is held, so generation and hash belong together.  When it
is not, somebody else has written meanwhile and will seal on closing; nothing is written.
The sidecar goes temp → fsync → rename → fsync of the folder.

**Opening** (``Claim``, then ``judge``).  The order is sidecar → hash → generation, and a
differing hash is damage *only* if the generation read last equals the sidecar's:

* A crash, or a writer at work, leaves a file that is ahead of its seal.  Its generation
  is higher then (read through the log, too), so the seal is stale, never wrong.
* Were the generation read before the hash, a writer could commit and fold its log into
  the file in between, and sound bytes would look damaged.
* A flipped bit might change the generation itself and so make damage look stale; but
  that row carries its own digest, and a mismatch there is damage.

A generation below the sealed or the acknowledged one (``stemma.db.mark``) means that rows
are gone: the file is an older one, or its log was damaged.

A stale seal says nothing else, except when the file still has the sealed hash and only its
log is newer, or a living process is at work on it, as a server is all the time.  Otherwise
SQLite is asked to compare tables with indexes, for a flipped bit in an index hides rows;
row digests and ``stemma doctor`` (rows against records) stand alone for the rest until the
next close.  A damaged sidecar is reported by doctor and replaced by the next write; the
file itself is whole.

A file over ``HASH_LIMIT_BYTES`` is hashed by doctor only: reading it on every command
would cost more than it protects.  This module does not repair; see
``stemma.catalog.rebuild``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from stemma.db.mark import read_mark

HASH_LIMIT_BYTES: Final = 256 * 1024 * 1024
"""Above this size only doctor hashes the file."""

_MAGIC: Final = "stemma-seal-1"
_READ_SIZE_BYTES: Final = 1024 * 1024


class SealState(Enum):
    """What the seal says about the file."""

    SOUND = "sound"
    STALE = "stale"
    MISSING = "missing"
    DAMAGED_SEAL = "damaged-seal"
    UNCHECKED = "unchecked"
    BEHIND = "behind"
    BROKEN = "broken"


class Seal(msgspec.Struct, frozen=True):
    """What the sidecar says.

    Attributes:
        generation: Write transactions the sealed state had seen.
        digest: blake3 of the file, hexadecimal.
    """

    generation: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What was found before the database was opened.

    Attributes:
        seal: The sidecar's content; ``None`` when missing or damaged.
        is_seal_damaged: There is a sidecar, but it is not what was written.
        digest: The file's hash; empty when it was not computed.
        size_bytes: The file's size; 0 when there was none.
        acknowledged: The generation that the file must have reached.
    """

    seal: Seal | None
    is_seal_damaged: bool
    digest: str
    size_bytes: int = 0
    acknowledged: int = 0

    @classmethod
    def examine(cls, database: Path, *, limit_bytes: int | None = HASH_LIMIT_BYTES) -> Claim:
        """Read the sidecar, then hash the file; the caller reads the generation afterwards."""
        acknowledged = read_mark(database)
        data = _read_sidecar(database)
        seal = _parse(data) if data is not None else None
        size_bytes = database.stat().st_size
        is_hashed = seal is not None and (limit_bytes is None or size_bytes <= limit_bytes)
        return cls(
            seal=seal,
            is_seal_damaged=data is not None and seal is None,
            digest=hash_file(database) if is_hashed else "",
            size_bytes=size_bytes,
            acknowledged=acknowledged,
        )

    def judge(self, generation: int) -> SealState:
        """Decide, given the generation that was read after the file was hashed."""
        if generation < max(self.acknowledged, self.seal.generation if self.seal else 0):
            return SealState.BEHIND
        if self.is_seal_damaged:
            return SealState.DAMAGED_SEAL
        if self.seal is None:
            return SealState.MISSING
        if self.seal.generation != generation:
            return SealState.STALE
        if not self.digest:
            return SealState.UNCHECKED
        return SealState.SOUND if self.digest == self.seal.digest else SealState.BROKEN

    def has_moved(self, generation: int) -> bool:
        """Whether the file itself, not only its log, is past its seal: rare, after a crash."""
        return (
            self.seal is not None
            and self.seal.generation != generation
            and self.digest not in {"", self.seal.digest}
        )


def known_generation(database: Path) -> int:
    """Return the generation that a file of this name has certainly reached; 0: unknown."""
    data = _read_sidecar(database)
    seal = _parse(data) if data is not None else None
    return max(read_mark(database), seal.generation if seal is not None else 0)


def sidecar_path(database: Path) -> Path:
    """Return where the seal of a database file lies."""
    return database.with_name(f"{database.name}.seal")


def hash_file(path: Path) -> str:
    """Return the file's blake3 in hexadecimal."""
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ_SIZE_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def is_log_empty(database: Path) -> bool:
    """Whether the write-ahead log holds nothing."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size == 0
    except FileNotFoundError:
        return True


def write_seal(database: Path, generation: int) -> None:
    """Hash the file and write its sidecar; the caller holds the write lock, the log is empty.

    Raises:
        OSError: If the sidecar cannot be written; the seal is stale then, nothing worse.
    """
    target = sidecar_path(database)
    body = f"{_MAGIC} {generation} {hash_file(database)}"
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(f"{body} {_checksum(body)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(body: str) -> str:
    return blake3(body.encode()).hexdigest(length=16)


def _read_sidecar(database: Path) -> bytes | None:
    try:
        return sidecar_path(database).read_bytes()
    except FileNotFoundError:
        return None


def _parse(data: bytes) -> Seal | None:
    """Return the sidecar's content, or ``None`` when it is not exactly what was written."""
    try:
        body, _, checksum = data.decode("ascii").removesuffix("\n").rpartition(" ")
        magic, generation, digest = body.split(" ")
    except ValueError:
        return None
    if not data.endswith(b"\n") or checksum != _checksum(body) or magic != _MAGIC:
        return None
    return Seal(int(generation), digest)
