"""A file as an ordered partition into tensor and opaque ranges.

Invariants:
    * Ranges cover the file exactly, whatever is in it: what cannot be read is one opaque range
      with a warning that says why.
    * Only headers and directories are read, within bounded memory and time; nothing is
      unpickled, decompressed or run.
    * Bytes come before names; a name decides only for formats without a mark of their own.

What this module does not do: it neither reads tensor data nor says how a range is stored.

Example:
    >>> with path.open("rb") as stream:
    ...     found = partition(stream, path.stat().st_size, name=path.name)
    >>> found.ranges[1].name
    'encoder.layer.0.weight'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import BinaryIO, Final

from stemma.store.formats.bounded import BoundedSource
from stemma.store.formats.layouts import gguf, npy, onnx, parquet, safetensors, zips
from stemma.store.formats.npz import NPY_MAGIC
from stemma.store.formats.ranges import FileRange, MalformedError, Partition, cover, opaque

__all__ = ["FileRange", "Partition", "partition", "tensor_ranges"]

Finder = Callable[[BoundedSource], Iterator[FileRange]]

_MAGIC: Final[tuple[tuple[bytes, str, Finder], ...]] = (
    (b"GGUF", "GGUF", gguf.find_tensors),
    (NPY_MAGIC, "npy", npy.find_tensors),
    (b"PK\x03\x04", "zip", zips.find_tensors),
    (b"PAR1", "parquet", parquet.find_tensors),
)
_SUFFIXES: Final[dict[str, tuple[str, Finder]]] = {
    ".gguf": ("GGUF", gguf.find_tensors),
    ".npy": ("npy", npy.find_tensors),
    ".npz": ("zip", zips.find_tensors),
    ".onnx": ("ONNX", onnx.find_tensors),
    ".parquet": ("parquet", parquet.find_tensors),
    ".safetensors": ("safetensors", safetensors.find_tensors),
}
_HEAD_BYTES: Final = 9
_SMALLEST_FILE_BYTES: Final = 16


def partition(stream: BinaryIO, size_bytes: int, *, name: str = "") -> Partition:
    """Return a file's ranges; never raises for what is in the file.

    Args:
        stream: The file, seekable; afterwards it stands at its beginning.
        size_bytes: How many bytes it has.
        name: Its name.
    """
    source = BoundedSource(stream, size_bytes)
    try:
        found = finder_of(source, name)
        if found is None:
            return Partition(ranges=opaque(size_bytes))
        format_name, finder = found
        try:
            return Partition(ranges=cover(finder(source), size_bytes))
        except MalformedError as error:
            warning = f"taken as opaque bytes, for it is no well-formed {format_name} file: {error}"
            return Partition(ranges=opaque(size_bytes), warning=warning)
    finally:
        stream.seek(0)


def tensor_ranges(stream: BinaryIO, size_bytes: int, *, name: str = "") -> dict[str, FileRange]:
    """Return a file's tensors by name; those too small for a range of their own are left out."""
    found = partition(stream, size_bytes, name=name)
    return {item.name: item for item in found.ranges if item.is_tensor}


def finder_of(source: BoundedSource, name: str) -> tuple[str, Finder] | None:
    """Return the format a file seems to have, and what finds its tensors."""
    if source.size_bytes < _SMALLEST_FILE_BYTES:
        return None
    try:
        head = source.read(0, _HEAD_BYTES)
    except MalformedError:  # the stream is shorter than the caller says
        return None
    for magic, format_name, finder in _MAGIC:
        if head.startswith(magic):
            return format_name, finder
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= source.size_bytes - 8:
        return _SUFFIXES[".safetensors"]
    return _SUFFIXES.get(PurePath(name).suffix.lower())
