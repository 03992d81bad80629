"""Which loops are used: those in C where they can be, else those in numpy.

``STEMMA_ACCELERATOR=off`` in the environment means numpy, to compare or to rule the C code out.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final, NamedTuple

from stemma.store.codecs.kernels.base import Kernels
from stemma.store.codecs.kernels.native import load
from stemma.store.codecs.kernels.portable import PortableKernels

SWITCH: Final = "STEMMA_ACCELERATOR"


class Selection(NamedTuple):
    """The loops that are used, and why they are not those in C; empty if they are."""

    kernels: Kernels
    obstacle: str


@cache
def selected() -> Selection:
    """Return what this process uses; decided once."""
    if os.environ.get(SWITCH, "").lower() in {"off", "0", "no", "false"}:
        return Selection(PortableKernels(), f"{SWITCH} is off")
    kernels, obstacle = load()
    return Selection(PortableKernels() if kernels is None else kernels, obstacle)


def kernels() -> Kernels:
    """Return the loops that this process uses."""
    return selected().kernels
