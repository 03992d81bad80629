"""The trash of a folder: what collection removed, until its time is over.

Invariants (normative text: ``docs/formats/store.md`` §The trash):
    * A blob is linked to its new place before it leaves the old one, each step durable: after
      a crash it rests in one of them, or in both.
    * What rests here is in no listing of the store and is never read in its place.
    * Foreign names are left alone.

It does not verify contents; ``stemma.store.trash`` does before anything comes back.  Whoever
changes it holds the store's lock exclusively.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, final, runtime_checkable

from stemma.domain.errors import NotFoundError

TRASH: Final = "trash"
"""Name of the folder, beside those of the keys."""

_MOMENT: Final = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashedBlob:
    """A blob in the trash.

    Attributes:
        key: The key it had.
        size_bytes: Its size.
        trashed_at: When collection removed it (aware, UTC, whole seconds).
    """

    key: str
    size_bytes: int
    trashed_at: datetime


class Trash(Protocol):
    """Keeps for a while what collection removes."""

    def take(self, keys: Iterable[str], at: datetime) -> None:
        """Move blobs here, durably; missing ones are ignored."""
        ...

    def list(self) -> Iterator[TrashedBlob]:
        """Yield what rests here, oldest first; a key may come several times."""
        ...

    def read(self, blob: TrashedBlob) -> bytes:
        """Return the bytes of a blob.

        Raises:
            NotFoundError: If it is not here any more (``blob-not-found``).
        """
        ...

    def give_back(self, blobs: Iterable[TrashedBlob]) -> None:
        """Move blobs back, durably and dated now; one whose key exists only leaves the trash."""
        ...

    def remove(self, blobs: Iterable[TrashedBlob]) -> None:
        """Remove blobs for good."""
        ...


@runtime_checkable
class TrashingBackend(Protocol):
    """A backend with a trash."""

    @property
    def trash(self) -> Trash:
        """What collection removed."""
        ...


@final
class FolderTrash:
    """The trash of the loose blobs of one folder."""

    def __init__(
        self,
        root: Path,
        sync: Callable[[Path], None],
        translated: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        """Name the store's folder.

        Args:
            root: The folder.
            sync: Makes the names in a folder durable.
            translated: Raises what the operating system refuses as errors of our own.
        """
        self._root = root
        self._sync = sync
        self._translated = translated

    def take(self, keys: Iterable[str], at: datetime) -> None:
        """Move blobs here."""
        folder = self._root / TRASH / at.astimezone(UTC).strftime(_MOMENT)
        with self._translated(f"move blobs to {folder}"):
            self._move({self._root / key: folder / key for key in keys})

    def give_back(self, blobs: Iterable[TrashedBlob]) -> None:
        """Move blobs back."""
        with self._translated(f"move blobs back to {self._root}"):
            ways = {self._place(blob): self._root / blob.key for blob in blobs}
            for place in ways:
                # Young again, so that the next collection spares it.
                with suppress(FileNotFoundError):
                    os.utime(place)
            self._move(ways)
            self._prune()

    def remove(self, blobs: Iterable[TrashedBlob]) -> None:
        """Remove blobs, and the folders that are empty then."""
        with self._translated(f"remove blobs in {self._root / TRASH}"):
            for blob in blobs:
                self._place(blob).unlink(missing_ok=True)
            self._prune()

    def read(self, blob: TrashedBlob) -> bytes:
        """Return a blob's bytes."""
        with self._translated(f"read {self._place(blob)}"):
            try:
                return self._place(blob).read_bytes()
            except FileNotFoundError as error:
                message = f"no blob {blob.key} in the trash"
                raise NotFoundError(message, code="blob-not-found") from error

    def list(self) -> Iterator[TrashedBlob]:
        """Yield what rests here, oldest first."""
        for folder, moment in self._batches():
            for place in sorted(folder.rglob("*")):
                if place.is_file() and not place.is_symlink():
                    yield TrashedBlob(
                        key=place.relative_to(folder).as_posix(),
                        size_bytes=place.stat().st_size,
                        trashed_at=moment,
                    )

    def _batches(self) -> Sequence[tuple[Path, datetime]]:
        """Return the folder of each collection and its moment, oldest first."""
        found: list[tuple[Path, datetime]] = []
        with suppress(FileNotFoundError, NotADirectoryError):
            for folder in sorted((self._root / TRASH).iterdir()):
                with suppress(ValueError):
                    moment = datetime.strptime(folder.name, _MOMENT).replace(tzinfo=UTC)
                    found.append((folder, moment))
        return found

    def _place(self, blob: TrashedBlob) -> Path:
        return self._root / TRASH / blob.trashed_at.strftime(_MOMENT) / blob.key

    def _move(self, ways: dict[Path, Path]) -> None:
        """Link each file to its new place, then remove it from the old one."""
        ways = {old: new for old, new in ways.items() if old.is_file()}
        folders = {new.parent for new in ways.values()}
        self._make_folders(folders)
        for old, new in ways.items():
            with suppress(FileExistsError):
                os.link(old, new)
        for folder in folders:
            self._sync(folder)
        for old in ways:
            old.unlink(missing_ok=True)
        for folder in {old.parent for old in ways}:
            self._sync(folder)

    def _make_folders(self, folders: Iterable[Path]) -> None:
        """Make folders, and make their names durable up to the store's."""
        above: set[Path] = set()
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            above.update(parent for parent in folder.parents if parent.is_relative_to(self._root))
        for parent in above:
            self._sync(parent)

    def _prune(self) -> None:
        """Remove empty folders, deepest first."""
        for batch, _ in self._batches():
            inside = [path for path in batch.rglob("*") if path.is_dir()]
            for folder in [*sorted(inside, reverse=True), batch]:
                with suppress(OSError):  # something is in it
                    folder.rmdir()
