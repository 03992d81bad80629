"""Finds keys in all packs of a folder.

Invariants:
    * Nothing is read before something is looked for.
    * What is known is of the folder's present time of change, so what other processes added,
      removed or marked is seen by the next call.
    * A lookup takes some microseconds however many packs there are: their hashes stand in a
      few sorted runs, each more than twice as long as the next.

Safe to call from several threads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from stemma.store.backends.packs.layout import decode_sidecar, key_hash
from stemma.store.backends.packs.reading import Pack, opened, read_pack, scan_pack

SIDECAR_SUFFIX: Final = ".dead"
LOCK_NAME: Final = "lock"
_FILE: Final = re.compile(r"(?P<name>[0-9a-f]{64})(?P<suffix>\.dead)?")
_NEVER: Final = -1
_MISSING: Final = 0


def is_own_name(name: str) -> bool:
    """Whether a file of that name in the folder of packs is none of somebody else's."""
    return name == LOCK_NAME or _FILE.fullmatch(name) is not None


class Place(NamedTuple):
    """Where a blob rests: the number of an entry of a pack."""

    pack: Pack
    number: int


class Listed(NamedTuple):
    """A living blob as a listing needs it; ordered by key."""

    key: str
    written: int
    size_bytes: int


class _Run(NamedTuple):
    """Hashes of keys, sorted, and where each leads."""

    hashes: NDArray[np.uint64]
    packs: NDArray[np.uint32]
    numbers: NDArray[np.uint32]


@final
class Sidecar:
    """Which entries of a pack are dead.

    Attributes:
        signature: What tells this state of the file from another.
        died: When each died, by where its blob starts.
        is_damaged: Whether the file is there and cannot be read.
    """

    def __init__(self, path: Path, name: bytes) -> None:
        """Read it."""
        with opened(path) as handle:
            facts = os.fstat(handle)
            data = os.pread(handle, facts.st_size, 0)
        self.signature = _signature(facts)
        died = decode_sidecar(data, name)
        self.is_damaged = died is None
        self.died = died or {}


