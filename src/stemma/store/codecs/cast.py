"""The words that a copy of a tensor in another float type should have.

Normative text: ``docs/formats/store.md`` §Cast.  Numbers may be converted by the processor;
NaNs never are, since processors differ in what they leave of the payload.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stemma.store.codecs.words import Words

_MAGNITUDE: Final = np.uint32(0x7FFFFFFF)
_INFINITY: Final = np.uint32(0x7F800000)
_INFINITY_16: Final = np.uint32(0x7C00)


def _narrow_to_bfloat16(words: Words) -> Words:
    rounded = (words >> 16) & 1
    rounded += 0x7FFF
    rounded += words
    rounded >>= 16
    narrow = rounded.astype("<u2")
    nan = (words & _MAGNITUDE) > _INFINITY
    if nan.any():
        narrow[nan] = (words[nan] >> 16).astype("<u2") | 0x0040
    return narrow


def _narrow_to_float16(words: Words) -> Words:
    with np.errstate(all="ignore"):
        narrow: Words = words.view("<f4").astype("<f2").view("<u2")
    nan = (words & _MAGNITUDE) > _INFINITY
    if nan.any():
        source = words[nan]
        sign = (source >> 16) & 0x8000
        payload = (source >> 13) & 0x03FF
        narrow[nan] = (sign | 0x7E00 | payload).astype("<u2")
    return narrow


def _widen_bfloat16(words: Words) -> Words:
    wide: Words = words.astype("<u4")
    wide <<= 16
    return wide


@cache
def _float16_table() -> NDArray[np.uint32]:
    """Return the float32 bits of every float16."""
    words = np.arange(1 << 16, dtype="<u2")
    with np.errstate(all="ignore"):
        table = words.view("<f2").astype("<f4").view("<u4")
    wide = words.astype("<u4")
    special = (wide & _INFINITY_16) == _INFINITY_16
    source = wide[special]
    table[special] = ((source & 0x8000) << 16) | _INFINITY | ((source & 0x03FF) << 13)
    table.flags.writeable = False
    return table


def _widen_float16(words: Words) -> Words:
    return _float16_table()[words]


_PREDICTORS: Final[dict[tuple[str, str], Callable[[Words], Words]]] = {
    ("float32", "bfloat16"): _narrow_to_bfloat16,
    ("float32", "float16"): _narrow_to_float16,
    ("bfloat16", "float32"): _widen_bfloat16,
    ("float16", "float32"): _widen_float16,
}


def is_castable(parent_dtype: str, dtype: str) -> bool:
    """Whether a block of type ``dtype`` may be predicted from one of ``parent_dtype``."""
    return (parent_dtype, dtype) in _PREDICTORS


def predict(words: Words, parent_dtype: str, dtype: str) -> Words:
    """Return a parent's words converted to a block's type."""
    return _PREDICTORS[parent_dtype, dtype](words)
