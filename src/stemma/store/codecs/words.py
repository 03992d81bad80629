"""A block's bytes as unsigned words, and words as byte planes.

Normative text: ``docs/formats/store.md`` §Words, §Planes.  All work is done in tiles that stay
in the processor's cache, so that several passes cost little more than one.  Nothing here knows
zstd or parents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.unsignedinteger]
Planes: TypeAlias = NDArray[np.uint8]
"""A byte plane, or one row per plane, least significant byte first."""

TILE_WORDS: Final = 1 << 16

_WIDTHS: Final = {
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex128": 8,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "complex64": 4,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
}
_ROTATED: Final = frozenset(
    {"float16", "bfloat16", "float32", "float64", "complex64", "complex128"}
)


def word_bytes(dtype: str) -> int:
    """Return the bytes of a word of this element type; 1 for every type that is not named."""
    return _WIDTHS.get(dtype, 1)


def is_rotated(dtype: str) -> bool:
    """Whether words of this type are rotated before they are taken apart into planes."""
    return dtype in _ROTATED


def as_words(data: bytes, dtype: str) -> Words:
    """View a block's bytes as words; its size must be a multiple of theirs."""
    return np.frombuffer(data, dtype=f"<u{word_bytes(dtype)}")


def tiles(count: int) -> Iterator[slice]:
    """Yield slices that cover ``count`` words."""
    for start in range(0, count, TILE_WORDS):
        yield slice(start, min(start + TILE_WORDS, count))


def rotate_left(words: Words) -> Words:
    """Move each word's sign to its least significant bit."""
    rotated: Words = np.left_shift(words, 1)
    rotated |= words >> (8 * words.itemsize - 1)
    return rotated


def rotate_right(words: Words) -> None:
    """Undo ``rotate_left`` in place."""
    sign = np.left_shift(words, 8 * words.itemsize - 1)
    np.right_shift(words, 1, out=words)
    np.bitwise_or(words, sign, out=words)


def split(words: Words, planes: Planes) -> None:
    """Write the byte planes of ``words`` into the rows of ``planes``."""
    np.copyto(planes[0], words, casting="unsafe")
    for shift, plane in enumerate(planes[1:], start=1):
        np.copyto(plane, words >> (8 * shift), casting="unsafe")


def merge(planes: Sequence[Planes], out: Words) -> None:
    """Write the words whose byte planes are ``planes`` into ``out``."""
    if len(planes) == 1:
        np.copyto(out, planes[0])
        return
    # The multiplication widens and shifts in one pass, faster than a copy and a shift.
    np.multiply(planes[-1], 256, out=out, dtype=out.dtype)
    for plane in planes[-2:0:-1]:
        np.bitwise_or(out, plane, out=out)
        np.left_shift(out, 8, out=out)
    np.bitwise_or(out, planes[0], out=out)
