"""Hashing of bytes, streams and files into ``Digest`` values.

Invariants:
    * blake3 names content inside the store; sha256 is taken of every file alongside;
      md5 only when a foreign protocol asks for it.
    * Streams are read in blocks: memory does not grow with the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from blake3 import blake3

from stemma.domain.digest import Algorithm, Digest

_BLOCK_BYTES: Final = 1 << 20


class Hasher(Protocol):
    """What blake3 and hashlib have in common."""

    def update(self, data: bytes, /) -> object:
        """Take in more bytes."""
        ...

    def digest(self) -> bytes:
        """Return the raw value."""
        ...

    def hexdigest(self) -> str:
        """Return the hexadecimal value."""
        ...


def new_hasher(algorithm: Algorithm) -> Hasher:
    """Start a hash of that algorithm."""
    match algorithm:
        case Algorithm.BLAKE3:
            return blake3()
        case Algorithm.SHA256:
            return hashlib.sha256()
        case Algorithm.MD5:
            return hashlib.md5(usedforsecurity=False)


def blake3_raw(data: bytes | memoryview) -> bytes:
    """Return the raw 32-byte blake3 of ``data``."""
    return blake3(data).digest()


def hash_bytes(data: bytes, algorithm: Algorithm = Algorithm.BLAKE3) -> Digest:
    """Return the digest of ``data``."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return Digest(algorithm, hasher.hexdigest())


def hash_stream(stream: BinaryIO, algorithm: Algorithm = Algorithm.BLAKE3) -> Digest:
    """Return the digest of everything that is left in ``stream``."""
    hasher = new_hasher(algorithm)
    while block := stream.read(_BLOCK_BYTES):
        hasher.update(block)
    return Digest(algorithm, hasher.hexdigest())


def hash_file(path: Path, algorithm: Algorithm = Algorithm.BLAKE3) -> Digest:
    """Return the digest of a file's bytes."""
    with path.open("rb") as stream:
        return hash_stream(stream, algorithm)
