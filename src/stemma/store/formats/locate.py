"""Every tensor of a file, down to the smallest: where its bytes are and what array they make.

``partition`` says how a file is cut, so it leaves out what is too small for a block of its own;
this module answers whoever wants to read one tensor.

Invariants:
    * Headers and directories are read, within bounded memory and time; tensor data is read when
      ``read_array`` asks for it, and then no more than that tensor's own.
    * Nothing is unpickled or run.  A file that is not well formed has no tensors here.
    * An array is never larger than what the file holds for it.

What is not found: quantised GGUF tensors, objects and structures; ONNX weights in other files
only by ``locate_said``.

Example:
    >>> with path.open("rb") as stream:
    ...     places = locate_tensors(stream, path.stat().st_size, name=path.name)
    ...     weight = read_array(stream, places["encoder.weight"])
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from stemma.store.formats.bounded import BoundedSource
from stemma.store.formats.layouts import zips
from stemma.store.formats.layouts.torch_pickle import TensorView
from stemma.store.formats.layouts.zip_directory import Member, data_offset
from stemma.store.formats.npz import (
    NPY_HEADER_LIMIT_BYTES,
    NPY_MAGIC,
    NpyHeader,
    read_npy_header,
)
from stemma.store.formats.partition import finder_of
from stemma.store.formats.ranges import ITEM_BYTES, FileRange, MalformedError, checked, shown

_PREFIX_BYTES: Final = 12
_HEAD_BYTES: Final = NPY_HEADER_LIMIT_BYTES + 12
_COPY_BYTES: Final = 1 << 20
_ZIP_FAULTS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlace:
    """One tensor in a file.

    Attributes:
        name: Its name.
        dtype: As in ``FileRange``, or numpy's text for other types (``>f4``, ``<U3``).
        shape: Sizes per dimension.
        offset: Where the bytes that it looks at begin; in ``member``, if that is set.
        size_bytes: How many these are.
        strides: Steps in elements per dimension; ``None`` when it is in C order.
        member: Compressed member of a zip that holds it; empty when it lies there as it is.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    strides: tuple[int, ...] | None = None
    member: str = ""


def locate_tensors(stream: BinaryIO, size_bytes: int, *, name: str = "") -> dict[str, TensorPlace]:
    """Return the tensors of a file by name, in its order; none when it is not well formed.

    Args:
        stream: The file, seekable.
        size_bytes: How many bytes it has.
        name: Its name.
    """
    # A stored file is read block by block: a page that reaches into a tensor would cost one.
    source = BoundedSource(stream, size_bytes, page_bytes=0)
    found = finder_of(source, name)
    if found is None:
        return {}
    format_name, finder = found
    try:
        match format_name:
            case "zip":
                places = list(_in_zip(source, stream))
            case "npy":
                head = _head(source, 0, size_bytes)
                places = [_of_array("array", head, (0, size_bytes), "")]
            case _:
                places = [_of_range(item) for item in checked(finder(source), size_bytes)]
    except (MalformedError, *_ZIP_FAULTS):
        return {}
    return {place.name: place for place in places if place is not None}


def locate_said(tensors: Iterable[FileRange], size_bytes: int) -> dict[str, TensorPlace]:
    """Return the tensors that a file holds as another one says; none when that cannot be.

    Args:
        tensors: What the other file says.
        size_bytes: How many bytes this file has.
    """
    try:
        return {item.name: _of_range(item) for item in checked(tensors, size_bytes)}
    except MalformedError:
        return {}


def read_bytes(stream: BinaryIO, place: TensorPlace) -> bytes:
    """Return the bytes that a tensor looks at; errors of the stream pass through.

    Raises:
        ValueError: If the file does not hold them.
    """
    if place.member:
        return _decompressed(stream, place)
    stream.seek(place.offset)
    data = stream.read(place.size_bytes)
    if len(data) != place.size_bytes:
        raise ValueError(f"tensor {shown(place.name)} is cut off")
    return data


def read_array(stream: BinaryIO, place: TensorPlace) -> NDArray[np.generic]:
    """Return a tensor as an array that may be written to.

    ``bfloat16`` and the 8-bit floats, which numpy does not know, come as ``float32``: each of
    their values is one.

    Raises:
        ValueError: If the file does not hold it.
    """
    return as_array(read_bytes(stream, place), place)


def as_array(data: bytes, place: TensorPlace) -> NDArray[np.generic]:
    """Return the array that a tensor's bytes make; see ``read_array``."""
    match place.dtype:
        case "bfloat16":
            flat = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        case "float8_e5m2":
            flat = (np.frombuffer(data, np.uint8).astype(np.uint16) << 8).view(np.float16)
            flat = flat.astype(np.float32)
        case "float8_e4m3fn":
            flat = _E4M3[np.frombuffer(data, np.uint8)]
        case dtype:
            flat = np.frombuffer(bytearray(data), np.dtype(dtype))
    return _shaped(flat, place)


def _shaped(flat: NDArray[np.generic], place: TensorPlace) -> NDArray[np.generic]:
    if place.strides is None:
        return flat.reshape(place.shape)
    steps = [step * flat.itemsize for step in place.strides]
    view = np.lib.stride_tricks.as_strided(flat, place.shape, steps, writeable=False)
    return np.array(view, order="K", copy=True)


