"""``ObjectStore``: files, trees and records by digest, on any ``BlobBackend``.

Invariants (normative text: ``docs/formats/store.md``):
    * Nothing is delivered unverified.
    * Write order: frames durable → index rows → recipes durable → alias rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import final

from stemma.domain.digest import Digest
from stemma.domain.tree import Tree, TreeEntry
from stemma.store.backends.base import BlobBackend
from stemma.store.index import ChunkIndex
from stemma.store.ingest import Progress, StoredFile, StoredTree

__all__ = ["ObjectStore", "Progress", "StoredFile", "StoredTree"]


@final
class ObjectStore:
    """Files, trees and records by digest."""

    def __init__(self, backend: BlobBackend, index: ChunkIndex) -> None:
        """Stand on a backend and an index."""
        self.backend = backend
        self.index = index

    def put_bytes(self, data: bytes) -> StoredFile:
        """Store bytes as a file."""
        raise NotImplementedError

    def put_file(self, path: Path, *, progress: Progress | None = None) -> StoredFile:
        """Store a file."""
        raise NotImplementedError

    def put_tree(
        self, root: Path, paths: Sequence[str], *, progress: Progress | None = None
    ) -> StoredTree:
        """Store these files of a folder as a tree."""
        raise NotImplementedError

    def put_tree_from(self, entries: Iterable[TreeEntry]) -> StoredTree:
        """Store a tree of files that are in the store already."""
        raise NotImplementedError

    def read_bytes(self, digest: Digest) -> bytes:
        """Return a file's bytes, verified; ``digest`` may be blake3, sha256 or md5."""
        raise NotImplementedError

    def stream(self, digest: Digest) -> Iterator[bytes]:
        """Yield a file's bytes."""
        raise NotImplementedError

    def read_tree(self, digest: Digest) -> Tree:
        """Return a tree, verified."""
        raise NotImplementedError

    def export_file(self, digest: Digest, target: Path, *, is_executable: bool = False) -> None:
        """Write a file out; nothing is at ``target`` unless it was verified."""
        raise NotImplementedError

    def export_tree(self, digest: Digest, target: Path) -> None:
        """Write a tree out into the folder ``target``."""
        raise NotImplementedError

    def has(self, digest: Digest) -> bool:
        """Return whether this file is stored."""
        raise NotImplementedError

    def has_tree(self, digest: Digest) -> bool:
        """Return whether this tree is stored."""
        raise NotImplementedError

    def size(self, digest: Digest) -> int:
        """Return a file's size in bytes."""
        raise NotImplementedError

    def put_record(self, kind: str, data: bytes) -> Digest:
        """Store a record; its sha256 names it."""
        raise NotImplementedError

    def read_record(self, kind: str, digest: Digest) -> bytes:
        """Return a record, verified."""
        raise NotImplementedError

    def list_records(self, kind: str) -> list[Digest]:
        """Return every record of a kind, sorted."""
        raise NotImplementedError

    def rebuild_index(self, progress: Progress | None = None) -> None:
        """Make the index again from the blobs."""
        raise NotImplementedError
