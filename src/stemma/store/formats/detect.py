"""Which format a file has, by its first bytes, its zip directory and its name.

Invariants:
    * Bytes come before names: a pickle called ``model.json`` is a pickle.
    * Pickles are recognised by reading opcodes, never by loading; so are pickles inside
      zip files (torch) and numpy object arrays.  When in doubt between a pickle and
      something harmless, it is a pickle.
    * What is not known is ``OPAQUE``; no input makes this raise, except a file that
      cannot be opened.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final

from stemma.store.formats.facts import open_source
from stemma.store.formats.npz import NPY_MAGIC, holds_objects
from stemma.store.formats.pickles import is_pickle

_HEAD_BYTES: Final = 64 << 10
_SAFETENSORS_HEADER_LIMIT: Final = 100_000_000


class FileFormat(Enum):
    """Formats that mean something to us; the value is what manifests say."""

    SAFETENSORS = "safetensors"
    NPZ = "npz"
    NPY = "npy"
    SKOPS = "skops"
    ONNX = "onnx"
    GGUF = "gguf"
    PARQUET = "parquet"
    CSV = "csv"
    JSON = "json"
    YAML = "yaml"
    PICKLE = "pickle"
    OPAQUE = "opaque"


_MAGIC: Final = (
    (b"GGUF", FileFormat.GGUF),
    (b"PAR1", FileFormat.PARQUET),
)
_PICKLE_SUFFIXES: Final = frozenset({".pkl", ".pickle", ".joblib", ".dill"})
_TEXT_SUFFIXES: Final = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".json": FileFormat.JSON,
    ".yaml": FileFormat.YAML,
    ".yml": FileFormat.YAML,
}
_ONNX_VERSION_FIELD: Final = 0x08
_ZIP_FAULTS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    NotImplementedError,
)


def detect_format(source: Path | bytes, *, name: str = "") -> FileFormat:
    """Return the format of a file or of bytes.

    Args:
        source: A file, or its bytes.
        name: File name; taken from ``source`` when that is a path.
    """
    if isinstance(source, Path) and not name:
        name = source.name
    suffix = Path(name).suffix.lower()
    with open_source(source) as stream:
        size_bytes = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        head = stream.read(_HEAD_BYTES)
        found = _by_magic(stream, head, size_bytes) or _by_name(suffix, head)
    return found or FileFormat.OPAQUE


def _by_magic(stream: BinaryIO, head: bytes, size_bytes: int) -> FileFormat | None:
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head.startswith(NPY_MAGIC):
        stream.seek(0)
        return FileFormat.PICKLE if holds_objects(stream) else FileFormat.NPY
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(stream)
    if is_pickle(head, is_whole=size_bytes <= len(head)):
        return FileFormat.PICKLE
    if _is_safetensors(head, size_bytes):
        return FileFormat.SAFETENSORS
    return None


def _by_name(suffix: str, head: bytes) -> FileFormat | None:
    if suffix in _PICKLE_SUFFIXES:
        return FileFormat.PICKLE
    if suffix == ".onnx" and head[:1] == bytes([_ONNX_VERSION_FIELD]):
        return FileFormat.ONNX
    if b"\0" in head:
        return None
    return _TEXT_SUFFIXES.get(suffix)


def _is_safetensors(head: bytes, size_bytes: int) -> bool:
    header_bytes = int.from_bytes(head[:8], "little")
    return (
        2 <= header_bytes <= min(_SAFETENSORS_HEADER_LIMIT, size_bytes - 8)  # noqa: PLR2004  "{}"
        and head[8:9] == b"{"
    )


def _zip_format(stream: BinaryIO) -> FileFormat:
    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
            if any(Path(name).suffix.lower() in _PICKLE_SUFFIXES for name in names):
                return FileFormat.PICKLE
            if "schema.json" in names and _is_skops(archive):
                return FileFormat.SKOPS
            arrays = [name for name in names if name.endswith(".npy")]
            if any(_member_holds_objects(archive, name) for name in arrays):
                return FileFormat.PICKLE
            if names and len(arrays) == len(names):
                return FileFormat.NPZ
    except _ZIP_FAULTS:
        return FileFormat.OPAQUE
    return FileFormat.OPAQUE


def _member_holds_objects(archive: zipfile.ZipFile, name: str) -> bool:
    with archive.open(name) as member:
        return holds_objects(member)


def _is_skops(archive: zipfile.ZipFile) -> bool:
    with archive.open("schema.json") as member:
        head = member.read(_HEAD_BYTES * 256)
    try:
        schema: object = json.loads(head)
    except (ValueError, RecursionError):
        return False
    return isinstance(schema, dict) and "__loader__" in schema
