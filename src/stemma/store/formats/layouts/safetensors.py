"""Where the tensors lie in a safetensors file.

Invariants:
    * The header is walked entry by entry with patterns that cannot backtrack: linear time,
      no recursion, and a name that comes twice is seen.
    * A header over 16 MiB (the format allows 100 MB) is refused: it would not fit our memory.

A model in several files needs nothing more: each of them is a file of this format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from stemma.store.formats.bounded import BoundedSource
from stemma.store.formats.ranges import ITEM_BYTES, FileRange, MalformedError, shown
from stemma.store.formats.safetensors import TYPES, Entry

_LENGTH_BYTES: Final = 8
_QUOTES_OF_AN_ENTRY: Final = 8
_ENTRY_LIMIT_BYTES: Final = 16 << 10
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_ENTRY: Final = re.compile(
    rb"\s*+(?P<name>" + _STRING + rb")\s*+:\s*+"
    rb'(?P<value>\{[^{}"]*+(?:' + _STRING + rb'[^{}"]*+)*+\})\s*+(?P<after>[,}])',
    re.DOTALL,
)
_OPENING: Final = re.compile(rb"\s*+\{(?P<closing>\s*+\})?")
_NAME: Final = msgspec.json.Decoder(str)
_VALUE: Final = msgspec.json.Decoder(Entry)


def find_tensors(source: BoundedSource) -> Iterator[FileRange]:
    """Yield the tensors as the header names them.

    Raises:
        MalformedError: If the header cannot be read.
    """
    header_bytes = int.from_bytes(source.read(0, _LENGTH_BYTES), "little")
    data_start = _LENGTH_BYTES + header_bytes
    for name, value in _entries(source.read(_LENGTH_BYTES, header_bytes)):
        entry = _entry(name, value)
        start, end = entry.data_offsets
        dtype, _ = TYPES[entry.dtype]
        if start < 0:
            raise MalformedError(f"tensor {shown(name)} lies outside the file")
        if dtype in ITEM_BYTES:
            yield FileRange(
                offset=data_start + start,
                size_bytes=end - start,
                name=name,
                dtype=dtype,
                shape=entry.shape,
            )


def _entries(header: bytes) -> Iterator[tuple[str, bytes]]:
    opening = _OPENING.match(header)
    if opening is None:
        raise MalformedError("its header is not a JSON object")
    position = opening.end()
    is_open = opening["closing"] is None
    has_metadata = False
    while is_open:
        match = _ENTRY.match(header, position)
        if match is None:
            raise MalformedError(f"its header cannot be read at byte {position}")
        position = match.end()
        is_open = match["after"] == b","
        if match["name"] != b'"__metadata__"':
            yield _name(match["name"]), match["value"]
        elif has_metadata:
            raise MalformedError("its header has two entries __metadata__")
        else:
            has_metadata = True
    if header[position:].strip():
        raise MalformedError("something follows its header")


def _name(quoted: bytes) -> str:
    try:
        return _NAME.decode(quoted)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"a name in its header cannot be read: {error}") from error


def _entry(name: str, value: bytes) -> Entry:
    if len(value) > _ENTRY_LIMIT_BYTES:
        raise MalformedError(f"the entry of tensor {shown(name)} has {len(value)} bytes")
    try:
        entry = _VALUE.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"the entry of tensor {shown(name)} is wrong: {error}") from error
    # Three keys and one text have eight quotes; more means a key that comes twice.
    if value.count(b'"') != _QUOTES_OF_AN_ENTRY or entry.dtype not in TYPES:
        raise MalformedError(f"the entry of tensor {shown(name)} is not one we know")
    return entry
