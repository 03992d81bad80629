"""Delta Lake: a version is pinned with its files, for ``VACUUM`` deletes those of old versions.

Source: Delta transaction log protocol, section "Actions".  Read with ``deltalake`` (extra
``delta``), from a folder.  The files of rows are part of the dataset and go into the store, so a
version that was recorded can be had even after the table forgot it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from stemma.catalog.table_pins import places
from stemma.catalog.table_pins.pin import (
    Column,
    DataFile,
    TablePin,
    sorted_anchors,
    sorted_files,
)

NAME: str = "delta"


def is_at(folder: Path) -> bool:
    """Whether a folder holds such a table."""
    return (folder / "_delta_log").is_dir()


def pin(location: str, snapshot: str, root: Path) -> TablePin:
    """Pin a version with its files.

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
    arrow = places.library("pyarrow", NAME)
    if "deletionVectors" in (table.protocol().reader_features or ()):
        raise places.unreadable(location, ValueError("it has deletion vectors, which are not read"))
    actions = arrow.table(table.get_add_actions(flatten=True)).to_pylist()
    files = [
        DataFile(path=unquote(item["path"]), size_bytes=int(item["size_bytes"])) for item in actions
    ]
    if outside := next((item.path for item in files if not _is_below(item.path)), ""):
        raise places.unreadable(location, ValueError(f"{outside} lies outside of it"))
    counts = [item.get("num_records") for item in actions]
    try:
        anchors = [places.anchor_in(folder, folder / item.path) for item in files]
    except OSError as error:
        raise places.unreadable(location, error) from error
    return TablePin(
        format=NAME,
        location=places.location_of(folder, root),
        table=str(table.metadata().id),
        snapshot=str(table.version()),
        row_count=-1 if None in counts else sum(counts),
        columns=tuple(
            Column(name=field.name, type=str(field.type))
            for field in arrow.schema(table.schema().to_arrow())
        ),
        anchors=sorted_anchors(anchors),
        files=sorted_files(files),
    )


def examine(pinned: TablePin, root: Path) -> str:
    """Say what is wrong with the files of a pinned version; empty when each is as it was.

    The table may have moved on and forgotten the version: its files are what counts.
    """
    folder = places.folder_of(pinned.location, root)
    wrong = (places.changed_anchor(folder, anchor) for anchor in pinned.anchors)
    return next(filter(None, wrong), "")


def _is_below(path: str) -> bool:
    return "://" not in path and not path.startswith("/") and ".." not in Path(path).parts


def _open(folder: Path, snapshot: str) -> Any:
    library = places.library("deltalake", NAME)
    errors = places.library("deltalake.exceptions", NAME)
    try:
        table = library.DeltaTable(str(folder.resolve()))
        newest = table.version()
        is_known = snapshot.isdecimal() and int(snapshot) <= newest
        if snapshot and not is_known:
            raise places.no_snapshot(str(folder), snapshot, f"0 to {newest}")
        if snapshot:
            table.load_as_version(int(snapshot))
    except (errors.DeltaError, OSError, ValueError) as error:
        raise places.unreadable(str(folder), error) from error
    return table
