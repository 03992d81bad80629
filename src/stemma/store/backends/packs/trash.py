"""The trash of a folder with packs: what was loose, and what rests in packs.

Invariants (normative text: ``docs/formats/store.md`` §The trash and §Packs):
    * A blob in a pack goes to the trash by a mark with its time, and leaves it by another.
    * What comes back from a pack is written anew before its mark says that it left the trash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from heapq import merge
from typing import final

from stemma.domain.errors import NotFoundError
from stemma.store.backends.packs.folder import GONE, PackFolder, moment
from stemma.store.backends.packs.layout import Entry
from stemma.store.backends.packs.reading import Pack, opened, read_at
from stemma.store.backends.trash import Trash, TrashedBlob

_MICROSECONDS = 1_000_000


@final
class PackTrash:
    """What is in the trash, loose or in packs."""

    def __init__(
        self,
        loose: Trash,
        packs: PackFolder,
        translated: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        """Stand on both.

        Args:
            loose: The trash of loose blobs.
            packs: The packs.
            translated: Raises what the operating system refuses as errors of our own.
        """
        self._loose = loose
        self._packs = packs
        self._translated = translated

    def take(self, keys: Iterable[str], at: datetime) -> None:
        """Move blobs here, durably; missing ones are ignored."""
        wanted = list(keys)
        self._loose.take(wanted, at)
        with self._translated(f"mark blobs in {self._packs.folder}"):
            self._packs.mark(wanted, int(at.timestamp()) * _MICROSECONDS)

    def read(self, blob: TrashedBlob) -> bytes:
        """Return the bytes of a blob.

        Raises:
            NotFoundError: If it is not here any more (``blob-not-found``).
        """
        try:
            return self._loose.read(blob)
        except NotFoundError:
            with self._translated(f"read {self._packs.folder}"):
                for pack, entry, died in self._dead():
                    if _trashed(entry, died) == blob:
                        return _bytes(pack, entry)
            raise

    def give_back(self, blobs: Iterable[TrashedBlob]) -> None:
        """Move blobs back, durably and dated now; one whose key exists only leaves the trash."""
        wanted = list(blobs)
        self._loose.give_back(wanted)
        with self._translated(f"move blobs back to {self._packs.folder}"):
            found = self._find(wanted)
            missing = {blob.key: blob for blob in found if not self._packs.is_known(blob.key)}
            if missing:
                self._packs.put({key: _bytes(*found[blob][0]) for key, blob in missing.items()})
            self._bury(found)

    def remove(self, blobs: Iterable[TrashedBlob]) -> None:
        """Remove blobs for good; their room is given back when packs are tidied."""
        wanted = list(blobs)
        self._loose.remove(wanted)
        with self._translated(f"mark blobs in {self._packs.folder}"):
            self._bury(self._find(wanted))

    def _dead(self) -> Iterator[tuple[Pack, Entry, int]]:
        return (found for found in self._packs.dead() if found[2] != GONE)

    def _find(self, blobs: Iterable[TrashedBlob]) -> dict[TrashedBlob, list[tuple[Pack, Entry]]]:
        wanted = set(blobs)
        found: dict[TrashedBlob, list[tuple[Pack, Entry]]] = {}
        for pack, entry, died in self._dead():
            blob = _trashed(entry, died)
            if blob in wanted:
                found.setdefault(blob, []).append((pack, entry))
        return found

    def _bury(self, found: Mapping[TrashedBlob, Iterable[tuple[Pack, Entry]]]) -> None:
        marks: dict[str, dict[int, int]] = {}
        for places in found.values():
            for pack, entry in places:
                marks.setdefault(pack.path.name, {})[entry.offset] = GONE
        self._packs.mark_entries(marks)

    def list(self) -> Iterator[TrashedBlob]:
        """Yield what rests here, oldest first; a key may come several times."""
        with self._translated(f"read {self._packs.folder}"):
            packed = [_trashed(entry, died) for _, entry, died in self._dead()]
        packed.sort(key=lambda blob: (blob.trashed_at, blob.key))
        yield from merge(self._loose.list(), packed, key=lambda blob: blob.trashed_at)


def _trashed(entry: Entry, died: int) -> TrashedBlob:
    return TrashedBlob(
        key=entry.key.decode(errors="replace"),
        size_bytes=entry.size_bytes,
        trashed_at=moment(died),
    )


def _bytes(pack: Pack, entry: Entry) -> bytes:
    with opened(pack.path) as handle:
        return read_at(handle, entry.size_bytes, entry.offset)
