"""``PackFolder``: blobs in the packs of one folder, as the local backend uses them.

Invariants (crash tests: ``tests/unit/store/backends/packs/``):
    * A pack, and a sidecar, shows whole or not at all; what a call returned for is durable.
    * Who changes the folder holds ``packs/lock`` and leaves the folder with another time of
      change, so that nobody relies on what he knew before.

Errors of the operating system are the caller's to translate.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final, final

from stemma.domain.errors import NotFoundError
from stemma.store.backends.base import BlobStat
from stemma.store.backends.files import fsync_folder
from stemma.store.backends.packs.index import (
    LOCK_NAME,
    SIDECAR_SUFFIX,
    Listed,
    PackIndex,
    Place,
)
from stemma.store.backends.packs.layout import Entry
from stemma.store.backends.packs.reading import Pack, opened
from stemma.store.backends.packs.writing import Blob, grouped, write_pack, write_sidecar
from stemma.store.backends.workspace import Workspace

PACKS: Final = "packs"
"""Name of the folder, beside those of the keys."""

GONE: Final = 0
"""The time of death of what is in no trash."""

_MICROSECONDS: Final = 1_000_000
_ATTEMPTS: Final = 8


def moment(microseconds: int) -> datetime:
    """Return a time as values have it."""
    return datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC)


@final
class PackFolder:
    """The packs of one folder.

    Attributes:
        folder: Where they are.
        index: Finds keys in them.
        workspace: Where temporary files go.
    """

    def __init__(self, folder: Path, workspace: Workspace, is_loose: Callable[[str], bool]) -> None:
        """Name the folder; it is made, durably, before the first write.

        Args:
            folder: Where the packs are.
            workspace: Where temporary files go.
            is_loose: Whether a blob is a file of its own.
        """
        self.folder = folder
        self.index = PackIndex(folder)
        self.workspace = workspace
        self._is_loose = is_loose
        self._guard = Lock()

    def put(self, blobs: Mapping[str, bytes]) -> frozenset[str]:
        """Write blobs durably as packs, each of which fits into one; return those created."""
        written = time.time_ns() // 1000
        staged: list[tuple[Path, str, dict[str, bytes]]] = []
        try:
            for group in grouped(blobs):
                path = self.workspace.new_temporary()
                staged.append((path, "", group))
                packed = (Blob(key.encode(), written, data) for key, data in group.items())
                name, _ = write_pack(path, packed)
                staged[-1] = (path, name.hex(), group)
            with self.changing():
                known = {key for key in blobs if self.is_known(key)}
                for path, name_of_pack, group in staged:
                    if not group.keys() <= known:
                        os.link(path, self.folder / name_of_pack)
        finally:
            for path, _, _ in staged:
                path.unlink(missing_ok=True)
        self.sync()
        return frozenset(blobs.keys() - known)

    def is_known(self, key: str) -> bool:
        """Whether a blob is there, loose or in a pack."""
        return self._is_loose(key) or self.exists(key)

    def sync(self) -> None:
        """Make the names of all packs and sidecars durable."""
        fsync_folder(self.folder)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the folder alone, and leave it with a time of change that it never had."""
        self.workspace.make_folders([self.folder])
        with self._guard:
            handle = os.open(self.folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                before = self.folder.stat().st_mtime_ns
                try:
                    yield
                finally:
                    _touch(self.folder, before)
                    self.index.forget()
            finally:
                os.close(handle)

    def exists(self, key: str) -> bool:
        """Return whether a pack holds the blob."""
        return self.index.find(key) is not None

    def get(self, key: str, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """Return a blob, or up to ``size_bytes`` of it; less when the pack is cut off.

        Raises:
            NotFoundError: If no pack holds it (``blob-not-found``).
        """
        for _ in range(_ATTEMPTS):
            place = self._place(key)
            try:
                with opened(place.pack.path) as handle:
                    return place.pack.body(handle, place.number, offset, size_bytes)
            except FileNotFoundError:
                self.index.forget()  # rewritten: the blob rests in another pack by now
        raise _not_found(key)

    def size(self, key: str) -> int:
        """Return a blob's size in bytes.

        Raises:
            NotFoundError: If no pack holds it (``blob-not-found``).
        """
        place = self._place(key)
        return int(place.pack.rows[place.number]["size"])

    def _place(self, key: str) -> Place:
        place = self.index.find(key)
        if place is None:
            raise _not_found(key)
        return place

    def listings(self, prefix: str) -> list[Iterator[BlobStat]]:
        """Return listings of blobs whose keys start with ``prefix``, each in order of key."""
        return [map(_stat, listed) for listed in self.index.listings(prefix)]

    def mark(self, keys: Iterable[str], died: int) -> None:
        """Mark blobs dead, durably, in every pack that holds them."""
        wanted = [key for key in keys if self.index.find(key) is not None]
        if not wanted:
            return
        with self.changing():
            marks: dict[str, dict[int, int]] = {}
            for key in wanted:
                for pack, number in self.index.find_all(key):
                    offset = int(pack.rows[number]["offset"])
                    marks.setdefault(pack.path.name, {})[offset] = died
            self._mark(marks)
        self.sync()

    def mark_entries(self, marks: Mapping[str, Mapping[int, int]]) -> None:
        """Say, durably, when entries died: by name of the pack, and where the blob starts."""
        if marks:
            with self.changing():
                self._mark(marks)
            self.sync()

    def _mark(self, marks: Mapping[str, Mapping[int, int]]) -> None:
        packs = {pack.path.name: pack for pack in self.index.packs()}
        for name in marks.keys() & packs.keys():
            died = {**self.index.died(packs[name]), **marks[name]}
            if len(died) == len(packs[name].rows) and not any(died.values()):
                self.remove([packs[name].path])  # a full disk has no room for a sidecar
            else:
                self.write_sidecar(name, died)

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove packs, then their sidecars, durably; to be called while ``changing``."""
        gone = list(paths)
        for path in gone:
            path.unlink(missing_ok=True)
        self.sync()
        for path in gone:
            path.with_name(path.name + SIDECAR_SUFFIX).unlink(missing_ok=True)
        self.index.forget()

    def write_sidecar(self, name: str, died: Mapping[int, int]) -> None:
        """Say which entries of a pack are dead; to be called while ``changing``."""
        path = self.workspace.new_temporary()
        try:
            write_sidecar(path, bytes.fromhex(name), died)
            path.rename(self.folder / (name + SIDECAR_SUFFIX))
        finally:
            path.unlink(missing_ok=True)

    def dead(self) -> Iterator[tuple[Pack, Entry, int]]:
        """Yield every dead entry with its pack and its time of death."""
        for pack in self.index.packs():
            died = self.index.died(pack)
            if not died:
                continue
            for entry in self.entries(pack):
                if entry.offset in died:
                    yield pack, entry, died[entry.offset]

    def entries(self, pack: Pack) -> list[Entry]:
        """Return all entries of a pack, in order of key; none when it is gone."""
        try:
            with opened(pack.path) as handle:
                keys = pack.all_keys(handle)
        except FileNotFoundError:
            return []
        if keys is None:
            pack = self.index.scan(pack)
            keys = pack.keys or b""
        return pack.entries(keys)


def _stat(listed: Listed) -> BlobStat:
    return BlobStat(
        key=listed.key, size_bytes=listed.size_bytes, modified_at=moment(listed.written)
    )


def _not_found(key: str) -> NotFoundError:
    return NotFoundError(f"no blob {key}", code="blob-not-found")


def _touch(folder: Path, before: int) -> None:
    """Give a folder a time of change later than any it had.

    The kernel's own is no finer than its clock ticks: two changes in one tick would look alike.
    """
    now = max(time.time_ns(), before + 1)
    try:
        os.utime(folder, ns=(now, now))
    except PermissionError:  # the folder is another user's: only the kernel may date it
        give_up_at = time.monotonic() + 0.1
        while folder.stat().st_mtime_ns <= before and time.monotonic() < give_up_at:
            time.sleep(0.002)
            os.utime(folder)
