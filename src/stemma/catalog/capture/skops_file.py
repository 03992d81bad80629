"""What a skops container holds, without loading it.

skops numbers its nodes by memory address and names its arrays by the same number, so two
dumps of one model differ in every byte that matters to nobody.  Here nodes are numbered
in the order they appear, and arrays are named by their place.

Invariants:
    * Nothing is constructed: JSON and array headers are read, no class is looked up.
    * A container that is not well formed gives ``None``, never an exception.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stemma.catalog.capture.contents import FileContent
from stemma.store.formats.facts import TensorFact
from stemma.store.formats.npz import read_npy
from stemma.store.hashing import hash_bytes

_SCHEMA_LIMIT_BYTES: Final = 64 * 1024 * 1024
_MEMBER_LIMIT_BYTES: Final = 1 << 30
_WRITTEN_BY: Final = frozenset({"protocol", "_skops_version"})
_FAULTS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    RecursionError,
    NotImplementedError,
)


def read_skops(path: Path) -> FileContent | None:
    """Return arrays and normalised schema of a skops file; ``None`` when malformed."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("schema.json").file_size > _SCHEMA_LIMIT_BYTES:
                return None
            schema = json.loads(archive.read("schema.json"))
            if not isinstance(schema, dict):
                return None
            walk = _Walk(archive)
            described = {key: schema[key] for key in schema if key not in _WRITTEN_BY}
            tree = walk.normalise(described, "")
    except _FAULTS:
        return None
    return FileContent(tensors=walk.tensors, configuration={"schema": tree})


@dataclass(slots=True)
class _Walk:
    """Numbers nodes in the order they appear and collects arrays."""

    archive: zipfile.ZipFile
    tensors: dict[str, TensorFact] = field(default_factory=dict)
    numbers: dict[object, int] = field(default_factory=dict)

    def normalise(self, value: object, place: str) -> object:
        if isinstance(value, list):
            return [self.normalise(item, f"{place}.{i}") for i, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        answer: dict[str, object] = {}
        for key, item in sorted(value.items()):
            if key == "__id__":
                answer[key] = self.numbers.setdefault(item, len(self.numbers))
            elif key == "file" and isinstance(item, str):
                answer[key] = self._member(item, place)
            else:
                step = "" if key == "content" else f".{key}"
                answer[key] = self.normalise(item, place + step)
        return answer

    def _member(self, member: str, place: str) -> str:
        if self.archive.getinfo(member).file_size > _MEMBER_LIMIT_BYTES:
            raise ValueError(member)
        data = self.archive.read(member)
        fact = read_npy(data) if member.endswith(".npy") else None
        if fact is None:
            return str(hash_bytes(data))
        name = place.strip(".")
        if name in self.tensors:
            raise ValueError(name)
        self.tensors[name] = fact
        return "tensor"
