"""Where a file is cut: by its content, or by the tensors inside it.

Invariants (normative text: ``docs/formats/store.md`` §Chunks):
    * The pieces follow one another and are the file; each byte is read once, in order.
    * A block never crosses a tensor's end, and blocks of equal place in two tensors hold the
      same elements when both have types of at most 4 bytes: so a cast finds its parent.

This module knows neither frames nor formats; the partition comes from ``stemma.store.formats``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol, final

from pyfastcdc import FastCDC

from stemma.store.codecs.base import BLOCK_BYTES
from stemma.store.formats.partition import FileRange
from stemma.store.hashing import blake3_raw

SMALLEST_BLOCK_BYTES: Final = 64 << 10
"""Tensors and last blocks below it are chunks among others: a frame each would cost more."""

_MINIMUM_CHUNK_BYTES: Final = 4 << 10
_AVERAGE_CHUNK_BYTES: Final = 16 << 10
_MAXIMUM_CHUNK_BYTES: Final = 64 << 10
_READ_BYTES: Final = 1 << 20
_BLOCK_ELEMENTS: Final = 1 << 20
_SIZES: Final = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "uint16": 2,
    "int16": 2,
    "float16": 2,
    "bfloat16": 2,
}


class Readable(Protocol):
    """What a file is read through."""

    def read(self, size_bytes: int, /) -> bytes:
        """Return up to that many bytes; none at the end."""
        ...


class BlockPlace(NamedTuple):
    """Where a block is: in which tensor, from which byte of it."""

    tensor: FileRange
    offset: int


class Piece(NamedTuple):
    """A chunk's raw blake3, its bytes, and its place when it is a tensor block."""

    digest: bytes
    data: bytes
    place: BlockPlace | None = None


def cut(stream: Readable) -> Iterator[Piece]:
    """Yield each content-defined chunk of a stream, in order."""
    chunker = FastCDC(
        avg_size=_AVERAGE_CHUNK_BYTES,
        min_size=_MINIMUM_CHUNK_BYTES,
        max_size=_MAXIMUM_CHUNK_BYTES,
    )
    carried = b""
    wanted_bytes = _MAXIMUM_CHUNK_BYTES
    while block := stream.read(wanted_bytes):
        # Small files must not pay for the buffers of large ones.
        wanted_bytes = min(4 * wanted_bytes, _READ_BYTES)
        buffer = carried + block
        if len(buffer) <= _MAXIMUM_CHUNK_BYTES:
            carried = buffer
            continue
        carried = b""
        for chunk in chunker.cut_buf(buffer):
            # Where a chunk ends depends on no more bytes than the largest one has.
            if chunk.offset + _MAXIMUM_CHUNK_BYTES > len(buffer):
                carried = buffer[chunk.offset :]
                break
            data = bytes(chunk.data)
            yield Piece(blake3_raw(data), data)
    for chunk in chunker.cut_buf(carried):
        data = bytes(chunk.data)
        yield Piece(blake3_raw(data), data)


def cut_by(ranges: Sequence[FileRange], stream: Readable) -> Iterator[Piece]:
    """Yield the pieces of a file with these ranges, and by content what follows the last.

    A stream that ends early ends the pieces; the caller compares sizes.
    """
    opaque_bytes = 0
    for item in ranges:
        if not item.is_tensor or item.size_bytes < _MINIMUM_CHUNK_BYTES:
            opaque_bytes += item.size_bytes
            continue
        yield from cut(_Window(stream, opaque_bytes))
        opaque_bytes = 0
        yield from _cut_tensor(item, stream)
    yield from cut(stream)


def block_bytes(dtype: str) -> int:
    """Return the size of every block of such a tensor but the last."""
    return min(BLOCK_BYTES, _BLOCK_ELEMENTS * _SIZES.get(dtype, 4))


def _cut_tensor(tensor: FileRange, stream: Readable) -> Iterator[Piece]:
    step = block_bytes(tensor.dtype)
    for offset in range(0, tensor.size_bytes, step):
        data = _read_exactly(stream, min(step, tensor.size_bytes - offset))
        if data:
            is_block = len(data) >= SMALLEST_BLOCK_BYTES
            yield Piece(blake3_raw(data), data, BlockPlace(tensor, offset) if is_block else None)


def _read_exactly(stream: Readable, size_bytes: int) -> bytes:
    """Read until there is enough or the stream ends."""
    first = stream.read(size_bytes)
    if len(first) == size_bytes:
        return first
    parts = [first]
    left = size_bytes - len(first)
    while left and parts[-1]:
        parts.append(stream.read(left))
        left -= len(parts[-1])
    return b"".join(parts)


@final
class _Window:
    """The next bytes of a stream, so many at most."""

    def __init__(self, stream: Readable, size_bytes: int) -> None:
        self._stream = stream
        self._left = size_bytes

    def read(self, size_bytes: int, /) -> bytes:
        """Return up to that many bytes; none at the end."""
        data = self._stream.read(min(size_bytes, self._left))
        self._left -= len(data)
        return data
