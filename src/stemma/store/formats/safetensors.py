"""The safetensors container: a JSON header and raw tensors, already in canonical order.

Invariants:
    * The header is bounded (100 MB, as in the reference implementation), and every range
      is checked against the file before it is read.
    * Malformed input gives ``None``, never an exception.
"""

from __future__ import annotations

import io
import struct
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from blake3 import blake3

from stemma.store.formats.facts import TensorFact, open_source

_HEADER_LIMIT_BYTES: Final = 100_000_000
_METADATA_LIMIT_BYTES: Final = 16 << 20
_BLOCK_BYTES: Final = 1 << 20
_LENGTH: Final = struct.Struct("<Q")
TYPES: Final = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "F32": ("float32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F64": ("float64", 8),
    "C64": ("complex64", 8),
}
"""numpy's (or ml_dtypes') name and size per name in a header."""


ALIAS_PREFIX: Final = "alias:"
"""Before a key of the metadata: another name of the tensor that the value names."""


class Entry(msgspec.Struct, frozen=True):
    """One tensor of the header.

    Attributes:
        dtype: The format's name of its type.
        shape: Sizes per dimension.
        data_offsets: Begin and end, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Described(msgspec.Struct, frozen=True):
    """The part of a header that describes the file."""

    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)


class _MalformedError(ValueError):
    """The bytes are not a safetensors file; stays inside this module."""


def read_safetensors(source: Path | bytes) -> dict[str, TensorFact] | None:
    """Return the tensors by name, or ``None`` when the file is malformed."""
    try:
        with open_source(source) as stream:
            return _read(stream)
    except (ValueError, OSError, msgspec.MsgspecError, RecursionError):
        return None


def read_metadata(stream: BinaryIO) -> dict[str, str]:
    """Return the texts that a file says of itself; none when it is malformed."""
    stream.seek(0)
    header_bytes = int.from_bytes(stream.read(_LENGTH.size), "little")
    if header_bytes > _METADATA_LIMIT_BYTES:
        return {}
    try:
        header = msgspec.json.decode(stream.read(header_bytes), type=_Described)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return header.metadata


def _read(stream: BinaryIO) -> dict[str, TensorFact]:
    size_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    prefix = stream.read(_LENGTH.size)
    if len(prefix) < _LENGTH.size:
        raise _MalformedError
    (header_bytes,) = _LENGTH.unpack(prefix)
    data_start = _LENGTH.size + header_bytes
    if header_bytes > _HEADER_LIMIT_BYTES or data_start > size_bytes:
        raise _MalformedError
    header = msgspec.json.decode(stream.read(header_bytes), type=dict[str, msgspec.Raw])
    facts: dict[str, TensorFact] = {}
    for name, raw in header.items():
        if name != "__metadata__":
            entry = msgspec.json.decode(raw, type=Entry)
            facts[name] = _fact(stream, entry, data_start, size_bytes)
    return facts


def _fact(stream: BinaryIO, entry: Entry, data_start: int, size_bytes: int) -> TensorFact:
    start, end = entry.data_offsets
    if entry.dtype not in TYPES or min(entry.shape, default=0) < 0:
        raise _MalformedError
    dtype, item_bytes = TYPES[entry.dtype]
    is_inside = 0 <= start <= end <= size_bytes - data_start
    if not is_inside or end - start != prod(entry.shape) * item_bytes:
        raise _MalformedError
    stream.seek(data_start + start)
    hasher = blake3()
    left = end - start
    while left:
        block = stream.read(min(left, _BLOCK_BYTES))
        if not block:
            raise _MalformedError
        hasher.update(block)
        left -= len(block)
    return TensorFact(dtype, entry.shape, hasher.hexdigest())
