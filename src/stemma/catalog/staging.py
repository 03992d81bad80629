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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, final

from stemma.catalog.rows import MANIFEST
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError, StemmaError
from stemma.domain.manifest import decode_manifest
from stemma.domain.tree import EntryKind, TreeEntry, check_link, check_paths
from stemma.store.beside import NOTHING, Beside, look_beside
from stemma.store.ingest import Batch, StoredFile
from stemma.store.lineage import in_reading_order
from stemma.store.objects import ObjectStore, StoredTree

EarlierFiles: TypeAlias = Sequence[tuple[str, Digest]]
"""Path and blake3 of files of earlier versions."""


@final
class Staging:
    """Collects files and blobs, then stores trees of them.

    Attributes:
        objects: The store.
    """

    def __init__(self, objects: ObjectStore) -> None:
        """Start with nothing pending."""
        self.objects = objects
        self._batch = Batch(objects.backend, objects.index)
        self._by_path: dict[Path, StoredFile] = {}

    def add_blob(self, data: bytes) -> Digest:
        """Take in bytes and return their digest; durable after the next ``store_tree``."""
        return self._batch.add_stream(io.BytesIO(data)).digest

    def add_files(
        self,
        files: Mapping[str, Path],
        stamps: Mapping[str, tuple[int, int]] | None = None,
        earlier: EarlierFiles = (),
    ) -> StagedFiles:
        """Take in files by the path they have in their tree.

        Args:
            files: Where each is.
            stamps: Size and modification time of each when it was captured.
            earlier: Files of versions that these may resemble.

        Raises:
            ConflictError: If a file changed since it was captured (``file-changed``).
            NotFoundError: If a file is gone (``file-not-found``).
            InvalidInputError: If a name or a link may not be in a version.
        """
        check_paths(files)
        entries: list[TreeEntry] = []
        stored: dict[str, StoredFile] = {}
        statuses = {name: _look(path) for name, path in sorted(files.items())}
        beside = look_beside(
            {name: files[name] for name, seen in statuses.items() if stat.S_ISREG(seen.st_mode)}
        )
        for name in in_reading_order({name: seen.st_size for name, seen in statuses.items()}):
            path, status = files[name], statuses[name]
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(path)  # noqa: PTH115 -- Path would normalise the target
                check_link(name, target)
                entries.append(
                    TreeEntry(
                        path=name, kind=EntryKind.SYMLINK, size_bytes=0, digest=None, target=target
                    )
                )
                continue
            parents = _likeliest_first(name, earlier)
            stored[name] = self._add_file(path, parents, beside.get(name, NOTHING))
            _refuse_change(name, path, (stamps or {}).get(name))
            entries.append(
                TreeEntry(
                    path=name,
                    kind=EntryKind.EXECUTABLE if status.st_mode & stat.S_IXUSR else EntryKind.FILE,
                    size_bytes=stored[name].size_bytes,
                    digest=stored[name].digest,
                )
            )
        entries.sort(key=lambda entry: entry.path)
        return StagedFiles(entries=tuple(entries), files=dict(sorted(stored.items())))

    def add_stored(self, files: Mapping[str, Digest]) -> StagedFiles:
        """Take files that the store has already by the path they shall have in their tree.

        Raises:
            NotFoundError: If the store does not have one.
            InvalidInputError: If a name may not be in a version.
        """
        check_paths(files)
        stored = {
            name: StoredFile(
                digest=digest,
                sha256=self.objects.sha256(digest),
                size_bytes=self.objects.size(digest),
                new_bytes=0,
            )
            for name, digest in sorted(files.items())
        }
        entries = tuple(
            TreeEntry(
                path=name, kind=EntryKind.FILE, size_bytes=file.size_bytes, digest=file.digest
            )
            for name, file in stored.items()
        )
        return StagedFiles(entries=entries, files=stored)

    def _add_file(self, path: Path, parents: Sequence[Digest], beside: Beside) -> StoredFile:
        """Read each file once, though code and pipeline share most of theirs."""
        if path not in self._by_path:
            self._by_path[path] = self._batch.add_path(path, parents=parents, beside=beside)
        return self._by_path[path]

    def flush(self) -> None:
        """Make everything taken in durable."""
        self._batch.flush()

    def store_tree(self, files: StagedFiles) -> StoredTree:
        """Store a tree of files that were taken in and flushed."""
        return self.objects.put_tree_from(files.entries)


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

    @property
    def notes(self) -> list[str]:
        """What the user should know of files that are not what they look like."""
        return [f"{path}: {file.warning}" for path, file in self.files.items() if file.warning]


def earlier_files(objects: ObjectStore, manifests: Sequence[Digest]) -> EarlierFiles:
    """Return path and digest of the artifact files of these versions, in order.

    A version that cannot be read is passed over: it would only have saved room.
    """
    found: dict[tuple[str, Digest], None] = {}
    for digest in manifests:
        try:
            manifest = decode_manifest(objects.read_record(MANIFEST, digest))
        except StemmaError:
            continue
        found |= dict.fromkeys((file.path, file.digest) for file in manifest.artifact.files)
    return tuple(found)


def _likeliest_first(name: str, earlier: EarlierFiles) -> list[Digest]:
    """Return the files of the same path, then the others."""
    ordered = sorted(earlier, key=lambda file: file[0] != name)
    return list(dict.fromkeys(digest for _, digest in ordered))


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
