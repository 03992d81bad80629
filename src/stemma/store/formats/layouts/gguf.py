"""Where the tensors lie in a GGUF file (https://github.com/ggml-org/ggml, docs/gguf.md).

Invariants:
    * Metadata is stepped over; only ``general.alignment`` is read.
    * Quantised tensors are opaque: their bytes are blocks of mixed content.
    * Versions 2 and 3, little-endian; arrays of arrays, which nobody writes, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stemma.store.formats.bounded import BoundedSource, Cursor
from stemma.store.formats.ranges import (
    ITEM_BYTES,
    TENSOR_LIMIT,
    FileRange,
    MalformedError,
    shown,
)

_VERSIONS: Final = frozenset({2, 3})
_HEADER_LIMIT_BYTES: Final = 100_000_000
_NAME_LIMIT_BYTES: Final = 1024
_DIMENSION_LIMIT: Final = 8
_KEY_LIMIT: Final = 100_000
_DEFAULT_ALIGNMENT: Final = 32
_ALIGNMENT_KEY: Final = b"general.alignment"
_UINT32: Final = 4
_STRING: Final = 8
_ARRAY: Final = 9
_VALUE_BYTES: Final = {
    0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8,
}  # fmt: skip
"""Size per type of metadata value; texts and arrays have none."""
_TYPES: Final = {
    0: "float32",
    1: "float16",
    24: "int8",
    25: "int16",
    26: "int32",
    27: "int64",
    28: "float64",
    30: "bfloat16",
}
"""Element type per ggml type; those not listed are quantised."""


def find_tensors(source: BoundedSource) -> Iterator[FileRange]:
    """Yield the tensors that are not quantised.

    Raises:
        MalformedError: If the header cannot be read.
    """
    cursor = Cursor(source, 4, min(source.size_bytes, _HEADER_LIMIT_BYTES))
    version = cursor.unsigned(4)
    if version not in _VERSIONS:
        raise MalformedError(f"its version is {version}; 2 and 3 are known")
    tensor_count = cursor.unsigned(8)
    key_count = cursor.unsigned(8)
    if tensor_count > TENSOR_LIMIT or key_count > _KEY_LIMIT:
        raise MalformedError(f"it claims {tensor_count} tensors and {key_count} keys")
    alignment = _DEFAULT_ALIGNMENT
    for _ in range(key_count):
        alignment = _step_over_pair(cursor) or alignment
    infos = [_info(cursor) for _ in range(tensor_count)]
    data_start = -(-cursor.position // alignment) * alignment
    for name, kind, shape, offset in infos:
        dtype = _TYPES.get(kind)
        if dtype is not None:
            count = 1
            for size in shape:
                count *= size
            yield FileRange(
                offset=data_start + offset,
                size_bytes=count * ITEM_BYTES[dtype],
                name=name,
                dtype=dtype,
                shape=shape,
            )


def _step_over_pair(cursor: Cursor) -> int:
    """Step over a key and its value; return the alignment if that is what it says, else 0."""
    key_bytes = cursor.unsigned(8)
    is_alignment = key_bytes == len(_ALIGNMENT_KEY) and cursor.take(key_bytes) == _ALIGNMENT_KEY
    if key_bytes != len(_ALIGNMENT_KEY):
        cursor.skip(key_bytes)
    kind = cursor.unsigned(4)
    if is_alignment:
        alignment = cursor.unsigned(4) if kind == _UINT32 else 0
        if not alignment or alignment & (alignment - 1):
            raise MalformedError("its alignment is no power of two")
        return alignment
    if kind == _ARRAY:
        _step_over_array(cursor)
    else:
        _step_over_values(cursor, kind, 1)
    return 0


def _step_over_array(cursor: Cursor) -> None:
    kind = cursor.unsigned(4)
    if kind == _ARRAY:
        raise MalformedError("it has an array of arrays")
    _step_over_values(cursor, kind, cursor.unsigned(8))


def _step_over_values(cursor: Cursor, kind: int, count: int) -> None:
    if kind == _STRING:
        for _ in range(count):  # each costs at least eight bytes, so a lie ends with the header
            cursor.skip(cursor.unsigned(8))
    elif kind in _VALUE_BYTES:
        cursor.skip(count * _VALUE_BYTES[kind])
    else:
        raise MalformedError(f"its metadata have the unknown type {kind}")


def _info(cursor: Cursor) -> tuple[str, int, tuple[int, ...], int]:
    """Return a tensor's name, type, shape in C order, and offset in the data."""
    name_bytes = cursor.unsigned(8)
    if name_bytes > _NAME_LIMIT_BYTES:
        raise MalformedError(f"a tensor's name has {name_bytes} bytes")
    try:
        name = cursor.take(name_bytes).decode()
    except UnicodeDecodeError as error:
        raise MalformedError("a tensor's name is not text") from error
    dimensions = cursor.unsigned(4)
    if dimensions > _DIMENSION_LIMIT:
        raise MalformedError(f"tensor {shown(name)} has {dimensions} dimensions")
    shape = tuple(cursor.unsigned(8) for _ in range(dimensions))[::-1]
    return name, cursor.unsigned(4), shape, cursor.unsigned(8)
