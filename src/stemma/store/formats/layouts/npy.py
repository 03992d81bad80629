"""Where the array lies in a ``.npy`` file, or in a stored member of a zip.

Invariants:
    * Object arrays, structured types, texts and big-endian numbers are opaque, without a warning.
    * An array in Fortran order has its shape reversed: so its bytes lie in C order.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Final

from stemma.store.formats.bounded import BoundedSource
from stemma.store.formats.npz import NPY_HEADER_LIMIT_BYTES, NPY_MAGIC, read_npy_header
from stemma.store.formats.ranges import ITEM_BYTES, FileRange, MalformedError, shown

_PREFIX_BYTES: Final = 12
_NOT_PLAIN: Final = re.compile(rb"\{\s*'descr':\s*(?:\[|'[<>|=]?[OVMm])")


def find_tensors(source: BoundedSource) -> Iterator[FileRange]:
    """Yield the array of a ``.npy`` file, named as ``read_tensor_digests`` names it.

    Raises:
        MalformedError: If the header cannot be read.
    """
    yield from find_array(source, 0, source.size_bytes, "array")


def find_array(
    source: BoundedSource, offset: int, size_bytes: int, name: str
) -> Iterator[FileRange]:
    """Yield the array whose header begins at ``offset``, unless it is of an opaque kind.

    Raises:
        MalformedError: If the header cannot be read, or the array is not all of the rest.
    """
    prefix = source.read(offset, min(_PREFIX_BYTES, size_bytes))
    if len(prefix) < _PREFIX_BYTES or not prefix.startswith(NPY_MAGIC):
        raise MalformedError(f"array {shown(name)} has no header")
    width = 2 if prefix[6] == 1 else 4
    start = 8 + width + int.from_bytes(prefix[8 : 8 + width], "little")
    if start > min(size_bytes, NPY_HEADER_LIMIT_BYTES):
        raise MalformedError(f"array {shown(name)} has a header that is too long")
    head = source.read(offset, start)
    if _NOT_PLAIN.match(head, 8 + width):
        return
    try:
        header = read_npy_header(io.BytesIO(head))
    except (ValueError, TypeError) as error:
        raise MalformedError(f"array {shown(name)} has a header we do not read") from error
    if header.dtype.newbyteorder("<") != header.dtype or header.dtype.name not in ITEM_BYTES:
        return
    yield FileRange(
        offset=offset + start,
        size_bytes=size_bytes - start,
        name=name,
        dtype=header.dtype.name,
        shape=header.shape[::-1] if header.is_fortran else header.shape,
    )
