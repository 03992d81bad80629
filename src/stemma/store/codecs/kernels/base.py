"""What every set of loops must do; types only.

Invariants:
    * Every implementation gives the same bytes.
    * Implementations keep no state: many threads may call at once.
    * Callers have made sure that sizes and types fit (``stemma.store.codecs.blocks``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stemma.store.codecs.words import Planes, Words

Counts: TypeAlias = NDArray[np.uint32]


class Kernels(Protocol):
    """Words to byte planes and back.

    ``planes`` that are written are the rows of one array; those that are read may lie anywhere.
    ``dtype`` and ``parent_dtype`` are the element types of the block and of its parent, which
    differ only where ``parent`` is cast to the block's type (``stemma.store.codecs.cast``).
    """

    def split(self, words: Words, dtype: str, planes: Planes) -> None:
        """Write the planes of words, rotated if their type is."""
        ...

    def merge(self, planes: Sequence[Planes], dtype: str, out: Words) -> None:
        """Undo ``split``."""
        ...

    def split_residuals(
        self, words: Words, dtype: str, parent: Words, parent_dtype: str, planes: Planes
    ) -> None:
        """Write the planes of the differences of words to their parent's."""
        ...

    def merge_residuals(
        self, planes: Sequence[Planes], dtype: str, parent: Words, parent_dtype: str, out: Words
    ) -> None:
        """Undo ``split_residuals``."""
        ...

    def split_grouped(self, words: Words, dtype: str, parent: Words, planes: Planes) -> None:
        """Write the planes of the differences, ordered by the exponents of the parent's words."""
        ...

    def merge_grouped(
        self, planes: Sequence[Planes], dtype: str, parent: Words, out: Words
    ) -> None:
        """Undo ``split_grouped``."""
        ...

    def count(self, symbols: Planes, groups: Planes | None = None) -> Counts:
        """Return how often each byte occurs: 256 numbers, or 65,536, group after group."""
        ...
