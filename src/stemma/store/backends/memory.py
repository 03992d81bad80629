"""A ``BlobBackend`` in memory, for tests and dry runs.

Invariants: those of ``stemma.store.backends.base``, except that nothing outlives the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import final

from stemma.domain.errors import NotFoundError
from stemma.store.backends.base import BlobStat, check_key


@final
class MemoryBackend:
    """Blobs in a dictionary.

    Attributes:
        blobs: The bytes by key; tests may damage them on purpose.
    """

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Start empty; ``clock`` dates the blobs."""
        self.blobs: dict[str, bytes] = {}
        self._modified: dict[str, datetime] = {}
        self._clock = clock

    def put(self, key: str, data: bytes) -> bool:
        """Write a blob unless the key exists; return whether it was created."""
        check_key(key)
        if key in self.blobs:
            return False
        self.blobs[key] = bytes(data)
        self._modified[key] = self._clock()
        return True

    def put_many(self, blobs: Mapping[str, bytes]) -> frozenset[str]:
        """Write many blobs; return the keys that were created."""
        return frozenset(key for key, data in blobs.items() if self.put(key, data))

    def get(self, key: str) -> bytes:
        """Return a blob."""
        check_key(key)
        try:
            return self.blobs[key]
        except KeyError:
            raise NotFoundError(f"no blob {key}", code="blob-not-found") from None

    def get_range(self, key: str, offset: int, size_bytes: int) -> bytes:
        """Return up to ``size_bytes`` from ``offset``."""
        return self.get(key)[offset : offset + size_bytes]

    def exists(self, key: str) -> bool:
        """Return whether the key holds a blob."""
        check_key(key)
        return key in self.blobs

    def size(self, key: str) -> int:
        """Return a blob's size in bytes."""
        return len(self.get(key))

    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        """Yield every blob whose key starts with ``prefix``, in order of key."""
        for key in sorted(self.blobs):
            if key.startswith(prefix):
                yield BlobStat(
                    key=key,
                    size_bytes=len(self.blobs[key]),
                    modified_at=self._modified.get(key) or self._clock(),
                )

    def delete(self, key: str) -> bool:
        """Remove a blob; return whether it was there."""
        check_key(key)
        self._modified.pop(key, None)
        return self.blobs.pop(key, None) is not None

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove many blobs."""
        for key in keys:
            self.delete(key)
