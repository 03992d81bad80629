"""How many bits symbols should take, from how often they occur in a sample."""

from __future__ import annotations

import math

import numpy as np

from stemma.store.codecs.kernels.base import Counts


def entropy(counts: Counts) -> float:
    """Return the bits per symbol, with the correction for a small sample (Miller, Madow)."""
    present = counts[counts > 0].astype(np.float64)
    total = float(present.sum())
    bits = math.log2(total) - float(present @ np.log2(present)) / total
    return bits + (len(present) - 1) / (2 * math.log(2) * total)
