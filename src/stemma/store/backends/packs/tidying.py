"""Rewrites packs with much that is dead, merges small ones, and mends damaged ones.

Invariants:
    * The new packs and their sidecars are durable before an old pack goes, and an old sidecar
      goes after its pack: what a crash leaves is in both places, never in none.
    * Times of writing and of death are kept.
    * What makes one new pack is copied at a time, blob by blob: memory and the room that is
      needed meanwhile are bounded.

It does not verify contents: what is damaged is copied as it is, to be found by its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np

from stemma.store.backends.base import Damage, TidyReport
from stemma.store.backends.packs.folder import GONE, PackFolder
from stemma.store.backends.packs.index import SIDECAR_SUFFIX
from stemma.store.backends.packs.layout import (
    HEAD_BYTES,
    PACK_LIMIT_BYTES,
    TRAILER_BYTES,
    Entry,
)
from stemma.store.backends.packs.reading import Pack, complaint_about, opened, read_at
from stemma.store.backends.packs.writing import Blob, cost_bytes, write_pack

_GONE_SHARE: Final = 0.3
_SMALL_BYTES: Final = 64 << 20
_SMALL_COUNT: Final = 32


class _Kept(NamedTuple):
    """An entry that moves: from which pack, and when it died if it did."""

    pack: Pack
    entry: Entry
    died: int | None


class _Judged(NamedTuple):
    """A pack, how many of its entries must stay, and the bytes of these and of all."""

    pack: Pack
    kept_count: int
    kept_bytes: int
    size_bytes: int


def complaints(packs: PackFolder) -> Iterator[Damage]:
    """Yield what is damaged in packs and sidecars, bytes of blobs excepted."""
    for pack in packs.index.packs():
        try:
            complaint = complaint_about(pack.path)
        except FileNotFoundError:  # rewritten meanwhile
            continue
        if complaint:
            yield Damage(kind="pack-damaged", key=_key(pack.path), detail=complaint)
        offsets = set(pack.rows["offset"].tolist())
        if not complaint and packs.index.died(pack).keys() - offsets:
            path = pack.path.with_name(pack.path.name + SIDECAR_SUFFIX)
            yield Damage(kind="pack-damaged", key=_key(path), detail="it marks what is no entry")
    for path in packs.index.damaged_sidecars():
        detail = "it cannot be read, so what was removed from its pack shows again"
        yield Damage(kind="pack-damaged", key=_key(path), detail=detail)


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@final
class Tidying:
    """One pass over the packs of a folder."""

    def __init__(self, packs: PackFolder, read_loose: Callable[[str], bytes | None]) -> None:
        """Say how loose blobs are read: a blob that is loose needs no copy in a pack."""
        self._packs = packs
        self._read_loose = read_loose

    def tidy(self) -> TidyReport:
        """Rewrite what has much that is gone, then merge what is small."""
        if not self._packs.folder.is_dir():
            return TidyReport(rewritten=0, freed_bytes=0)
        before = self._size_bytes()
        rewritten = 0
        with self._packs.changing():
            self._remove_orphans()
            for judged in sorted(self._judged(), key=lambda judged: judged.kept_bytes):
                gone_bytes = judged.size_bytes - judged.kept_bytes
                if not judged.kept_count or gone_bytes > _GONE_SHARE * judged.size_bytes:
                    self._replace([judged.pack])
                    rewritten += 1
            small = [judged for judged in self._judged() if judged.kept_bytes < _SMALL_BYTES]
            if len(small) > _SMALL_COUNT:
                for group in _grouped(small):
                    self._replace(group)
                    rewritten += len(group)
        return TidyReport(rewritten=rewritten, freed_bytes=before - self._size_bytes())

    def mend(self) -> tuple[str, ...]:
        """Write the entries of damaged packs anew, and remove damaged sidecars."""
        mended: list[str] = []
        damaged = {damage.key for damage in complaints(self._packs)}
        if not damaged:
            return ()
        with self._packs.changing():
            for path in (self._packs.folder / key.rpartition("/")[2] for key in sorted(damaged)):
                if path.suffix:
                    path.unlink(missing_ok=True)
                    mended.append(_key(path))
            self._packs.index.forget()
            for pack in self._packs.index.packs():
                if _key(pack.path) in damaged:
                    self._replace([pack])
                    mended.append(_key(pack.path))
        return tuple(mended)

    def _size_bytes(self) -> int:
        with os.scandir(self._packs.folder) as scan:
            return sum(entry.stat().st_size for entry in scan)

    def _remove_orphans(self) -> None:
        names = {pack.path.name for pack in self._packs.index.packs()}
        orphans = [
            path
            for path in self._packs.folder.glob(f"*{SIDECAR_SUFFIX}")
            if path.name.removesuffix(SIDECAR_SUFFIX) not in names
        ]
        for path in orphans:
            path.unlink()

    def _judged(self) -> list[_Judged]:
        self._packs.index.forget()
        return [self._judge(pack) for pack in self._packs.index.packs()]

    def _judge(self, pack: Pack) -> _Judged:
        died = self._packs.index.died(pack)
        gone = [offset for offset, at in died.items() if at == GONE]
        costs = pack.rows["size"].astype(np.int64) + 2 * pack.rows["key_size"].astype(np.int64)
        costs += cost_bytes(b"", 0)
        is_kept = ~np.isin(pack.rows["offset"], np.array(gone, np.uint32))
        overhead = HEAD_BYTES + TRAILER_BYTES
        return _Judged(
            pack,
            int(is_kept.sum()),
            overhead + int(costs[is_kept].sum()),
            overhead + int(costs.sum()),
        )

    def _replace(self, packs: Sequence[Pack]) -> None:
        """Write what must stay of some packs into a new one, then remove them."""
        old = {pack.path for pack in packs}
        kept = self._kept(packs, old)
        if kept:
            path = self._packs.workspace.new_temporary()
            try:
                os.link(path, self._packs.folder / self._write(path, kept))
            finally:
                path.unlink(missing_ok=True)
            self._packs.sync()
        self._packs.remove(old)

    def _kept(self, packs: Sequence[Pack], old: set[Path]) -> list[_Kept]:
        """Return the entries that must move: a living blob once, and none that rests elsewhere."""
        kept: list[_Kept] = []
        living: dict[bytes, tuple[Pack, Entry]] = {}
        for pack in packs:
            died = self._packs.index.died(pack)
            for entry in sorted(self._packs.entries(pack), key=attrgetter("offset")):
                died_at = died.get(entry.offset)
                if died_at is None:
                    first = living.setdefault(entry.key, (pack, entry))
                    is_copy = first[1] is not entry and _bytes(*first) == _bytes(pack, entry)
                    if is_copy or self._rests_elsewhere(pack, entry, old):
                        continue
                if died_at != GONE:
                    kept.append(_Kept(pack, entry, died_at))
        return kept

    def _rests_elsewhere(self, pack: Pack, entry: Entry, old: set[Path]) -> bool:
        """Whether the same bytes rest loose, or in a pack that stays."""
        key = entry.key.decode(errors="replace")
        others = [
            place.pack.body_of(place.number)
            for place in self._packs.index.find_all(key)
            if place.pack.path not in old
        ]
        loose = self._read_loose(key)
        if loose is not None:
            others.append(loose)
        return bool(others) and _bytes(pack, entry) in others

    def _write(self, path: Path, kept: Sequence[_Kept]) -> str:
        """Write one pack and its sidecar, durable under the name that it will have."""
        name, entries = write_pack(path, _blobs(kept))
        died = {
            entry.offset: one.died
            for one, entry in zip(kept, entries, strict=True)
            if one.died is not None
        }
        if died:
            self._packs.write_sidecar(name.hex(), died)
            self._packs.sync()
        return name.hex()


def _grouped(judged: Sequence[_Judged]) -> Iterator[list[Pack]]:
    """Yield packs, at least two, what is kept of which fits into one."""
    group: list[Pack] = []
    size_bytes = 0
    for one in judged:
        if group and size_bytes + one.kept_bytes > PACK_LIMIT_BYTES:
            if len(group) > 1:
                yield group
            group, size_bytes = [], 0
        group.append(one.pack)
        size_bytes += one.kept_bytes
    if len(group) > 1:
        yield group


def _blobs(kept: Sequence[_Kept]) -> Iterator[Blob]:
    """Yield what moves; entries of one pack stand together."""
    for _, of_pack in groupby(kept, key=lambda one: one.pack.path):
        members = list(of_pack)
        with opened(members[0].pack.path) as handle:
            for _, entry, _ in members:
                data = read_at(handle, entry.size_bytes, entry.offset)
                yield Blob(entry.key, entry.written, data)


def _bytes(pack: Pack, entry: Entry) -> bytes:
    with opened(pack.path) as handle:
        return read_at(handle, entry.size_bytes, entry.offset)
