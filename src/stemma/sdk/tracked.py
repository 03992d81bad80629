"""What ``stemma add`` tracks, found by its pointer; nothing of it is read before one asks."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stemma.catalog.capture.data import capture_dataset_path
from stemma.catalog.pointer_files import SUFFIX
from stemma.catalog.pointers import Pointer, pointer_path, read_pointer
from stemma.domain import component
from stemma.domain.component import DatasetRole
from stemma.domain.digest import Digest
from stemma.hub.parts import Owner
from stemma.sdk.materials import materialise
from stemma.server.wiring import open_hub

_FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """What a pointer of ``stemma add`` names.

    Attributes:
        name: Name of the file or folder.
        pointer: The pointer.
        source: Its path as the caller named it.
    """

    name: str
    pointer: Pointer
    source: str

    @property
    def format(self) -> str:
        """What the name says of the format; nothing has been read."""
        if self.pointer.kind == "folder":
            return "folder"
        suffix = Path(self.name).suffix.lower()
        return _FORMATS.get(suffix, suffix.lstrip(".") or "opaque")

    def capture(self) -> component.Dataset:
        """Read all of it."""
        with closing(open_hub()) as hub, hub.reading(self.pointer.content):
            folder = materialise(hub, self.pointer.content, Owner(what=self.source))
        content = folder if self.pointer.kind == "folder" else folder / self.name
        found = capture_dataset_path(self.name, content, DatasetRole.TRAINING)
        return component.Dataset(
            name=self.name,
            role=found.role,
            identity=Digest.blake3(found.canonical_digest),
            content=self.pointer.content,
            format=found.format,
            row_count=found.row_count,
            size_bytes=self.pointer.size_bytes,
            columns=found.columns,
            source=self.source,
        )


def find_tracked(project_root: Path, ref: str) -> Tracked | None:
    """Find the pointer of a path, seen from here or from the project's root.

    Raises:
        IntegrityError: If the pointer is damaged.
    """
    named = Path(ref.removesuffix(SUFFIX))
    places = (pointer_path(folder / named) for folder in (Path(), project_root) if named.name)
    for file in places:
        if file.is_file():
            return Tracked(
                name=file.name.removesuffix(SUFFIX),
                pointer=read_pointer(file),
                source=ref.removesuffix(SUFFIX),
            )
    return None
