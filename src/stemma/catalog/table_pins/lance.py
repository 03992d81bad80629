"""Lance: a version is its manifest, which names every fragment and is never rewritten.

Source: Lance table format, section "Versioning".  Read with ``pylance`` (extra ``lance``), from
a folder.  Cleaning up old versions takes a pinned one away, unless it is tagged there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from stemma.catalog.table_pins import places
from stemma.catalog.table_pins.pin import Column, DataFile, TablePin, sorted_files

NAME: str = "lance"
_NEWEST: Final = (1 << 64) - 1
"""Names of manifests count down from here, so that a listing begins with the newest."""


def is_at(folder: Path) -> bool:
    """Whether a folder holds such a table."""
    return next(folder.glob("_versions/*.manifest"), None) is not None


def pin(location: str, snapshot: str, root: Path) -> TablePin:
    """Pin a version.

    Args:
        location: The table's folder.
        snapshot: Its version; empty for the newest.
        root: The project's folder.

    Raises:
        NotFoundError: If it has no such version (``snapshot-not-found``).
        InvalidInputError: If it cannot be read, or the library is missing.
    """
    folder = Path(location)
    table = _open(folder, snapshot)
    version = int(table.version)
    names = (f"{_NEWEST - version:020d}.manifest", f"{version}.manifest")
    manifests = [path for name in names if (path := folder / "_versions" / name).is_file()]
    if not manifests:
        raise places.unreadable(location, FileNotFoundError(f"no manifest of version {version}"))
    return TablePin(
        format=NAME,
        location=places.location_of(folder, root),
        table="",
        snapshot=str(version),
        row_count=int(table.count_rows()),
        columns=tuple(Column(name=field.name, type=str(field.type)) for field in table.schema),
        anchors=(places.anchor_in(folder, manifests[0]),),
        files=sorted_files(_files(table, folder)),
    )


def examine(pinned: TablePin, root: Path) -> str:
    """Say what is wrong with a pinned version; empty when it reads as when it was pinned.

    Raises:
        InvalidInputError: If the table cannot be read, or the library is missing.
        NotFoundError: If the version was cleaned up.
    """
    folder = places.folder_of(pinned.location, root)
    if found := places.changed(pinned, folder):
        return found
    now = pin(str(folder), pinned.snapshot, root)
    return "" if now.canonical_digest == pinned.canonical_digest else "it reads otherwise now"


def _open(folder: Path, snapshot: str) -> Any:
    library = places.library("lance", NAME)
    if not is_at(folder):
        raise places.unreadable(str(folder), FileNotFoundError("no _versions/*.manifest"))
    try:
        newest = library.dataset(str(folder))
        known = [str(item["version"]) for item in newest.versions()]
        if snapshot and snapshot not in known:
            raise places.no_snapshot(str(folder), snapshot, ", ".join(known[-5:]))
        return newest.checkout_version(int(snapshot)) if snapshot else newest
    except (OSError, ValueError) as error:
        raise places.unreadable(str(folder), error) from error


def _files(table: Any, folder: Path) -> list[DataFile]:
    """Return the files of rows and of deletions."""
    names: set[str] = set()
    for fragment in table.get_fragments():
        names |= {f"data/{file.path}" for file in fragment.data_files()}
        deletions = fragment.deletion_file()
        names |= {str(deletions)} if deletions else set()
    try:
        return [DataFile(path=name, size_bytes=(folder / name).stat().st_size) for name in names]
    except OSError as error:
        raise places.unreadable(str(folder), error) from error
