"""Parts of stored files: any stretch of bytes, reading only the chunks it touches.

Invariants:
    * Every chunk is verified before a byte of it is passed on; the file as a whole is not, for
      that would mean reading all of it.
    * A stream opened here never writes, and ends where the recipe says.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import accumulate
from typing import BinaryIO, Final, cast, final

from typing_extensions import override

from stemma.domain.digest import Digest
from stemma.store.reading import Reader

_BUFFER_BYTES: Final = 64 << 10


def open_stored(reader: Reader, digest: Digest) -> BinaryIO:
    """Open a stored file for reading anywhere in it.

    Raises:
        NotFoundError: If the file is not stored (``file-not-stored``).
        IntegrityError: If its recipe is damaged; and when read, if a chunk is.
    """
    return cast("BinaryIO", io.BufferedReader(_StoredFile(reader, digest), _BUFFER_BYTES))


def read_range(reader: Reader, digest: Digest, offset: int, size_bytes: int) -> bytes:
    """Return up to ``size_bytes`` from ``offset``; less where the file ends.

    Raises:
        NotFoundError: If the file is not stored (``file-not-stored``).
        IntegrityError: If a chunk that is needed is missing or damaged.
    """
    return _StoredFile(reader, digest).read_at(offset, size_bytes)


@final
class _StoredFile(io.RawIOBase):
    """A stored file as the standard library reads files."""

    def __init__(self, reader: Reader, digest: Digest) -> None:
        super().__init__()
        self._reader = reader
        self._recipe = reader.recipe_of(digest)
        sizes = (chunk.size_bytes for chunk in self._recipe.chunks)
        self._starts = list(accumulate(sizes, initial=0))
        self._position = 0

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return up to so many bytes from there."""
        stop = min(offset + size_bytes, self._recipe.size_bytes)
        if stop <= offset:
            return b""
        first = bisect_right(self._starts, offset) - 1
        last = bisect_right(self._starts, stop - 1)
        start = self._starts[first]
        data = b"".join(self._reader.pieces(self._recipe, first, last))
        return data[offset - start : stop - start]

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._position

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._recipe.size_bytes}
        if base[whence] + offset < 0:
            raise ValueError(f"a position before the first byte: {base[whence] + offset}")
        self._position = base[whence] + offset
        return self._position

    @override
    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read_at(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
