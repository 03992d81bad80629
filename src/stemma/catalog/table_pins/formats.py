"""Which format a table has, and what is asked of every format."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from stemma.catalog.table_pins import delta, iceberg, lance, places
from stemma.catalog.table_pins.pin import TablePin, read_pin
from stemma.domain.errors import InvalidInputError, NotFoundError


class TableFormat(Protocol):
    """What a format's module does; the modules say it in full."""

    NAME: str

    def is_at(self, folder: Path) -> bool:
        """Whether a folder holds such a table."""
        ...

    def pin(self, location: str, snapshot: str, root: Path) -> TablePin:
        """Pin a snapshot."""
        ...

    def examine(self, pinned: TablePin, root: Path) -> str:
        """Say what is wrong with a pinned snapshot; empty when nothing is."""
        ...


_FORMATS: Final[dict[str, TableFormat]] = {
    "iceberg": iceberg,
    "lance": lance,
    "delta": delta,
}
NAMES: Final = frozenset(_FORMATS)


def pin_table(location: str, snapshot: str, root: Path) -> TablePin:
    """Pin a snapshot of the table at a folder or address.

    Args:
        location: A folder, or the address of an Iceberg metadata file in an object store.
        snapshot: The snapshot's id or version; empty for the newest.
        root: The project's folder.

    Raises:
        NotFoundError: If there is no such folder or snapshot.
        InvalidInputError: If it is no table, cannot be read, or its library is missing.
    """
    if places.is_address(location):
        return iceberg.pin(location, snapshot, root)
    folder = Path(location)
    if not folder.is_dir():
        raise NotFoundError(f"no folder {location}", code="file-not-found", hint="ls")
    for candidate in _FORMATS.values():
        if candidate.is_at(folder):
            return candidate.pin(location, snapshot, root)
    raise InvalidInputError(
        f"{location} is no Iceberg, Lance or Delta table",
        code="unreadable-table",
        hint=f"stemma add {location}   (to store its files)",
    )


def examine_table(pinned: TablePin, root: Path) -> str:
    """Say what is wrong with a pinned snapshot; empty when it reads as when it was pinned.

    Raises:
        InvalidInputError: If its format is not known, it cannot be read, or a library is missing.
        NotFoundError: If the snapshot is gone.
    """
    found = _FORMATS.get(pinned.format)
    if found is None:
        raise InvalidInputError(
            f"tables of format {pinned.format!r} are not known",
            code="bad-table-pin",
            hint="upgrade stemma",
        )
    return found.examine(pinned, root)


def has_its_files(pinned: TablePin) -> bool:
    """Whether the files of a pinned snapshot are recorded with it.

    Only a Delta table's are: whoever cleans the table up takes them away.
    """
    return pinned.format == delta.NAME


def pinned_files(path: Path) -> tuple[TablePin, dict[str, Path]]:
    """Read a pin in a project, and say which files belong to the dataset beside it.

    Raises:
        NotFoundError: If there is no such pin.
        InvalidInputError: If it is no pin, or a file is not what it was (``table-changed``).
    """
    pinned = read_pin(path)
    if not has_its_files(pinned):
        return pinned, {}
    root = next((top for top in path.resolve().parents if (top / ".stemma").is_dir()), path.parent)
    if wrong := delta.examine(pinned, root):
        raise InvalidInputError(
            f"{path}: {wrong}, so version {pinned.snapshot} cannot be recorded",
            code="table-changed",
            hint=f"stemma add --table {pinned.location}",
        )
    folder = places.folder_of(pinned.location, root)
    return pinned, {f"table/{file.path}": folder / file.path for file in pinned.files}
