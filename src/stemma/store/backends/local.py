"""A ``BlobBackend`` in a folder, durable without a lock that anybody must remove.

Invariants (crash tests: ``tests/unit/store/test_crash.py``):
    * Write order: temporary file → fsync → link (create-only) → fsync of the folder.
      A name therefore never shows incomplete bytes.
    * Temporary files rest in ``tmp/<token>/``, beside ``tmp/<token>.lock`` that their
      process holds by ``flock``; whoever finds the lock free knows that the owner is
      dead and removes both.
    * Folders are made once, and their parents are fsynced before a blob in them is acknowledged.
    * Opening and reading write nothing, so a read-only folder can be read.

It does not verify contents and knows nothing of digests.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final, final

from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)
from stemma.store.backends.base import BlobStat, check_key
from stemma.store.backends.trash import TRASH, FolderTrash

_TEMPORARY: Final = "tmp"
_BESIDE: Final = frozenset({_TEMPORARY, TRASH})
"""Folders that are not part of the store."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_IN_THE_WAY: Final = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR})
_SYNC_THREADS: Final = 8


def translate_os_error(error: OSError, action: str, *, is_write: bool = True) -> StemmaError:
    """Return our error for what the operating system refused while doing ``action``."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return UnavailableError(
            f"no room to {action}: {reason}",
            code="disk-full",
            hint="df -h; free some space (stemma gc --dry-run shows what may go), run it again",
        )
    if error.errno in _FORBIDDEN and is_write:
        return DeniedError(
            f"not allowed to {action}: {reason}",
            code="read-only",
            hint="make the folder writable, or use another one",
        )
    if error.errno in _FORBIDDEN:
        return DeniedError(
            f"not allowed to {action}: {reason}",
            code="not-readable",
            hint="check the permissions of the file and its folders",
        )
    if error.errno in _IN_THE_WAY and error.filename is not None:
        return ConflictError(
            f"cannot {action}: something else is in the way at {error.filename}",
            code="in-the-way",
            hint=f"ls -ld {error.filename}",
        )
    return UnavailableError(f"cannot {action}: {reason}", code="io-error", hint="stemma doctor")


@contextmanager
def translated_os_errors(action: str, *, is_write: bool = True) -> Iterator[None]:
    """Raise what the operating system refuses as errors of our own.

    Raises:
        UnavailableError: With code ``disk-full`` or ``io-error``.
        ConflictError: With code ``in-the-way``: a file where a folder must be, or the reverse.
        DeniedError: With code ``read-only``, or ``not-readable`` when ``is_write`` is false.
    """
    try:
        yield
    except OSError as error:
        raise translate_os_error(error, action, is_write=is_write) from error


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_synced(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


@final
class LocalBackend:
    """Blobs as files under one folder; the key is the path.

    Attributes:
        root: The folder.
        trash: What collection removed from it.
    """

    def __init__(self, root: Path) -> None:
        """Name the folder; it is made by the first write."""
        self.root = root
        self.trash = FolderTrash(root, fsync_folder, translated_os_errors)
        self._guard = Lock()
        self._workspace: _Workspace | None = None
        self._durable_folders: set[Path] = set()

    def put(self, key: str, data: bytes) -> bool:
        """Write a blob durably unless the key exists; return whether it was created."""
        return bool(self.put_many({key: data}))

    def put_many(self, blobs: Mapping[str, bytes]) -> frozenset[str]:
        """Write many blobs durably: every file is fsynced, then every folder once."""
        for key in blobs:
            check_key(key)
        if not blobs:
            return frozenset()
        with translated_os_errors(f"write to {self.root}"):
            folders = {(self.root / key).parent for key in blobs}
            fresh = {key: data for key, data in blobs.items() if not (self.root / key).exists()}
            staged = self._stage(fresh)
            try:
                self._make_folders(folders)
                created = self._link(staged)
            finally:
                for temporary in staged.values():
                    temporary.unlink(missing_ok=True)
            # Folders of known keys too: the other writer may not have fsynced yet.
            run_together([(fsync_folder, (folder,)) for folder in folders])
        return created

    def _stage(self, blobs: Mapping[str, bytes]) -> dict[str, Path]:
        folder = self._open_workspace().folder
        staged = {key: folder / secrets.token_hex(8) for key in blobs}
        try:
            run_together(
                [(_write_synced, (staged[key], data)) for key, data in blobs.items()],
            )
        except OSError:
            for temporary in staged.values():
                temporary.unlink(missing_ok=True)
            raise
        return staged

    def _link(self, staged: Mapping[str, Path]) -> frozenset[str]:
        created: set[str] = set()
        for key, temporary in staged.items():
            try:
                os.link(temporary, self.root / key)
            except FileExistsError:
                continue
            created.add(key)
        return frozenset(created)

    def _make_folders(self, folders: Iterable[Path]) -> None:
        """Make folders, and fsync their parents up to the root's own parent once."""
        fresh: set[Path] = set()
        for folder in set(folders) - self._durable_folders:
            folder.mkdir(parents=True, exist_ok=True)
            while folder not in self._durable_folders and folder != self.root.parent:
                fresh.add(folder)
                folder = folder.parent  # noqa: PLW2901  climbing is the point
        for parent in {folder.parent for folder in fresh}:
            fsync_folder(parent)
        self._durable_folders |= fresh

    def _open_workspace(self) -> _Workspace:
        with self._guard:
            if self._workspace is None:
                self._make_folders([self.root / _TEMPORARY])
                _remove_abandoned(self.root / _TEMPORARY)
                self._workspace = _Workspace(self.root / _TEMPORARY)
                weakref.finalize(self, self._workspace.close)
            return self._workspace

    def get(self, key: str) -> bytes:
        """Return a blob."""
        with self._reading(key) as path:
            return path.read_bytes()

    def get_range(self, key: str, offset: int, size_bytes: int) -> bytes:
        """Return up to ``size_bytes`` from ``offset``."""
        with self._reading(key) as path, path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size_bytes)

    def exists(self, key: str) -> bool:
        """Return whether the key holds a blob."""
        check_key(key)
        with translated_os_errors(f"read {self.root / key}", is_write=False):
            return (self.root / key).is_file()

    def size(self, key: str) -> int:
        """Return a blob's size in bytes."""
        with self._reading(key) as path:
            return path.stat().st_size

    @contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        check_key(key)
        path = self.root / key
        with translated_os_errors(f"read {path}", is_write=False):
            try:
                yield path
            except (FileNotFoundError, NotADirectoryError) as error:
                raise NotFoundError(f"no blob {key}", code="blob-not-found") from error

    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        """Yield every file whose path starts with ``prefix``, in order of key, foreign ones too."""
        folder = self.root / prefix.rpartition("/")[0]
        with translated_os_errors(f"list {folder}", is_write=False):
            yield from (stat for stat in self._walk(folder) if stat.key.startswith(prefix))

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
        """Remove many blobs durably: every folder is fsynced once."""
        folders: set[Path] = set()
        with translated_os_errors(f"remove blobs in {self.root}"):
            for key in keys:
                check_key(key)
                path = self.root / key
                try:
                    path.unlink()
                except (FileNotFoundError, NotADirectoryError):
                    continue
                folders.add(path.parent)
            for folder in folders:
                fsync_folder(folder)

    def close(self) -> None:
        """Remove this backend's temporary folder; a later write makes another."""
        with self._guard:
            if self._workspace is not None:
                self._workspace.close()
                self._workspace = None


