"""``stemma add --table``: pin a snapshot of a table that lives elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stemma.catalog.pointers import replace_durably
from stemma.catalog.table_pins.formats import has_its_files, pin_table
from stemma.catalog.table_pins.pin import SUFFIX, TablePin, encode_pin
from stemma.cli import render
from stemma.cli.console import Answer
from stemma.hub.base import Hub
from stemma.store.backends.files import translate_os_error


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedTable:
    """A pin that was written.

    Attributes:
        path: Where.
        pin: What it says.
        is_unchanged: It said this already.
    """

    path: Path
    pin: TablePin
    is_unchanged: bool


def pin_tables(hub: Hub, locations: list[str], snapshot: str) -> list[PinnedTable]:
    """Pin a snapshot of each table, and write ``NAME.table.json`` into the current folder.

    Raises:
        NotFoundError: If there is no such folder or snapshot.
        InvalidInputError: If it is no table, or cannot be read.
        UnavailableError: If there is no room for the pin (``disk-full``).
    """
    root = hub.project_root
    pins = [(location, pin_table(location, snapshot, root)) for location in locations]
    return [_write(Path(_name(location) + SUFFIX), pin) for location, pin in pins]


def pinned_answer(tables: list[PinnedTable]) -> Answer:
    """Return what the command shows."""
    return Answer(
        payload=[
            {
                "path": str(item.path),
                "format": item.pin.format,
                "snapshot": item.pin.snapshot,
                "row_count": item.pin.row_count,
                "file_count": len(item.pin.files),
                "size_bytes": sum(file.size_bytes for file in item.pin.files),
                "is_unchanged": item.is_unchanged,
            }
            for item in tables
        ],
        card=[_line(item) for item in tables],
        hints=[f"use it as a dataset: run.data(..., '{item.path}')" for item in tables[:1]],
    )


def _name(location: str) -> str:
    """Return a name for the pin: the table's folder's."""
    parts = [part for part in location.rstrip("/").split("/") if part not in {"", "."}]
    if len(parts) > 1 and parts[-1].endswith(".metadata.json"):
        parts = parts[:-2]  # …/TABLE/metadata/00001-….metadata.json
    if not parts or parts[-1] == "..":
        return Path(location).resolve().name
    return parts[-1].removesuffix(".lance")


def _write(path: Path, pin: TablePin) -> PinnedTable:
    data = encode_pin(pin)
    try:
        if path.is_file() and path.read_bytes() == data:
            return PinnedTable(path=path, pin=pin, is_unchanged=True)
        replace_durably(path, data)
    except OSError as error:
        raise translate_os_error(error, f"write {path}") from error
    return PinnedTable(path=path, pin=pin, is_unchanged=False)


def _line(item: PinnedTable) -> str:
    pin = item.pin
    size_bytes = sum(file.size_bytes for file in pin.files)
    rows = f", {render.count(pin.row_count, 'row')}" if pin.row_count >= 0 else ""
    what = f"{pin.format} snapshot {pin.snapshot}{rows}, {render.count(len(pin.files), 'file')}"
    kept = "recorded with its files" if has_its_files(pin) else "not copied"
    mark, word = (render.NOTED, " unchanged") if item.is_unchanged else (render.DONE, "")
    return f"{mark} {item.path}{word}   {what}, {render.size(size_bytes)}   {kept}"
