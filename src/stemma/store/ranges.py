"""Parts of stored files: any stretch of bytes, reading only the chunks it touches.

Invariants:
    * Every chunk is verified before a byte of it is passed on; the file as a whole is not, for
      that would mean reading all of it.
    * A stream opened here never writes, and ends where the recipe says.
"""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import BinaryIO, Final, cast, final

from typing_extensions import override

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.store.reading import Reader
from stemma.store.recipes import Recipe

_BUFFER_BYTES: Final = 64 << 10

Bring = Callable[[Sequence[bytes]], object]
"""Makes chunks readable that are elsewhere."""


def open_stored(reader: Reader, digest: Digest) -> BinaryIO:
    """Open a stored file for reading anywhere in it.

    Raises:
        NotFoundError: If the file is not stored (``file-not-stored``).
        IntegrityError: If its recipe is damaged; and when read, if a chunk is.
    """
    return cast(
        "BinaryIO", io.BufferedReader(OpenedFile(reader, reader.recipe_of(digest)), _BUFFER_BYTES)
    )


def read_range(reader: Reader, digest: Digest, offset: int, size_bytes: int) -> bytes:
    """Return up to ``size_bytes`` from ``offset``; less where the file ends.

    Raises:
        NotFoundError: If the file is not stored (``file-not-stored``).
        IntegrityError: If a chunk that is needed is missing or damaged.
    """
    return OpenedFile(reader, reader.recipe_of(digest)).read_at(offset, size_bytes)


def stream_range(reader: Reader, digest: Digest, offset: int, size_bytes: int) -> Iterator[bytes]:
    """Yield up to ``size_bytes`` from ``offset``, in pieces; less where the file ends.

    Raises:
        NotFoundError: If the file is not stored (``file-not-stored``).
        IntegrityError: If a chunk that is needed is missing or damaged.
    """
    recipe = reader.recipe_of(digest)
    starts = list(accumulate((chunk.size_bytes for chunk in recipe.chunks), initial=0))
    stop = min(offset + size_bytes, recipe.size_bytes)
    if stop <= offset:
        return
    first, last = bisect_right(starts, offset) - 1, bisect_left(starts, stop)
    position = starts[first]
    for piece in reader.pieces(recipe, first, last, is_passing=True):
        yield piece[max(offset - position, 0) : stop - position]
        position += len(piece)


@final
class OpenedFile(io.RawIOBase):
    """A stored file as the standard library reads files; not for several threads at once.

    Nothing is read beside the chunks that are asked for, and the last of them is kept: so a
    header is walked in small steps at the cost of one chunk.

    Attributes:
        size_bytes: Size of the file.
    """

    def __init__(self, reader: Reader, recipe: Recipe, bring: Bring | None = None) -> None:
        """Read nothing yet.

        Args:
            reader: Reads chunks that are here.
            recipe: The file's.
            bring: Called with chunks before they are read for the first time, for those that
                are elsewhere.
        """
        super().__init__()
        self._reader = reader
        self._recipe = recipe
        self._bring = bring
        self._brought: set[int] = set()
        self.size_bytes = self._recipe.size_bytes
        sizes = (chunk.size_bytes for chunk in self._recipe.chunks)
        self._starts = list(accumulate(sizes, initial=0))
        self._position = 0
        self._held = (-1, b"")

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return up to so many bytes from there."""
        stop = min(offset + size_bytes, self.size_bytes)
        if stop <= offset:
            return b""
        first = bisect_right(self._starts, offset) - 1
        last = bisect_right(self._starts, stop - 1)
        start = self._starts[first]
        number, data = self._held
        if (number, number + 1) != (first, last):
            pieces = self._pieces(first, last)
            self._held = (last - 1, pieces[-1])
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return data[offset - start : stop - start]

    def _pieces(self, first: int, last: int) -> list[bytes]:
        self._have(first, last)
        try:
            return list(self._reader.pieces(self._recipe, first, last))
        except IntegrityError:
            if self._bring is None:
                raise
        # A collection may have removed what came: no recipe of ours names it.
        self._brought.clear()
        self._have(first, last)
        return list(self._reader.pieces(self._recipe, first, last))

    def _have(self, first: int, last: int) -> None:
        if self._bring is None:
            return
        numbers = range(first, last)
        if not self._brought.issuperset(numbers):
            self._bring([chunk.digest for chunk in self._recipe.between(first, last)])
            self._brought.update(numbers)

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
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}
        if base[whence] + offset < 0:
            raise ValueError(f"a position before the first byte: {base[whence] + offset}")
        self._position = base[whence] + offset
        return self._position

    @override
    def read(self, size: int = -1, /) -> bytes:
        # The base class would go through a buffer of its own, at the cost of a copy of it all.
        rest = max(0, self.size_bytes - self._position)
        data = self.read_at(self._position, rest if size < 0 else min(size, rest))
        self._position += len(data)
        return data

    @override
    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read_at(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
