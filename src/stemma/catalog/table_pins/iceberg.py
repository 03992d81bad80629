"""Apache Iceberg: a snapshot is its manifest list and manifests, which are never rewritten.

Source: Apache Iceberg table specification, version 2, sections "Snapshots" and "Manifests".
Read with ``pyiceberg`` (extra ``iceberg``), in a folder or in an object store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from stemma.catalog.table_pins import places
from stemma.catalog.table_pins.pin import (
    Anchor,
    Column,
    DataFile,
    TablePin,
    sorted_anchors,
    sorted_files,
)
from stemma.domain.errors import StemmaError

NAME: str = "iceberg"
_METADATA: Final = re.compile(r"v?(\d+)(-.*)?\.metadata\.json")


def is_at(folder: Path) -> bool:
    """Whether a folder holds such a table."""
    return _newest_metadata(folder) is not None


def pin(location: str, snapshot: str, root: Path) -> TablePin:
    """Pin a snapshot.

    Args:
        location: The table's folder, or the address of one of its metadata files.
        snapshot: Its id; empty for the current one.
        root: The project's folder.

    Raises:
        NotFoundError: If it has no such snapshot (``snapshot-not-found``).
        InvalidInputError: If it cannot be read, or the library is missing.
    """
    folder = None if places.is_address(location) else Path(location)
    table = _open(location, folder)
    found = _snapshot(table, snapshot, location)
    with _reading(location):
        anchors = [_anchor(table, path, folder) for path in _anchor_paths(table, found)]
        files = list(_files(table, found, folder))
    schema = table.schemas().get(found.schema_id) or table.schema()
    return TablePin(
        format=NAME,
        location=location if folder is None else places.location_of(folder, root),
        table=str(table.metadata.table_uuid),
        snapshot=str(found.snapshot_id),
        row_count=int(found.summary.get("total-records", -1)) if found.summary else -1,
        columns=tuple(Column(name=field.name, type=str(field.type)) for field in schema.as_arrow()),
        anchors=sorted_anchors(anchors),
        files=sorted_files(files),
    )


def examine(pinned: TablePin, root: Path) -> str:
    """Say what is wrong with a pinned snapshot; empty when it reads as when it was pinned.

    Raises:
        InvalidInputError: If the table cannot be read, or the library is missing.
        NotFoundError: If the snapshot has expired.
    """
    is_remote = places.is_address(pinned.location)
    location = pinned.location
    if not is_remote:
        folder = places.folder_of(location, root)
        if found := places.changed(pinned, folder):
            return found
        location = str(folder)
    now = pin(location, pinned.snapshot, root)
    return "" if now.canonical_digest == pinned.canonical_digest else "it reads otherwise now"


def _newest_metadata(folder: Path) -> Path | None:
    numbered = [
        (int(match[1]), path)
        for path in folder.glob("metadata/*.metadata.json")
        if (match := _METADATA.fullmatch(path.name))
    ]
    return max(numbered, default=(0, None))[1]


def _open(location: str, folder: Path | None) -> Any:
    library = places.library("pyiceberg.table", NAME)
    address = location
    if folder is not None:
        metadata = _newest_metadata(folder)
        if metadata is None:
            raise places.unreadable(location, FileNotFoundError("no metadata/*.metadata.json"))
        address = metadata.resolve().as_uri()
    with _reading(location):
        return library.StaticTable.from_metadata(address)


@contextmanager
def _reading(location: str) -> Iterator[None]:
    """Translate what the library raises on bytes that are no table."""
    try:
        yield
    except StemmaError:
        raise
    except Exception as error:
        raise places.unreadable(location, error) from error


def _snapshot(table: Any, wanted: str, location: str) -> Any:
    known = {str(item.snapshot_id): item for item in table.snapshots()}
    current = table.current_snapshot()
    found = known.get(wanted) if wanted else current
    if found is None:
        raise places.no_snapshot(location, wanted, ", ".join(list(known)[-5:]))
    return found


def _anchor_paths(table: Any, snapshot: Any) -> list[str]:
    manifests = [item.manifest_path for item in snapshot.manifests(table.io)]
    return [snapshot.manifest_list, *manifests]


def _anchor(table: Any, path: str, folder: Path | None) -> Anchor:
    with table.io.new_input(path).open() as stream:
        data = stream.read()
    digest = hashlib.sha256(data).hexdigest()
    return Anchor(path=places.below(path, folder), sha256=f"sha256:{digest}")


def _files(table: Any, snapshot: Any, folder: Path | None) -> Iterator[DataFile]:
    """Yield the files of rows and of deletions, each once."""
    seen: set[str] = set()
    for task in table.scan(snapshot_id=snapshot.snapshot_id).plan_files():
        for file in (task.file, *task.delete_files):
            if file.file_path not in seen:
                seen.add(file.file_path)
                path = places.below(file.file_path, folder)
                yield DataFile(path=path, size_bytes=int(file.file_size_in_bytes))
