"""The loops in numpy: always there, and what the others are measured against.

All work is done in tiles that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
from typing_extensions import override

from stemma.store.codecs.cast import predict
from stemma.store.codecs.delta import group_order, residuals, restore
from stemma.store.codecs.kernels.base import Counts, Kernels
from stemma.store.codecs.words import (
    Planes,
    Words,
    is_rotated,
    merge,
    rotate_left,
    rotate_right,
    split,
    tiles,
)


@final
class PortableKernels(Kernels):
    """Every loop as a few passes of numpy over each tile."""

    @override
    def split(self, words: Words, dtype: str, planes: Planes) -> None:
        turn = rotate_left if is_rotated(dtype) else _same
        for tile in tiles(len(words)):
            split(turn(words[tile]), planes[:, tile])

    @override
    def merge(self, planes: Sequence[Planes], dtype: str, out: Words) -> None:
        turned = is_rotated(dtype)
        for tile in tiles(len(out)):
            merge([plane[tile] for plane in planes], out[tile])
            if turned:
                rotate_right(out[tile])

    @override
    def split_residuals(
        self, words: Words, dtype: str, parent: Words, parent_dtype: str, planes: Planes
    ) -> None:
        prediction = _prediction(parent_dtype, dtype)
        for tile in tiles(len(words)):
            split(residuals(words[tile], prediction(parent[tile])), planes[:, tile])

    @override
    def merge_residuals(
        self, planes: Sequence[Planes], dtype: str, parent: Words, parent_dtype: str, out: Words
    ) -> None:
        prediction = _prediction(parent_dtype, dtype)
        for tile in tiles(len(out)):
            merge([plane[tile] for plane in planes], out[tile])
            restore(out[tile], prediction(parent[tile]), out[tile])

    @override
    def split_grouped(self, words: Words, dtype: str, parent: Words, planes: Planes) -> None:
        folded = residuals(words, parent)
        order = group_order(parent, dtype)
        for tile in tiles(len(words)):
            split(folded[order[tile]], planes[:, tile])

    @override
    def merge_grouped(
        self, planes: Sequence[Planes], dtype: str, parent: Words, out: Words
    ) -> None:
        order = group_order(parent, dtype)
        for tile in tiles(len(out)):
            folded = np.empty(tile.stop - tile.start, dtype=out.dtype)
            merge([plane[tile] for plane in planes], folded)
            out[order[tile]] = folded
        for tile in tiles(len(out)):
            restore(out[tile], parent[tile], out[tile])

    @override
    def count(self, symbols: Planes, groups: Planes | None = None) -> Counts:
        if groups is None:
            return np.bincount(symbols, minlength=256).astype(np.uint32)
        labels = groups.astype(np.uint16)
        labels <<= 8
        labels |= symbols
        return np.bincount(labels, minlength=1 << 16).astype(np.uint32)


def _same(words: Words) -> Words:
    return words


def _prediction(parent_dtype: str, dtype: str) -> Callable[[Words], Words]:
    if parent_dtype == dtype:
        return _same
    return lambda words: predict(words, parent_dtype, dtype)
