"""Brings the bytes of a recording into the store with one flush, then names its trees.

Invariants:
    * Nothing is named before its bytes are durable: every file and blob first, trees after.
    * A file that no longer is what was captured is refused, never stored under a wrong identity.

This module knows files and blobs, not components.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import final

from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.tree import EntryKind, TreeEntry, check_link, check_paths
from stemma.store.ingest import Batch, StoredFile
from stemma.store.objects import ObjectStore, StoredTree


@final
class Staging:
    """Collects files and blobs, then stores trees of them."""

    def __init__(self, objects: ObjectStore) -> None:
        """Start with nothing pending."""
        self._objects = objects
        self._batch = Batch(objects.backend, objects.index)
        self._by_path: dict[Path, StoredFile] = {}

    def add_blob(self, data: bytes) -> Digest:
        """Take in bytes and return their digest; durable after the next ``store_tree``."""
        return self._batch.add_stream(io.BytesIO(data)).digest

    def add_files(
        self, files: Mapping[str, Path], stamps: Mapping[str, tuple[int, int]] | None = None
    ) -> StagedFiles:
        """Take in files by the path they have in their tree.

        Raises:
            ConflictError: If a file changed since it was captured (``file-changed``).
            NotFoundError: If a file is gone (``file-not-found``).
            InvalidInputError: If a name or a link may not be in a version.
        """
        check_paths(files)
        entries: list[TreeEntry] = []
        stored: dict[str, StoredFile] = {}
        for name, path in sorted(files.items()):
            status = _look(path)
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(path)  # noqa: PTH115 -- Path would normalise the target
                check_link(name, target)
                entries.append(
                    TreeEntry(
                        path=name, kind=EntryKind.SYMLINK, size_bytes=0, digest=None, target=target
                    )
                )
                continue
            stored[name] = self._add_file(path)
            _refuse_change(name, path, (stamps or {}).get(name))
            entries.append(
                TreeEntry(
                    path=name,
                    kind=EntryKind.EXECUTABLE if status.st_mode & stat.S_IXUSR else EntryKind.FILE,
                    size_bytes=stored[name].size_bytes,
                    digest=stored[name].digest,
                )
            )
        return StagedFiles(entries=tuple(entries), files=stored)

    def _add_file(self, path: Path) -> StoredFile:
        """Read each file once, though code and pipeline share most of theirs."""
        if path not in self._by_path:
            self._by_path[path] = self._batch.add_path(path)
        return self._by_path[path]

    def flush(self) -> None:
        """Make everything taken in durable."""
        self._batch.flush()

    def store_tree(self, files: StagedFiles) -> StoredTree:
        """Store a tree of files that were taken in and flushed."""
        return self._objects.put_tree_from(files.entries)


@final
class StagedFiles:
    """Files on their way into one tree.

    Attributes:
        entries: Entries of the tree.
        files: What was stored for each path that is not a link.
    """

    __slots__ = ("entries", "files")

    def __init__(self, entries: tuple[TreeEntry, ...], files: dict[str, StoredFile]) -> None:
        """Keep entries and files."""
        self.entries = entries
        self.files = files

    @property
    def digests(self) -> dict[str, Digest]:
        """blake3 by path, of every file that is not a link."""
        return {path: file.digest for path, file in self.files.items()}


def _look(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"no file {path}: it was captured and is gone",
            code="file-not-found",
            hint="record again; keep the file until the run has ended",
        ) from error
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be read: {error.strerror}", code="unreadable-file"
        ) from error


def _refuse_change(name: str, path: Path, stamp: tuple[int, int] | None) -> None:
    if stamp is None:
        return
    status = _look(path)
    if (status.st_size, status.st_mtime_ns) != stamp:
        raise ConflictError(
            f"{path} changed while it was captured ({name})",
            code="file-changed",
            hint="record again when nothing writes to it",
        )