def _small_floats() -> NDArray[np.float32]:
    """Return the value of each float8_e4m3fn: 4 bits of exponent, bias 7, no infinities."""
    bits = np.arange(256)
    exponent, fraction = bits >> 3 & 15, bits & 7
    normal = np.ldexp(8.0 + fraction, exponent - 10)
    values = np.where(exponent == 0, np.ldexp(1.0 * fraction, -9), normal)
    values[(bits & 127) == 127] = np.nan  # noqa: PLR2004 - all bits but the sign
    signed: NDArray[np.float64] = np.copysign(values, np.where(bits & 128, -1.0, 1.0))
    return signed.astype(np.float32)


_E4M3: Final = _small_floats()


def _of_range(item: FileRange) -> TensorPlace:
    return TensorPlace(
        name=item.name,
        dtype=item.dtype,
        shape=item.shape,
        offset=item.offset,
        size_bytes=item.size_bytes,
    )


def _in_zip(source: BoundedSource, stream: BinaryIO) -> Iterator[TensorPlace | None]:
    names: set[str] = set()
    for member, view, name in zips.open_tensors(source):
        if name in names:
            raise MalformedError(f"two tensors are named {shown(name)}")
        names.add(name)
        if view is not None:
            place = _of_view(name, view, data_offset(source, member))
        elif member.is_stored:
            start = data_offset(source, member)
            head = _head(source, start, member.size_bytes)
            place = _of_array(name, head, (start, member.size_bytes), "")
        else:
            place = _of_array(
                name, _compressed_head(stream, member), (0, member.size_bytes), member.name
            )
        yield place


def _of_view(name: str, view: TensorView, start: int) -> TensorPlace | None:
    """Return where a torch tensor is; ``None`` when it looks past its storage or grows."""
    item_bytes = ITEM_BYTES[view.dtype]
    count = prod(view.shape)
    last = sum((size - 1) * step for size, step in zip(view.shape, view.strides, strict=True))
    span = last + 1 if count else 0
    held = view.storage_bytes // item_bytes
    # An expanded tensor looks at one number many times: it could ask for any amount of memory.
    if view.offset + span > held or count > held:
        return None
    steps = tuple(prod(view.shape[place + 1 :]) for place in range(len(view.shape)))
    return TensorPlace(
        name=name,
        dtype=view.dtype,
        shape=view.shape,
        offset=start + view.offset * item_bytes,
        size_bytes=span * item_bytes,
        strides=None if view.strides == steps or not count else view.strides,
    )


def _of_array(name: str, head: bytes, extent: tuple[int, int], member: str) -> TensorPlace | None:
    """Return where an array of numpy is; ``None`` when it holds objects or structures."""
    stream = io.BytesIO(head)
    try:
        header: NpyHeader = read_npy_header(stream)
    except (ValueError, TypeError) as error:
        if head.startswith(NPY_MAGIC):
            return None
        raise MalformedError(f"array {shown(name)} has no header") from error
    start, size_bytes = extent
    item_bytes = header.dtype.itemsize
    if prod(header.shape) * item_bytes != size_bytes - stream.tell():
        raise MalformedError(f"array {shown(name)} has a size that does not fit its shape")
    is_plain = header.dtype.newbyteorder("<") == header.dtype and header.dtype.name in ITEM_BYTES
    return TensorPlace(
        name=name,
        dtype=header.dtype.name if is_plain else header.dtype.str,
        shape=header.shape,
        offset=start + stream.tell(),
        size_bytes=size_bytes - stream.tell(),
        strides=_fortran(header.shape) if header.is_fortran else None,
        member=member,
    )


def _fortran(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    is_both = len(shape) < 2 or not prod(shape)  # noqa: PLR2004 - one dimension has one order
    return None if is_both else tuple(prod(shape[:place]) for place in range(len(shape)))


def _head(source: BoundedSource, start: int, size_bytes: int) -> bytes:
    """Read what stands before an array, and nothing of the array."""
    prefix = source.read(start, min(_PREFIX_BYTES, size_bytes))
    width = 2 if prefix[6:7] == b"\x01" else 4
    head_bytes = 8 + width + int.from_bytes(prefix[8 : 8 + width], "little")
    return source.read(start, min(head_bytes, size_bytes, _HEAD_BYTES))


def _compressed_head(stream: BinaryIO, member: Member) -> bytes:
    stream.seek(0)
    with zipfile.ZipFile(stream) as archive, archive.open(member.name) as opened:
        return opened.read(min(member.size_bytes, _HEAD_BYTES))


def _decompressed(stream: BinaryIO, place: TensorPlace) -> bytes:
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive, archive.open(place.member) as opened:
            opened.read(place.offset)
            parts = []
            left = place.size_bytes
            # Block by block: a lying size must not make memory of what is not there.
            while left and (block := opened.read(min(left, _COPY_BYTES))):
                parts.append(block)
                left -= len(block)
    except _ZIP_FAULTS as error:
        raise ValueError(f"tensor {shown(place.name)} cannot be read: {error}") from error
    if left:
        raise ValueError(f"tensor {shown(place.name)} is cut off")
    return b"".join(parts)
