"""``ObjectStore``: files, trees and records by digest, on any ``BlobBackend``.

Invariants (normative text: ``docs/formats/store.md``):
    * When a ``put`` returns, what it stored survives a power cut.
    * Nothing is delivered unverified, and nothing is exported half.
    * Files are named by blake3; where a file is asked for, its sha256 or md5 will do
      when the index has that alias.
    * A caller that writes holds ``stemma.store.locks.StoreLock`` shared until the record
      that names the result is stored; this class takes no lock.

It knows nothing of models, tensors or versions.

Example:
    >>> store = ObjectStore(MemoryBackend(), MemoryChunkIndex())
    >>> store.read_bytes(store.put_bytes(b"weights").digest)
    b'weights'
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from stemma.domain.tree import EntryKind, Tree, TreeEntry, encode_tree
from stemma.store import export, trees
from stemma.store.backends.base import BlobBackend
from stemma.store.beside import NOTHING, look_beside
from stemma.store.hashing import hash_bytes
from stemma.store.index import ChunkIndex
from stemma.store.ingest import Batch, Progress, StoredFile, StoredTree
from stemma.store.keys import (
    parse_key,
    recipe_key,
    record_key,
    records_prefix,
    tree_key,
)
from stemma.store.lineage import in_reading_order
from stemma.store.ranges import read_range
from stemma.store.reading import NOT_HERE_HINT, Reader
from stemma.store.reindex import RebuildReport, rebuild_index

__all__ = ["ObjectStore", "Progress", "RebuildReport", "StoredFile", "StoredTree"]

_NO_TWINS: Final[Mapping[Digest, Path]] = MappingProxyType({})


@final
class ObjectStore:
    """Files, trees and records by digest.

    Attributes:
        backend: Where the bytes rest.
        index: Where chunks and aliases are found.
        reader: Reads chunk by chunk.
    """

    def __init__(self, backend: BlobBackend, index: ChunkIndex) -> None:
        """Stand on a backend and an index."""
        self.backend = backend
        self.index = index
        self.reader = Reader(backend, index)

    def put_bytes(self, data: bytes) -> StoredFile:
        """Store bytes as a file."""
        batch = Batch(self.backend, self.index)
        stored = batch.add_stream(io.BytesIO(data))
        batch.flush()
        return stored

    def put_file(
        self, path: Path, *, progress: Progress | None = None, parents: Sequence[Digest] = ()
    ) -> StoredFile:
        """Store a file; a link is followed.

        Args:
            path: The file.
            progress: Called with the number of bytes read since the last call.
            parents: Stored files that it may be another version of, the likeliest first.

        Raises:
            NotFoundError: If it does not exist (``file-not-found``).
            InvalidInputError: If it is not a regular file (``not-a-file``).
            ConflictError: If it changes while it is read (``file-changed``).
        """
        batch = Batch(self.backend, self.index)
        stored = batch.add_path(path.resolve(), progress, parents=parents)
        batch.flush()
        return stored

    def put_tree(
        self, root: Path, paths: Sequence[str], *, progress: Progress | None = None
    ) -> StoredTree:
        """Store these files and links of a folder as a tree.

        Raises:
            InvalidInputError: If a name or a link may not be in a tree, or a path is not a file.
            NotFoundError: If a path does not exist (``file-not-found``).
            ConflictError: If a file changes while it is read (``file-changed``).
        """
        batch = Batch(self.backend, self.index)
        sightings = list(trees.look_at(root, paths))
        sizes = {
            sighting.path: sighting.size_bytes
            for sighting in sightings
            if sighting.kind is not EntryKind.SYMLINK
        }
        beside = look_beside({path: root / path for path in sizes})
        files = {
            path: batch.add_path(root / path, progress, beside=beside.get(path, NOTHING))
            for path in in_reading_order(sizes)
        }
        entries = [
            TreeEntry(
                path=sighting.path,
                kind=sighting.kind,
                size_bytes=files[sighting.path].size_bytes if sighting.path in files else 0,
                digest=files[sighting.path].digest if sighting.path in files else None,
                target=sighting.target,
            )
            for sighting in sightings
        ]
        batch.flush()
        return _put_tree(self.backend, Tree.of(entries), files)

    def put_tree_from(self, entries: Iterable[TreeEntry]) -> StoredTree:
        """Store a tree of files that are in the store already.

        Raises:
            NotFoundError: If a file is not stored (``file-not-stored``).
            InvalidInputError: If a name or link may not be in a tree, or a size is wrong.
        """
        tree = Tree.of(entries)
        for entry in tree.entries:
            if entry.digest is not None and self.size(entry.digest) != entry.size_bytes:
                raise InvalidInputError(
                    f"{entry.path!r} is said to have {entry.size_bytes} bytes and has"
                    f" {self.size(entry.digest)}",
                    code="bad-tree-entry",
                )
        return _put_tree(self.backend, tree, {})

    def stream(self, digest: Digest) -> Iterator[bytes]:
        """Yield a file's bytes, each chunk verified; the last one only if the whole is right.

        Raises:
            NotFoundError: If the file is not stored (``file-not-stored``).
            IntegrityError: If anything stored is missing or damaged.
        """
        return self.reader.stream(digest)

    def read_bytes(self, digest: Digest) -> bytes:
        """Return a file's bytes, verified; errors as for ``stream``."""
        return b"".join(self.stream(digest))

    def read_range(self, digest: Digest, offset: int, size_bytes: int) -> bytes:
        """Return a stretch of a file, reading only the chunks it touches, each verified.

        The file as a whole is not verified.  Less is returned where the file ends.

        Raises:
            NotFoundError: If the file is not stored (``file-not-stored``).
            IntegrityError: If a chunk that is needed is missing or damaged.
        """
        return read_range(self.reader, digest, offset, size_bytes)

    def read_tree(self, digest: Digest) -> Tree:
        """Return a tree, verified.

        Raises:
            NotFoundError: If it is not stored (``tree-not-stored``).
            IntegrityError: If it is damaged.
        """
        try:
            data = self.backend.get(tree_key(digest))
        except NotFoundError as error:
            raise NotFoundError(
                f"the store holds no tree {digest}", code="tree-not-stored", hint=NOT_HERE_HINT
            ) from error
        return trees.verified_tree(data, digest)

    def export_file(self, digest: Digest, target: Path, *, is_executable: bool = False) -> None:
        """Write a file out, replacing a file at ``target`` only once all is verified."""
        export.write_file(self.stream(digest), target, is_executable=is_executable)

    def export_tree(
        self, digest: Digest, target: Path, twins: Mapping[Digest, Path] = _NO_TWINS
    ) -> None:
        """Write a tree out into ``target``, a folder that is missing or empty.

        Args:
            digest: Which tree.
            target: Where.
            twins: Files that should hold the same as some of it; what they hold is checked, and
                their room on the disk shared where the file system can.

        Raises:
            ConflictError: If something is there (``target-exists``).
        """
        export.write_tree(self.read_tree(digest), self.stream, target, twins)

    def has(self, digest: Digest) -> bool:
        """Return whether this file is stored; ``digest`` may be blake3, sha256 or md5."""
        try:
            return self.backend.exists(recipe_key(self.reader.resolve(digest)))
        except NotFoundError:
            return False

    def has_tree(self, digest: Digest) -> bool:
        """Return whether this tree is stored."""
        return self.backend.exists(tree_key(digest))

    def size(self, digest: Digest) -> int:
        """Return a file's size in bytes.

        Raises:
            NotFoundError: If the file is not stored (``file-not-stored``).
        """
        return self.reader.recipe_of(digest).size_bytes

    def sha256(self, digest: Digest) -> Digest:
        """Return the sha256 of a stored file.

        Raises:
            NotFoundError: If the file is not stored (``file-not-stored``).
        """
        return self.reader.recipe_of(digest).sha256

    def chunk_sizes(self, tree: Digest) -> dict[bytes, int]:
        """Return the uncompressed size of every chunk of a tree's files, by raw digest."""
        return {
            chunk.digest: chunk.size_bytes
            for entry in self.read_tree(tree).entries
            if entry.digest is not None
            for chunk in self.reader.recipe(entry.digest).chunks
        }

    def put_record(self, kind: str, data: bytes) -> Digest:
        """Store a record; its sha256 names it."""
        digest = hash_bytes(data, Algorithm.SHA256)
        _put_named(self.backend, record_key(kind, digest), data)
        return digest

    def read_record(self, kind: str, digest: Digest) -> bytes:
        """Return a record, verified.

        Raises:
            NotFoundError: If there is none (``record-not-stored``).
            IntegrityError: If it is damaged.
        """
        try:
            data = self.backend.get(record_key(kind, digest))
        except NotFoundError as error:
            raise NotFoundError(
                f"the store holds no {kind} {digest}",
                code="record-not-stored",
                hint="stemma doctor",
            ) from error
        if hash_bytes(data, Algorithm.SHA256) != digest:
            raise IntegrityError(
                f"damaged {kind} {digest}: its bytes do not match its digest",
                code="record-damaged",
                hint="stemma doctor",
            )
        return data

    def list_records(self, kind: str) -> list[Digest]:
        """Return every record of a kind, sorted; foreign files are left to ``verify``."""
        found = [parse_key(stat.key) for stat in self.backend.list(records_prefix(kind))]
        return sorted(key.digest for key in found if key is not None)

    def rebuild_index(self, progress: Progress | None = None) -> RebuildReport:
        """Make the index again from the headers of frames and from recipes.

        What cannot be read is skipped and reported; run it again after a crash.
        """
        return rebuild_index(self.backend, self.index, self.reader, progress)


def _put_tree(backend: BlobBackend, tree: Tree, files: dict[str, StoredFile]) -> StoredTree:
    data = encode_tree(tree)
    digest = hash_bytes(data)
    _put_named(backend, tree_key(digest), data)
    return StoredTree(
        digest=digest,
        size_bytes=tree.size_bytes,
        file_count=len(tree.entries),
        new_bytes=sum(file.new_bytes for file in files.values()),
        entries=tree.entries,
        files=files,
    )


def _put_named(backend: BlobBackend, key: str, data: bytes) -> None:
    """Write a blob; when it exists, it must be sound before anybody relies on it."""
    if not backend.put(key, data) and backend.get(key) != data:
        raise IntegrityError(
            f"{key} exists and its bytes are not what its name says",
            code="object-damaged",
            hint="stemma doctor",
        )
