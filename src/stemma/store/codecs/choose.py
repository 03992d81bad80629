"""Which method a block should be stored by, judged on a sample.

The judgement is a guess of sizes: byte entropies of at most 32 Ki words, no encoding.  A wrong
guess costs bytes, never correctness; a reader does not need it.  Repetitions further apart than
the sample are not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from stemma.store.codecs.base import Method, Parent
from stemma.store.codecs.cast import is_castable
from stemma.store.codecs.delta import exponents, is_groupable
from stemma.store.codecs.entropy import entropy
from stemma.store.codecs.kernels.selection import kernels
from stemma.store.codecs.words import Planes, Words, as_words, word_bytes
from stemma.store.codecs.zstd import compress_plainly

_SAMPLE_WORDS: Final = 32 << 10
_RUNS: Final = 8
_NOISE_BITS: Final = 7.0
"""A lowest byte with more entropy than this is noise that no search for repetitions helps."""

_GROUPING_GAIN: Final = 0.98
"""Grouping halves the speed, so it must save at least 2 %."""


class Choice(NamedTuple):
    """A method, the index of the parent it takes (-1 for none), and what it should cost."""

    method: Method
    parent: int
    bits_per_word: float


def choose(data: bytes, dtype: str, parents: Sequence[Parent]) -> Choice:
    """Return what should make a block of whole words smallest.

    A parent that is of no use (another size, a type that cannot be cast) is passed over.
    """
    words = as_words(data, dtype)
    sample = _sample(words)
    planes: Planes = np.empty((sample.itemsize, len(sample)), dtype=np.uint8)
    kernels().split(sample, dtype, planes)
    bits = [entropy(kernels().count(plane)) for plane in planes]
    choices = [Choice(Method.PLANES, -1, sum(bits))]
    for index, parent in enumerate(parents):
        if parent_fits(parent, dtype, len(words)):
            choices += _against(sample, dtype, index, parent)
    if bits[0] < _NOISE_BITS:
        compressed = compress_plainly(sample.tobytes())
        choices.append(Choice(Method.ZSTD, -1, 8 * len(compressed) / len(sample)))
    return min(choices, key=lambda choice: choice.bits_per_word)


def parent_fits(parent: Parent, dtype: str, count: int) -> bool:
    """Whether a block of ``count`` words may be the difference to this parent."""
    if parent.dtype != dtype and not is_castable(parent.dtype, dtype):
        return False
    return len(parent.data) == count * word_bytes(parent.dtype)


def _against(sample: Words, dtype: str, index: int, parent: Parent) -> list[Choice]:
    """Return what a parent that fits allows."""
    before = _sample(as_words(parent.data, parent.dtype))
    planes: Planes = np.empty((sample.itemsize, len(sample)), dtype=np.uint8)
    kernels().split_residuals(sample, dtype, before, parent.dtype, planes)
    bits = sum(entropy(kernels().count(plane)) for plane in planes)
    if parent.dtype != dtype:
        return [Choice(Method.CAST, index, bits)]
    choices = [Choice(Method.SUBTRACT, index, bits)]
    if is_groupable(dtype):
        grouped = _bits_by_group(planes, exponents(before, dtype))
        if grouped < _GROUPING_GAIN * bits:
            choices.append(Choice(Method.SUBTRACT_GROUPED, index, grouped))
    return choices


def _sample(words: Words) -> Words:
    if len(words) <= _SAMPLE_WORDS:
        return words
    run = _SAMPLE_WORDS // _RUNS
    starts = [i * (len(words) - run) // (_RUNS - 1) for i in range(_RUNS)]
    return np.concatenate([words[start : start + run] for start in starts])


def _bits_by_group(planes: Planes, groups: Planes) -> float:
    """Return the bits that a word's planes take when each group is coded on its own."""
    known = entropy(kernels().count(groups))
    return sum(entropy(kernels().count(plane, groups)) - known for plane in planes)
