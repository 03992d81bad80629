"""Keeps an import of skops from importing every library that scikit-learn could work with.

skops asks scikit-learn for all its estimators.  For that scikit-learn walks through its own
packages, and three of them are bridges that import torch, CuPy and dask where they are
installed: torch alone takes 1.3 s, longer than all else that recording a small model does.

Invariants:
    * The bridges seem missing for as long as skops is imported, and no longer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_BRIDGES: Final = tuple(
    f"sklearn.externals.array_api_compat.{name}" for name in ("torch", "cupy", "dask")
)


@contextmanager
def without_bridges() -> Iterator[None]:
    """Let scikit-learn find no bridge while skops is imported."""
    hidden = [name for name in _BRIDGES if name not in sys.modules]
    # To import what is None here is an ImportError, which scikit-learn passes over.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
