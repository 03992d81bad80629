"""A ``BlobBackend`` in a folder, durable without a lock that anybody must remove.

Blobs that are written together rest in one pack, see ``stemma.store.backends.packs``; others are
files of their own.

Invariants (crash tests: ``tests/unit/store/test_crash.py``):
    * Write order: temporary file → fsync → link (create-only) → fsync of the folder.
      A name therefore never shows incomplete bytes.
    * A loose blob is preferred to one in a pack.
    * Opening and reading write nothing, so a read-only folder can be read.
    * One writer of a key is told that he created it, unless one writes it alone and another
      together with others at the same moment; what is named by its contents suffers nothing.

It does not verify contents and knows nothing of digests.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from heapq import merge
from pathlib import Path
from typing import Final, final

from stemma.domain.errors import UnavailableError
from stemma.store.backends.base import BlobStat, Damage, TidyReport, check_key
from stemma.store.backends.files import (
    fsync_folder,
    run_together,
    translate_os_error,
    translated_os_errors,
)
from stemma.store.backends.packs.folder import GONE, PACKS, PackFolder
from stemma.store.backends.packs.index import is_own_name
from stemma.store.backends.packs.tidying import Tidying, complaints
from stemma.store.backends.packs.trash import PackTrash
from stemma.store.backends.packs.writing import fits
from stemma.store.backends.trash import TRASH, FolderTrash, Trash
from stemma.store.backends.workspace import TEMPORARY, Workspace

__all__ = [
    "LocalBackend",
    "fsync_folder",
    "run_together",
    "translate_os_error",
    "translated_os_errors",
]

_BESIDE: Final = frozenset({TEMPORARY, TRASH})
"""Folders that are not part of the store."""
_ABSENT: Final = (FileNotFoundError, NotADirectoryError)


def _write_synced(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_loose(root: Path, key: str) -> bool:
    try:
        # Not through ``Path``: this is asked for every blob of every batch.
        return stat.S_ISREG(os.stat(f"{root}/{key}").st_mode)  # noqa: PTH116
    except _ABSENT:
        return False


@final
class LocalBackend:
    """Blobs under one folder, loose or in packs.

    Attributes:
        root: The folder.
        trash: What collection removed from it.
    """

    def __init__(self, root: Path) -> None:
        """Name the folder; it is made by the first write."""
        self.root = root
        self._workspace = Workspace(root)
        self._packs = PackFolder(root / PACKS, self._workspace, partial(_is_loose, root))
        loose = FolderTrash(root, fsync_folder, translated_os_errors)
        self.trash: Trash = PackTrash(loose, self._packs, translated_os_errors)

    def put(self, key: str, data: bytes) -> bool:
        """Write a blob durably unless the key exists; return whether it was created."""
        return bool(self.put_many({key: data}))

    def put_many(self, blobs: Mapping[str, bytes]) -> frozenset[str]:
        """Write many blobs durably, as one pack when there are several."""
        for key in blobs:
            check_key(key)
        if not blobs:
            return frozenset()
        with translated_os_errors(f"write to {self.root}"):
            loose = {key for key in blobs if _is_loose(self.root, key)}
            packed = {key for key in blobs.keys() - loose if self._packs.exists(key)}
            fresh = {k: data for k, data in blobs.items() if k not in loose and k not in packed}
            together = {key: data for key, data in fresh.items() if fits(key, len(data))}
            if len(together) == 1:
                together = {}
            created = self._put_loose({k: v for k, v in fresh.items() if k not in together})
            if together:
                created |= self._packs.put(together)
            # What was known too: the other writer may not have fsynced yet.
            folders = {(self.root / key).parent for key in loose}
            run_together([(fsync_folder, (folder,)) for folder in folders])
            if packed and not together:
                self._packs.sync()
        return created

    def _put_loose(self, blobs: Mapping[str, bytes]) -> frozenset[str]:
        created: set[str] = set()
        for key, data in blobs.items():
            path = self.root / key
            temporary = self._workspace.new_temporary()
            try:
                _write_synced(temporary, data)
                self._workspace.make_folders([path.parent])
                with suppress(FileExistsError):
                    os.link(temporary, path)
                    created.add(key)
            finally:
                temporary.unlink(missing_ok=True)
            fsync_folder(path.parent)
        return frozenset(created)

    def get(self, key: str) -> bytes:
        """Return a blob."""
        with self._reading(key) as path:
            try:
                return path.read_bytes()
            except _ABSENT:
                return self._packs.get(key)

    def get_range(self, key: str, offset: int, size_bytes: int) -> bytes:
        """Return up to ``size_bytes`` from ``offset``."""
        with self._reading(key) as path:
            try:
                with path.open("rb") as stream:
                    stream.seek(offset)
                    return stream.read(size_bytes)
            except _ABSENT:
                return self._packs.get(key, offset, size_bytes)

    def exists(self, key: str) -> bool:
        """Return whether the key holds a blob."""
        with self._reading(key):
            return _is_loose(self.root, key) or self._packs.exists(key)

    def size(self, key: str) -> int:
        """Return a blob's size in bytes."""
        with self._reading(key) as path:
            try:
                return path.stat().st_size
            except _ABSENT:
                return self._packs.size(key)

    @contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        check_key(key)
        path = self.root / key
        with translated_os_errors(f"read {path}", is_write=False):
            yield path

    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        """Yield every blob whose key starts with ``prefix``, in order of key, foreign ones too."""
        folder = self.root / prefix.rpartition("/")[0]
        before = ""
        with translated_os_errors(f"list {folder}", is_write=False):
            loose = (found for found in self._walk(folder) if found.key.startswith(prefix))
            for found in merge(loose, *self._packs.listings(prefix), key=lambda stat: stat.key):
                if found.key != before:
                    yield found
                before = found.key

    def _walk(self, folder: Path) -> Iterator[BlobStat]:
        try:
            with os.scandir(folder) as scan:
                # "a-b" sorts before "a/x", as keys do, only when folders sort by "name/".
                entries = sorted(
                    scan,
                    key=lambda entry: (
                        entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                    ),
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if folder == self.root and entry.name in _BESIDE:
                continue
            if folder == self.root / PACKS and is_own_name(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path))
                continue
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # deleted while we list
                continue
            yield BlobStat(
                key=Path(entry.path).relative_to(self.root).as_posix(),
                size_bytes=facts.st_size,
                modified_at=datetime.fromtimestamp(facts.st_mtime, UTC),
            )

    def delete(self, key: str) -> bool:
        """Remove a blob durably; return whether it was there."""
        existed = self.exists(key)
        self.delete_many([key])
        return existed

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove many blobs durably: every folder is fsynced once, every pack marked once."""
        wanted = list(keys)
        for key in wanted:
            check_key(key)
        folders: set[Path] = set()
        with translated_os_errors(f"remove blobs in {self.root}"):
            for key in wanted:
                path = self.root / key
                try:
                    path.unlink()
                except _ABSENT:
                    continue
                folders.add(path.parent)
            for folder in folders:
                fsync_folder(folder)
            self._packs.mark(wanted, GONE)

    def tidy(self) -> TidyReport:
        """Rewrite packs with much that is gone for good, and merge small ones."""
        try:
            with translated_os_errors(f"tidy {self.root / PACKS}"):
                return Tidying(self._packs, self._read_loose).tidy()
        except UnavailableError as error:
            # A full disk has no room to rewrite in; what is gone stays gone, and is freed later.
            if error.code != "disk-full":
                raise
            return TidyReport(rewritten=0, freed_bytes=0)

    def damages(self) -> Iterator[Damage]:
        """Yield what is damaged in packs beside the blobs."""
        with translated_os_errors(f"read {self.root / PACKS}", is_write=False):
            yield from complaints(self._packs)

    def mend(self) -> tuple[str, ...]:
        """Write the blobs of damaged packs into new ones; return what was mended."""
        with translated_os_errors(f"mend {self.root / PACKS}"):
            return Tidying(self._packs, self._read_loose).mend()

    def _read_loose(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except _ABSENT:
            return None

    def close(self) -> None:
        """Remove this backend's temporary folder; a later write makes another."""
        self._workspace.close()
