"""What storing something answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from stemma.domain.digest import Digest
from stemma.domain.tree import TreeEntry

Progress = Callable[[int], None]
"""Called with the number of bytes read since the last call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file that the store holds.

    Attributes:
        digest: blake3 of its bytes.
        sha256: sha256 of its bytes.
        size_bytes: Its size.
        new_bytes: How many of its bytes were not in the store before (uncompressed).
    """

    digest: Digest
    sha256: Digest
    size_bytes: int
    new_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTree:
    """A tree that the store holds.

    Attributes:
        digest: blake3 of its canonical bytes.
        size_bytes: Sum of its files' sizes.
        file_count: Number of entries, links too.
        new_bytes: How many of its files' bytes were not in the store before (uncompressed).
        entries: Its entries, sorted by path.
        files: What was stored for each path that is not a link; empty for ``put_tree_from``.
    """

    digest: Digest
    size_bytes: int
    file_count: int
    new_bytes: int
    entries: tuple[TreeEntry, ...]
    files: dict[str, StoredFile] = field(default_factory=dict)
