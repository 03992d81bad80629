"""The ``BlobBackend`` Protocol: keys and bytes, nothing about digests or models.

Invariants every implementation keeps (``stemma.testing.blob_backend_contract`` checks them):
    * A blob is written once: ``put`` never replaces, and a key that exists holds complete bytes.
    * When ``put`` or ``put_many`` returns, the blobs survive a power cut.
    * Failures are ``stemma.domain.errors`` only.

A backend does not verify contents; ``stemma.store.objects`` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

from stemma.domain.errors import InvalidInputError

_KEY: Final = re.compile(r"[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*)+")
_KEY_LIMIT: Final = 512
_RESERVED: Final = ("packs/", "tmp/", "trash/")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStat:
    """One blob as a listing shows it.

    Attributes:
        key: Its key; a folder may also hold foreign names, which are listed as they are.
        size_bytes: Its size.
        modified_at: When it was written (aware, UTC).
    """

    key: str
    size_bytes: int
    modified_at: datetime


@runtime_checkable
class BlobBackend(Protocol):
    """Create-only storage of blobs by key."""

    def put(self, key: str, data: bytes) -> bool:
        """Write a blob durably unless the key exists; return whether it was created.

        Raises:
            InvalidInputError: If the key is malformed.
            UnavailableError: If there is no room (``disk-full``).
            DeniedError: If writing is not allowed (``read-only``).
        """
        ...

    def put_many(self, blobs: Mapping[str, bytes]) -> frozenset[str]:
        """Write many blobs durably, cheaper than one by one; return the keys that were created.

        After a crash any part of them may exist, each complete.
        """
        ...

    def get(self, key: str) -> bytes:
        """Return a blob.

        Raises:
            NotFoundError: If there is none (``blob-not-found``).
        """
        ...

    def get_range(self, key: str, offset: int, size_bytes: int) -> bytes:
        """Return up to ``size_bytes`` from ``offset``; less where the blob ends.

        Raises:
            NotFoundError: If there is no such blob (``blob-not-found``).
        """
        ...

    def exists(self, key: str) -> bool:
        """Return whether the key holds a blob."""
        ...

    def size(self, key: str) -> int:
        """Return a blob's size in bytes.

        Raises:
            NotFoundError: If there is none (``blob-not-found``).
        """
        ...

    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        """Yield every blob whose key starts with ``prefix``, in order of key."""
        ...

    def delete(self, key: str) -> bool:
        """Remove a blob durably; return whether it was there."""
        ...

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove many blobs durably, cheaper than one by one; missing ones are ignored."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Something a backend keeps for itself that is not as it was written.

    Attributes:
        kind: Stable machine name.
        key: Where it is, below the backend's root.
        detail: What is wrong, in words.
    """

    kind: str
    key: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TidyReport:
    """What tidying did.

    Attributes:
        rewritten: How many packs were rewritten, merged or removed.
        freed_bytes: How much less the packs take; negative when tidying made them larger.
    """

    rewritten: int
    freed_bytes: int


@runtime_checkable
class PackingBackend(Protocol):
    """A backend that keeps several blobs in one file, and must look after such files."""

    def tidy(self) -> TidyReport:
        """Give back the room of what was deleted; to be called under the store's lock, alone."""
        ...

    def damages(self) -> Iterator[Damage]:
        """Yield what is damaged beside the blobs themselves."""
        ...

    def mend(self) -> tuple[str, ...]:
        """Make anew what ``damages`` yields from what can be read; return what was mended."""
        ...


def check_key(key: str) -> None:
    """Refuse a key that is not ``folder/…/name`` of lower-case letters, digits and hyphens.

    Raises:
        InvalidInputError: With code ``bad-key``.
    """
    if len(key) > _KEY_LIMIT or not _KEY.fullmatch(key) or key.startswith(_RESERVED):
        raise InvalidInputError(f"not a blob key: {key[:80]!r}", code="bad-key")
