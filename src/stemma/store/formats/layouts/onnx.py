"""Where the weights lie in an ONNX file: a walk over three levels of protobuf messages.

Invariants:
    * Only initialisers of the main graph are looked at; constants in nodes are opaque.
    * Weights in files beside the model are told by ``find_external``; no such file is opened.
    * Three levels and no more, so no depth of nesting can matter.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from typing import Final, NamedTuple

from stemma.store.formats.bounded import BoundedSource, Cursor
from stemma.store.formats.ranges import ITEM_BYTES, FileRange, MalformedError, shown

_GRAPH: Final = 7
_INITIALIZER: Final = 5
_FLOAT_DATA: Final = 4
_RAW_DATA: Final = 9
_DOUBLE_DATA: Final = 10
_EXTERNAL_DATA: Final = 13
_PACKED_AS_RAW: Final = {"float32": _FLOAT_DATA, "float64": _DOUBLE_DATA}
"""Fields of numbers whose packed form is the numbers' own bytes."""
_NAME_LIMIT_BYTES: Final = 64 << 10
_PARTS_LIMIT: Final = 16
_NUMBER_DIGITS: Final = 19
_DIMENSION_LIMIT: Final = 64
_VARINT: Final = 0
_FIXED_64: Final = 1
_BYTES: Final = 2
_FIXED_32: Final = 5
_SIGN: Final = 1 << 63
_TYPES: Final = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    19: "float8_e5m2",
}


class _Field(NamedTuple):
    """A field of a message: ``value`` of a number, ``start`` and ``end`` of bytes."""

    number: int
    kind: int
    value: int
    start: int
    end: int


class ExternalTensor(NamedTuple):
    """An initialiser in another file.

    Attributes:
        location: Where the model says that file is; not checked.
        tensor: The range of that file; not checked.
    """

    location: str
    tensor: FileRange


@dataclass(slots=True)
class _Tensor:
    """What a TensorProto says; ``data`` are the fields that hold its numbers or say where."""

    name: str = ""
    data_type: int = 0
    is_external: bool = False
    shape: list[int] = field(default_factory=list)
    data: dict[int, list[_Field]] = field(default_factory=dict)


def find_tensors(source: BoundedSource) -> Iterator[FileRange]:
    """Yield the initialisers whose numbers lie in the file as they are in memory.

    Raises:
        MalformedError: If the file is no such message.
    """
    for tensor in _initializers(source):
        yield from _placed(tensor)


def find_external(source: BoundedSource) -> Iterator[ExternalTensor]:
    """Yield the initialisers that the model says are in other files.

    Raises:
        MalformedError: If the file is no such message, or a number in it is none.
    """
    for tensor in _initializers(source):
        dtype = _TYPES.get(tensor.data_type)
        if dtype is None or not tensor.is_external:
            continue
        said = _external(source, tensor)
        shape = tuple(tensor.shape)
        found = FileRange(
            offset=_number(tensor, said.get("offset", "0")),
            size_bytes=_number(tensor, said["length"])
            if "length" in said
            else prod(shape) * ITEM_BYTES[dtype],
            name=tensor.name,
            dtype=dtype,
            shape=shape,
        )
        yield ExternalTensor(said.get("location", ""), found)


def _initializers(source: BoundedSource) -> Iterator[_Tensor]:
    number = 0
    for graph in _messages(source, 0, source.size_bytes, _GRAPH):
        for initializer in _messages(source, graph.start, graph.end, _INITIALIZER):
            tensor = _read(source, initializer)
            tensor.name = tensor.name or f"initializer {number}"
            number += 1
            yield tensor


def _external(source: BoundedSource, tensor: _Tensor) -> dict[str, str]:
    """Return what a tensor says of where its numbers are; of a key said twice the last."""
    said: dict[str, str] = {}
    for entry in tensor.data.get(_EXTERNAL_DATA, ()):
        texts = {
            item.number: _text(source, item)
            for item in _fields(source, entry.start, entry.end)
            if item.kind == _BYTES
        }
        said[texts.get(1, "")] = texts.get(2, "")
    return said


def _number(tensor: _Tensor, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS):
        raise MalformedError(f"tensor {shown(tensor.name)} has its data at {shown(text)}")
    return int(text)


def _placed(tensor: _Tensor) -> Iterator[FileRange]:
    dtype = _TYPES.get(tensor.data_type)
    if dtype is None or tensor.is_external:
        return
    found = tensor.data.get(_RAW_DATA) or tensor.data.get(_PACKED_AS_RAW.get(dtype, _RAW_DATA), [])
    if len(found) > 1:
        raise MalformedError(f"tensor {shown(tensor.name)} has its data twice")
    for data in found:
        yield FileRange(
            offset=data.start,
            size_bytes=data.end - data.start,
            name=tensor.name,
            dtype=dtype,
            shape=tuple(tensor.shape),
        )


def _read(source: BoundedSource, message: _Field) -> _Tensor:
    tensor = _Tensor()
    for item in _fields(source, message.start, message.end):
        match item.number, item.kind:  # the numbers of a TensorProto's fields
            case (1, 0 | 2):
                tensor.shape.extend(islice(_dimensions(source, item), _DIMENSION_LIMIT + 1))
            case (2, 0):
                tensor.data_type = item.value
            case (8, 2):
                tensor.name = _text(source, item)
            case (14, 0):
                tensor.is_external = item.value != 0
            case (4 | 9 | 10 | 13, 2):
                parts = tensor.data.setdefault(item.number, [])
                parts.append(item)
                if len(parts) > _PARTS_LIMIT:
                    raise MalformedError(f"a tensor has field {item.number} too often")
            case _:
                pass
        if len(tensor.shape) > _DIMENSION_LIMIT:
            raise MalformedError(f"a tensor has more than {_DIMENSION_LIMIT} dimensions")
    return tensor


def _dimensions(source: BoundedSource, item: _Field) -> Iterator[int]:
    if item.kind == _VARINT:
        yield _signed(item.value)
        return
    packed = Cursor(source, item.start, item.end)
    while not packed.is_at_end:
        yield _signed(packed.varint())


def _messages(source: BoundedSource, start: int, end: int, number: int) -> Iterator[_Field]:
    for item in _fields(source, start, end):
        if item.number == number:
            if item.kind != _BYTES:
                raise MalformedError(f"field {number} is not a message")
            yield item


def _fields(source: BoundedSource, start: int, end: int) -> Iterator[_Field]:
    cursor = Cursor(source, start, end)
    while not cursor.is_at_end:
        tag = cursor.varint()
        number, kind = tag >> 3, tag & 7
        value = 0
        if kind == _VARINT:
            value = cursor.varint()
            size_bytes = 0
        elif kind == _BYTES:
            size_bytes = cursor.varint()
        elif kind in {_FIXED_32, _FIXED_64}:
            size_bytes = 4 if kind == _FIXED_32 else 8
        else:
            raise MalformedError(f"field {number} has the unknown kind {kind}")
        begin = cursor.position
        cursor.skip(size_bytes)
        yield _Field(number, kind, value, begin, cursor.position)


def _text(source: BoundedSource, item: _Field) -> str:
    if item.end - item.start > _NAME_LIMIT_BYTES:
        raise MalformedError(f"a tensor's name has {item.end - item.start} bytes")
    try:
        return source.read(item.start, item.end - item.start).decode()
    except UnicodeDecodeError as error:
        raise MalformedError("a tensor's name is not text") from error


def _signed(number: int) -> int:
    return number - 2 * _SIGN if number >= _SIGN else number
