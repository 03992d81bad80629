"""Words as small residuals against predicted words, and back.

Normative text: ``docs/formats/store.md`` §Residuals.  Subtraction of the bits beats XOR, since
a small change of a float is a small number, whatever carries it causes.  An optimiser moves
large and small weights about as far, so in units of the last place the difference depends on the
exponent of the weight: grouped by it, residuals of one size stand together and code better.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stemma.store.codecs.words import Words

_EXPONENTS: Final = {"float16": (10, 0x1F), "bfloat16": (7, 0xFF), "float32": (23, 0xFF)}


def is_groupable(dtype: str) -> bool:
    """Whether residuals of this type may be grouped by the parent's exponent."""
    return dtype in _EXPONENTS


def residuals(words: Words, predicted: Words) -> Words:
    """Return the folded differences of words to their predictions."""
    difference = words - predicted
    signed = difference.view(f"<i{difference.itemsize}")
    sign = signed >> (8 * difference.itemsize - 1)
    difference <<= 1
    difference ^= sign.view(difference.dtype)
    return difference


def restore(folded: Words, predicted: Words, out: Words) -> None:
    """Write the words that have these residuals into ``out``, which may be ``folded``."""
    sign = folded & 1
    np.negative(sign, out=sign)
    np.right_shift(folded, 1, out=out)
    np.bitwise_xor(out, sign, out=out)
    np.add(out, predicted, out=out)


def exponent_field(dtype: str) -> tuple[int, int]:
    """Return how far the exponent of a type's words is from the right, and its bits there."""
    return _EXPONENTS[dtype]


def exponents(parent: Words, dtype: str) -> NDArray[np.uint8]:
    """Return the exponent field of each of the parent's words."""
    shift, mask = _EXPONENTS[dtype]
    fields = parent >> shift
    fields &= mask
    return fields.astype(np.uint8)


def group_order(parent: Words, dtype: str) -> NDArray[np.intp]:
    """Return the places of the parent's words, smallest exponent first, else in order."""
    # numpy sorts single bytes stably by counting them: one pass.
    return np.argsort(exponents(parent, dtype), kind="stable")
