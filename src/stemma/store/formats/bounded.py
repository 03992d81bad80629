"""Reading a foreign file's directory: no more bytes and no more steps than allowed.

Invariants:
    * Every read is checked against the file's size before it is made, so a lying length
      costs neither memory nor a wait.
    * The number of reads per file is bounded, and with it the time.
    * Only the stream's own errors pass through; all else is ``MalformedError``.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final, final

from stemma.store.formats.ranges import MalformedError

HEADER_LIMIT_BYTES: Final = 16 << 20
"""Longest header or directory that is held in memory."""

_PAGE_BYTES: Final = 8 << 10
_READ_LIMIT: Final = 2_000_000
_VARINT_LIMIT_BYTES: Final = 10
_UNSIGNED: Final = {2: struct.Struct("<H"), 4: struct.Struct("<I"), 8: struct.Struct("<Q")}


@final
class BoundedSource:
    """Bytes of a file by offset; small reads share a page."""

    def __init__(self, stream: BinaryIO, size_bytes: int, *, page_bytes: int = _PAGE_BYTES) -> None:
        """Read from a seekable stream.

        Args:
            stream: The file.
            size_bytes: How many bytes it has.
            page_bytes: What small reads share; 0 where a byte beside what is asked is dear.
        """
        self.size_bytes = size_bytes
        self._stream = stream
        self._page_bytes = page_bytes
        self._page = b""
        self._page_offset = 0
        self._reads_left = _READ_LIMIT

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return exactly that many bytes.

        Raises:
            MalformedError: If the file does not have them, or is read too often.
        """
        if size_bytes < 0 or not 0 <= offset <= self.size_bytes - size_bytes:
            raise MalformedError("a length in it points past its end")
        if size_bytes > HEADER_LIMIT_BYTES:
            raise MalformedError(f"its header is larger than {HEADER_LIMIT_BYTES >> 20} MiB")
        self._reads_left -= 1
        if self._reads_left < 0:
            raise MalformedError(f"its header has more than {_READ_LIMIT} parts")
        if size_bytes > self._page_bytes:
            return self._load(offset, size_bytes)
        start = offset - self._page_offset
        if start < 0 or start + size_bytes > len(self._page):
            self._page = self._load(offset, min(self._page_bytes, self.size_bytes - offset))
            self._page_offset = offset
            start = 0
        return self._page[start : start + size_bytes]

    def _load(self, offset: int, size_bytes: int) -> bytes:
        self._stream.seek(offset)
        data = self._stream.read(size_bytes)
        while len(data) < size_bytes:  # an unbuffered stream may give less than asked
            block = self._stream.read(size_bytes - len(data))
            if not block:
                raise MalformedError("it ends early")
            data += block
        return data


@final
class Cursor:
    """A place in a part of a file, moving forward.

    Attributes:
        position: Offset of the next byte.
        end: Offset of the first byte after the part.
    """

    __slots__ = ("_source", "end", "position")

    def __init__(self, source: BoundedSource, position: int, end: int) -> None:
        """Stand at ``position``; never go past ``end``."""
        self._source = source
        self.position = position
        self.end = end

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self.position >= self.end

    def take(self, size_bytes: int) -> bytes:
        """Return the next bytes and step over them."""
        start = self.position
        self.skip(size_bytes)
        return self._source.read(start, size_bytes)

    def skip(self, size_bytes: int) -> None:
        """Step over bytes without reading them."""
        if not 0 <= size_bytes <= self.end - self.position:
            raise MalformedError("a length in it points past its end")
        self.position += size_bytes

    def unsigned(self, size_bytes: int) -> int:
        """Return the next little-endian number of 2, 4 or 8 bytes."""
        number: int = _UNSIGNED[size_bytes].unpack(self.take(size_bytes))[0]
        return number

    def varint(self) -> int:
        """Return the next number in protobuf's variable length.

        Raises:
            MalformedError: If it does not end within ten bytes.
        """
        head = self._source.read(self.position, min(_VARINT_LIMIT_BYTES, self.end - self.position))
        number = 0
        for index, byte in enumerate(head):
            number |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:  # noqa: PLR2004  the bit that says "more follows"
                self.position += index + 1
                return number
        raise MalformedError("a number in it does not end")
