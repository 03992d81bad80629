"""The trash of a folder with packs: what was loose, and what rests in packs.

Invariants (normative text: ``docs/formats/store.md`` §The trash and §Packs):
    * A blob in a pack goes to the trash by a mark with its time, and leaves it by another.
    * What comes back from a pack is written anew before its mark says that it left the trash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
                for pack, offset in self._places(blob):
                    with opened(pack.path) as handle:
                        return read_at(handle, blob.size_bytes, offset)
            raise

    def give_back(self, blobs: Iterable[TrashedBlob]) -> None:
        """Move blobs back, durably and dated now; one whose key exists only leaves the trash."""
        wanted = list(blobs)
        self._loose.give_back(wanted)
        with self._translated(f"move blobs back to {self._packs.folder}"):
            found = {blob: places for blob in wanted if (places := self._places(blob))}
            missing = {
                blob.key: self.read(blob) for blob in found if not self._packs.is_known(blob.key)
            }
            if missing:
                self._packs.put(missing)
            self._bury(found.values())

    def remove(self, blobs: Iterable[TrashedBlob]) -> None:
        """Remove blobs for good; their room is given back when packs are tidied."""
        wanted = list(blobs)
        self._loose.remove(wanted)
        with self._translated(f"mark blobs in {self._packs.folder}"):
            self._bury(self._places(blob) for blob in wanted)

    def _places(self, blob: TrashedBlob) -> Sequence[tuple[Pack, int]]:
        """Return the packs that hold a blob in the trash, and where it starts in them."""
        found: list[tuple[Pack, int]] = []
        for pack, number in self._packs.index.find_all(blob.key, is_dead=True):
            offset = int(pack.rows[number]["offset"])
            died = self._packs.index.died(pack).get(offset, GONE)
            if died != GONE and moment(died) == blob.trashed_at:
                found.append((pack, offset))
        return found

    def _bury(self, found: Iterable[Iterable[tuple[Pack, int]]]) -> None:
        marks: dict[str, dict[int, int]] = {}
        for places in found:
            for pack, offset in places:
                marks.setdefault(pack.path.name, {})[offset] = GONE
        self._packs.mark_entries(marks)

    def list(self) -> Iterator[TrashedBlob]:
        """Yield what rests here, oldest first; a key may come several times."""
        with self._translated(f"read {self._packs.folder}"):
            packed = [
                _trashed(entry, died) for _, entry, died in self._packs.dead() if died != GONE
            ]
        packed.sort(key=lambda blob: (blob.trashed_at, blob.key))
        yield from merge(self._loose.list(), packed, key=lambda blob: blob.trashed_at)


def _trashed(entry: Entry, died: int) -> TrashedBlob:
    return TrashedBlob(
        key=entry.key.decode(errors="replace"),
        size_bytes=entry.size_bytes,
        trashed_at=moment(died),
    )
