"""numpy's containers: ``.npy``, and ``.npz`` as a zip of them; never unpickled.

Invariants:
    * Headers are read by a strict pattern, so no text of the file is ever evaluated;
      object arrays (pickles) and structured types are refused.
    * Arrays in canonical order are hashed in blocks; others are loaded, up to 1 GiB.
    * Malformed input gives ``None``, never an exception.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO, Final, NamedTuple

import numpy as np
from blake3 import blake3

from stemma.store.formats.facts import TensorFact, open_source
from stemma.store.formats.ranges import MalformedError

NPY_MAGIC: Final = b"\x93NUMPY"
NPY_HEADER_LIMIT_BYTES: Final = 64 << 10
_BLOCK_BYTES: Final = 1 << 20
_LOAD_LIMIT_BYTES: Final = 1 << 30
_DIMENSION_LIMIT: Final = 64
_HEADER: Final = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[<>|=][a-zA-Z]\d+)',"
    r"\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[\d,\sL]*)\),?\s*\}\s*"
)
_PLAIN_KINDS: Final = frozenset("biufcSU")
_FAULTS: Final = (ValueError, TypeError, OSError, EOFError, RuntimeError, zlib.error)
_ZIP_FAULTS: Final = (*_FAULTS, zipfile.BadZipFile, NotImplementedError)


class NpyHeader(NamedTuple):
    """What stands before an array: its type as written, the order of its axes, its shape."""

    dtype: np.dtype[np.generic]
    is_fortran: bool
    shape: tuple[int, ...]


def read_npy(source: Path | bytes) -> TensorFact | None:
    """Return the array of a ``.npy`` file, or ``None`` when malformed or an object array."""
    try:
        with open_source(source) as stream:
            return _read_array(stream)
    except _FAULTS:
        return None


def read_npz(source: Path | bytes) -> dict[str, TensorFact] | None:
    """Return the arrays of a ``.npz`` by name, or ``None`` when any is malformed."""
    try:
        with open_source(source) as stream, zipfile.ZipFile(stream) as archive:
            return {
                name.removesuffix(".npy"): _read_member(archive, name)
                for name in archive.namelist()
            }
    except _ZIP_FAULTS:
        return None


def _read_member(archive: zipfile.ZipFile, name: str) -> TensorFact:
    if not name.endswith(".npy"):
        raise MalformedError
    with archive.open(name) as stream:
        return _read_array(stream)


def holds_objects(stream: IO[bytes]) -> bool:
    """Return whether an ``.npy`` stream says that it holds Python objects, thus a pickle."""
    head = stream.read(NPY_HEADER_LIMIT_BYTES)
    return head.startswith(NPY_MAGIC) and re.search(rb"'\|?O\d*'", head[:4096]) is not None


def read_npy_header(stream: IO[bytes]) -> NpyHeader:
    """Return the header of an array, leaving the stream at the array's first byte.

    Raises:
        ValueError: If it is malformed, or that of an object array or a structured type.
        TypeError: If numpy does not know its type.
    """
    prefix = stream.read(8)
    if len(prefix) != 8 or not prefix.startswith(NPY_MAGIC):  # noqa: PLR2004  magic and version
        raise MalformedError
    width = 2 if prefix[6] == 1 else 4
    header_bytes = int.from_bytes(stream.read(width), "little")
    if header_bytes > NPY_HEADER_LIMIT_BYTES:
        raise MalformedError
    match = _HEADER.fullmatch(stream.read(header_bytes).decode("utf-8"))
    if match is None:
        raise MalformedError
    dtype = np.dtype(match["descr"])
    shape = tuple(int(part.rstrip("L")) for part in match["shape"].split(",") if part.strip())
    if dtype.kind not in _PLAIN_KINDS or len(shape) > _DIMENSION_LIMIT:
        raise MalformedError
    return NpyHeader(dtype, match["fortran"] == "True", shape)


def _read_array(stream: IO[bytes]) -> TensorFact:
    header = read_npy_header(stream)
    size_bytes = prod(header.shape) * header.dtype.itemsize
    canonical = header.dtype.newbyteorder("<")
    name = canonical.str if canonical.kind in "SU" else canonical.name
    if canonical == header.dtype and not (header.is_fortran and len(header.shape) > 1):
        digest = _hash(stream, size_bytes)
    else:
        digest = _hash_reordered(stream, header, size_bytes)
    if stream.read(1):
        raise MalformedError
    return TensorFact(name, header.shape, digest)


def _hash(stream: IO[bytes], size_bytes: int) -> str:
    hasher = blake3()
    left = size_bytes
    while left:
        block = stream.read(min(left, _BLOCK_BYTES))
        if not block:
            raise MalformedError
        hasher.update(block)
        left -= len(block)
    return hasher.hexdigest()


def _hash_reordered(stream: IO[bytes], header: NpyHeader, size_bytes: int) -> str:
    if size_bytes > _LOAD_LIMIT_BYTES:
        raise MalformedError
    data = stream.read(size_bytes)
    if len(data) != size_bytes:
        raise MalformedError
    array = np.frombuffer(data, dtype=header.dtype).reshape(
        header.shape, order="F" if header.is_fortran else "C"
    )
    return blake3(array.astype(header.dtype.newbyteorder("<"), order="C").tobytes()).hexdigest()