@final
class PackIndex:
    """The packs of one folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder, which need not exist."""
        self.folder = folder
        self._guard = RLock()
        self._changed_at = _NEVER
        self._packs: dict[str, Pack] = {}
        self._sidecars: dict[str, Sidecar] = {}
        # Runs name packs by number; a pack that is gone leaves its number empty.
        self._numbered: list[Pack | None] = []
        self._runs: list[_Run] = []

    def packs(self) -> list[Pack]:
        """Return all packs, sorted by name."""
        with self._guard:
            self.refresh()
            return [self._packs[name] for name in sorted(self._packs)]

    def died(self, pack: Pack) -> dict[int, int]:
        """Return when each dead entry of a pack died, by where its blob starts."""
        with self._guard:
            sidecar = self._sidecars.get(pack.path.name)
            return {} if sidecar is None else sidecar.died

    def damaged_sidecars(self) -> list[Path]:
        """Return the sidecars that cannot be read, of packs that exist."""
        with self._guard:
            self.refresh()
            return [
                self.folder / (name + SIDECAR_SUFFIX)
                for name, sidecar in sorted(self._sidecars.items())
                if sidecar.is_damaged
            ]

    def find(self, key: str) -> Place | None:
        """Return where a living blob rests, in one of the packs that hold it."""
        return next(self.find_all(key), None)

    def find_all(self, key: str, *, is_dead: bool = False) -> Iterator[Place]:
        """Yield every place of a blob that lives, or that is dead."""
        with self._guard:
            self.refresh()
            if not self._runs:
                return
            found = [
                place
                for place in self._candidates(key_hash(key.encode()))
                if self._is_dead(place) == is_dead
            ]
        for place in found:
            if self._is_key(place, key.encode()):
                yield place

    def _candidates(self, number: int) -> Iterator[Place]:
        wanted = np.uint64(number)
        for run in self._runs:
            at = int(run.hashes.searchsorted(wanted))
            while at < len(run.hashes) and run.hashes[at] == wanted:
                pack = self._numbered[run.packs[at]]
                if pack is not None:
                    yield Place(pack, int(run.numbers[at]))
                at += 1

    def _is_dead(self, place: Place) -> bool:
        sidecar = self._sidecars.get(place.pack.path.name)
        return sidecar is not None and int(place.pack.rows[place.number]["offset"]) in sidecar.died

    @staticmethod
    def _is_key(place: Place, key: bytes) -> bool:
        """Whether the entry has this key, and not only its hash."""
        try:
            with opened(place.pack.path) as handle:
                # Of damaged keys the hash must do: what is found is checked by its name.
                is_same = place.pack.key(handle, place.number) == key
                return is_same or place.pack.all_keys(handle) is None
        except FileNotFoundError:  # rewritten: who reads the blob will look again
            return True

    def scan(self, pack: Pack) -> Pack:
        """Take what a scan finds for a pack whose keys are damaged."""
        scanned = scan_pack(pack.path)
        with self._guard:
            if self._packs.get(pack.path.name) is pack:
                self._packs[pack.path.name] = scanned
                self._make_runs()
        return scanned

    def listings(self, prefix: str) -> Iterator[Iterator[Listed]]:
        """Yield, for each pack, its living blobs whose keys start with ``prefix``, sorted."""
        with self._guard:
            self.refresh()
            known = [(pack, self.died(pack)) for pack in self._packs.values()]
        for pack, died in known:
            try:
                with opened(pack.path) as handle:
                    keys = pack.all_keys(handle)
            except FileNotFoundError:
                continue
            if keys is None:
                scanned = self.scan(pack)
                yield _living(scanned, scanned.keys or b"", died, prefix)
            else:
                yield _living(pack, keys, died, prefix)

    def refresh(self) -> None:
        """Look at the folder again if it changed."""
        try:
            changed_at = os.stat(self.folder).st_mtime_ns  # noqa: PTH116 - on every lookup
        except (FileNotFoundError, NotADirectoryError):
            changed_at = _MISSING
        with self._guard:
            if changed_at != self._changed_at:
                self._look(changed_at)

    def forget(self) -> None:
        """Look at the folder again at the next call, whatever its time of change."""
        with self._guard:
            self._changed_at = _NEVER

    def _look(self, changed_at: int) -> None:
        names: set[str] = set()
        sidecars: dict[str, Sidecar] = {}
        if changed_at != _MISSING:
            with os.scandir(self.folder) as scan:
                found = [match for entry in scan if (match := _FILE.fullmatch(entry.name))]
            names = {match["name"] for match in found if not match["suffix"]}
            marked = {match["name"] for match in found if match["suffix"]}
            for name in marked & names:
                with suppress(FileNotFoundError):
                    sidecars[name] = self._sidecar(name)
        is_fewer = not self._packs.keys() <= names
        fresh = self._read(sorted(names - self._packs.keys()))
        self._packs = {name: pack for name, pack in self._packs.items() if name in names} | {
            pack.path.name: pack for pack in fresh
        }
        self._sidecars = sidecars
        self._changed_at = changed_at
        if is_fewer:
            self._make_runs()
        else:
            self._add_run(fresh)

    def _read(self, names: Sequence[str]) -> list[Pack]:
        packs: list[Pack] = []
        for name in names:
            try:
                packs.append(read_pack(self.folder / name))
            except FileNotFoundError:  # gone again: the folder has another time of change
                continue
        return packs

    def _sidecar(self, name: str) -> Sidecar:
        path = self.folder / (name + SIDECAR_SUFFIX)
        known = self._sidecars.get(name)
        if known is not None and known.signature == _signature(path.stat()):
            return known
        return Sidecar(path, bytes.fromhex(name))

    def _make_runs(self) -> None:
        self._numbered = []
        self._runs = []
        self._add_run(list(self._packs.values()))

    def _add_run(self, packs: Sequence[Pack]) -> None:
        """Add packs as one run, and join runs until each is twice as long as the next."""
        if not packs:
            return
        first = len(self._numbered)
        self._numbered += packs
        joined = [
            _Run(
                pack.rows["hash"],
                np.full(len(pack.rows), number, np.uint32),
                np.arange(len(pack.rows), dtype=np.uint32),
            )
            for number, pack in enumerate(packs, first)
        ]
        size = sum(len(run.hashes) for run in joined)
        while self._runs and len(self._runs[-1].hashes) < 2 * size:
            run = self._runs.pop()
            joined.append(run)
            size += len(run.hashes)
        self._runs.append(_join(joined))


def _join(runs: Sequence[_Run]) -> _Run:
    hashes = np.concatenate([run.hashes for run in runs])
    order = np.argsort(hashes, kind="stable")
    return _Run(
        hashes[order],
        np.concatenate([run.packs for run in runs])[order],
        np.concatenate([run.numbers for run in runs])[order],
    )


def _living(pack: Pack, keys: bytes, died: dict[int, int], prefix: str) -> Iterator[Listed]:
    found = pack.range_of(keys, prefix.encode())
    rows = pack.rows[found.start : found.stop]
    columns = ("key_at", "key_size", "offset", "size", "written")
    for at, key_bytes, offset, size_bytes, written in zip(
        *(rows[column].tolist() for column in columns), strict=True
    ):
        if offset not in died:
            yield Listed(keys[at : at + key_bytes].decode(errors="replace"), written, size_bytes)


def _signature(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_ino, facts.st_mtime_ns, facts.st_size
