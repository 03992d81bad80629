"""The ranges of a file: tensors as a parser found them, and opaque bytes between them.

Invariants:
    * Ranges are in order and cover the file without gap or overlap; none is empty.
    * What a parser says is checked here, once for all formats: a tensor that lies outside the
      file, overlaps another, has the name of another or the wrong size for its shape is refused.
    * Counts are bounded, so is memory.

What this module does not do: it reads no file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from operator import attrgetter
from typing import Final

SMALLEST_TENSOR_BYTES: Final = 4096
"""Smaller tensors join the opaque bytes around them: a frame of their own would cost more."""

TENSOR_LIMIT: Final = 65_536
"""A file that names more tensors is taken as opaque; hence at most 131,073 ranges."""

_DIMENSION_LIMIT: Final = 64
_SHOWN_CHARACTERS: Final = 60

ITEM_BYTES: Final = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
"""Element types a tensor range may have, always little-endian; all others are opaque."""


class MalformedError(ValueError):
    """A file is not what it seems; the message says why.  Stays inside this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """One stretch of a file.

    Attributes:
        offset: Where it begins, in bytes.
        size_bytes: How long it is; never 0 in a partition.
        name: Name of the tensor; empty for an opaque range.
        dtype: numpy's name of the element type, or ``bfloat16``, ``float8_e4m3fn``,
            ``float8_e5m2``; empty for an opaque range.
        shape: Sizes per dimension, as the bytes lie in C order; empty for an opaque range
            and for a scalar.
    """

    offset: int
    size_bytes: int
    name: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()

    @property
    def is_tensor(self) -> bool:
        """Whether a parser knows what is in it."""
        return bool(self.dtype)

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A file's ranges in order: they cover it without gap or overlap.

    Attributes:
        ranges: From the first byte to the last; empty for an empty file.
        warning: Why a file that looked like a known format was taken as opaque; empty when
            nothing was wrong.
    """

    ranges: tuple[FileRange, ...]
    warning: str = ""


def opaque(size_bytes: int) -> tuple[FileRange, ...]:
    """Return a whole file as one opaque range, or none when it is empty."""
    return (FileRange(offset=0, size_bytes=size_bytes),) if size_bytes else ()


def cover(found: Iterable[FileRange], size_bytes: int) -> tuple[FileRange, ...]:
    """Return the ranges of a file in which a parser found tensors, in any order.

    Raises:
        MalformedError: If the tensors contradict each other or the file.
    """
    tensors = [tensor for tensor in checked(found, size_bytes) if tensor.size_bytes]
    tensors.sort(key=attrgetter("offset"))
    ranges: list[FileRange] = []
    covered = end = 0
    for tensor in tensors:
        if tensor.offset < end:
            raise MalformedError(f"tensor {shown(tensor.name)} overlaps the one before it")
        end = tensor.end
        if tensor.size_bytes < SMALLEST_TENSOR_BYTES:
            continue
        if tensor.offset > covered:
            ranges.append(FileRange(offset=covered, size_bytes=tensor.offset - covered))
        ranges.append(tensor)
        covered = end
    if covered < size_bytes:
        ranges.append(FileRange(offset=covered, size_bytes=size_bytes - covered))
    return tuple(ranges)


def shown(name: str) -> str:
    """Return a name of a foreign file such that it fits into a message."""
    is_long = len(name) > _SHOWN_CHARACTERS
    return ascii(name[:_SHOWN_CHARACTERS]) + ("…" if is_long else "")


def checked(found: Iterable[FileRange], size_bytes: int) -> list[FileRange]:
    """Return every tensor that a parser found, the empty ones too, in its order.

    Raises:
        MalformedError: If one contradicts itself, the file, or has the name of another.
    """
    names: set[str] = set()
    tensors: list[FileRange] = []
    for tensor in found:
        if len(names) >= TENSOR_LIMIT:
            raise MalformedError(f"it names more than {TENSOR_LIMIT} tensors")
        _check(tensor, size_bytes)
        if tensor.name in names:
            raise MalformedError(f"two tensors are named {shown(tensor.name)}")
        names.add(tensor.name)
        tensors.append(tensor)
    return tensors


def _check(tensor: FileRange, size_bytes: int) -> None:
    named = f"tensor {shown(tensor.name)}"
    if tensor.offset < 0 or tensor.size_bytes < 0 or tensor.end > size_bytes:
        raise MalformedError(f"{named} lies outside the file")
    if len(tensor.shape) > _DIMENSION_LIMIT:
        raise MalformedError(f"{named} has more than {_DIMENSION_LIMIT} dimensions")
    if min(tensor.shape, default=0) < 0:
        raise MalformedError(f"{named} has a negative dimension")
    if prod(tensor.shape) * ITEM_BYTES[tensor.dtype] != tensor.size_bytes:
        raise MalformedError(f"{named} has a size that does not fit its shape")