def run_together(tasks: Sequence[tuple[Callable[..., None], tuple[object, ...]]]) -> None:
    """Run tasks that mostly wait for the disk; fsyncs that overlap share journal commits."""
    if len(tasks) == 1:
        task, arguments = tasks[0]
        task(*arguments)
        return
    with ThreadPoolExecutor(max_workers=_SYNC_THREADS) as pool:
        futures = [pool.submit(task, *arguments) for task, arguments in tasks]
    for future in futures:
        future.result()


class _Workspace:
    """A folder for temporary files whose lock tells whether its owner lives."""

    def __init__(self, parent: Path) -> None:
        """Make and lock a new folder."""
        while True:
            token = secrets.token_hex(8)
            self._lock_path = parent / f"{token}.lock"
            self._handle = os.open(
                self._lock_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
            )
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            # A cleaner may have taken the lock file between its creation and our lock.
            if self._lock_path.exists():
                break
            os.close(self._handle)
        self.folder = parent / token
        self.folder.mkdir()
        self._owner_pid = os.getpid()

    def close(self) -> None:
        """Remove the folder, then the lock."""
        if self._handle < 0 or self._owner_pid != os.getpid():  # a forked child owns nothing
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = -1


def _remove_abandoned(parent: Path) -> None:
    """Remove the workspaces of processes that are dead."""
    for lock_path in parent.glob("*.lock"):
        try:
            handle = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
            lock_path.unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)
