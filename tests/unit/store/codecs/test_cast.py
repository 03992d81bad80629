"""Casts of floats, bit by bit against a slow reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stemma.store.codecs.cast import is_castable, predict

FIELDS = {"float32": (8, 23), "bfloat16": (8, 7), "float16": (5, 10)}


def narrow(bits: int, dtype: str) -> int:
    """Round float32 bits to a narrower type, in whole numbers, as the format says."""
    exponent_bits, mantissa_bits = FIELDS[dtype]
    sign = (bits >> 31) << (exponent_bits + mantissa_bits)
    exponent, mantissa = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    top = ((1 << exponent_bits) - 1) << mantissa_bits
    if exponent == 0xFF:
        payload = mantissa >> (23 - mantissa_bits)
        return sign | top | (payload | 1 << (mantissa_bits - 1) if mantissa else 0)
    # The value is whole * 2**scale, and the smallest step of the target 2**step.
    whole = mantissa | (1 << 23 if exponent else 0)
    scale = max(exponent, 1) - 127 - 23
    lowest = 1 - ((1 << (exponent_bits - 1)) - 1) - mantissa_bits
    step = max(scale + whole.bit_length() - 1 - mantissa_bits, lowest)
    if step <= scale:
        steps = whole << (scale - step)
    else:
        steps, rest = divmod(whole, 1 << (step - scale))
        half = 1 << (step - scale - 1)
        steps += rest > half or (rest == half and steps & 1)
    # A carry out of the mantissa raises the exponent by itself.
    return sign | min(((step - lowest) << mantissa_bits) + steps, top)


def edges(dtype: str) -> list[int]:
    """Return float32 bits at, and just beside, every place where rounding turns."""
    dropped = 23 - FIELDS[dtype][1]
    half = 1 << (dropped - 1)
    places = [exponent << 23 for exponent in range(256)]
    mantissas = [0, 1, half - 1, half, half + 1, 3 * half - 1, 3 * half, 0x7FFFFF, 0x7FFFFF - half]
    mantissas += [1 << bit for bit in range(23)] + [(1 << bit) + half for bit in range(23)]
    mantissas += [(1 << bit) - 1 for bit in range(1, 23)]
    return [
        sign | place | (m & 0x7FFFFF)
        for sign in (0, 1 << 31)
        for place in places
        for m in mantissas
    ]


def as_words(values: Any, width: int) -> np.ndarray[Any, np.dtype[Any]]:
    return np.array(values, dtype=f"<u{width}")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_number_is_rounded_as_the_format_says(dtype: str) -> None:
    """A block written by one processor could not be read on another."""
    generator = np.random.default_rng(3)
    values = edges(dtype) + generator.integers(0, 1 << 32, 20_000).tolist()
    predicted = predict(as_words(values, 4), "float32", dtype)
    assert predicted.tolist() == [narrow(value, dtype) for value in values]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_narrow_number_widens_exactly_and_comes_back(dtype: str) -> None:
    """A wide copy of a narrow model would be stored as something else."""
    exponent_bits, mantissa_bits = FIELDS[dtype]
    words = np.arange(1 << 16, dtype="<u2")
    wide = predict(words, dtype, "float32")
    back = predict(wide, "float32", dtype)
    magnitude = words & 0x7FFF
    is_nan = magnitude > ((1 << exponent_bits) - 1) << mantissa_bits
    assert np.array_equal(back[~is_nan], words[~is_nan])
    assert np.array_equal(back[is_nan], words[is_nan] | 1 << (mantissa_bits - 1))
    # A NaN's payload is carried over without being made quiet.
    shift = 23 - mantissa_bits
    payload = (words[is_nan] & ((1 << mantissa_bits) - 1)).astype("<u4") << shift
    assert np.array_equal(wide[is_nan] & 0x7FFFFF, payload)


def test_only_the_pairs_of_the_format_are_cast() -> None:
    """A writer would use a cast that no other reader knows."""
    names = ["float16", "bfloat16", "float32", "float64", "int8"]
    pairs = {(a, b) for a in names for b in names if is_castable(a, b)}
    assert pairs == {
        ("float32", "bfloat16"),
        ("float32", "float16"),
        ("bfloat16", "float32"),
        ("float16", "float32"),
    }
