"""What is known of one tensor, and how files and bytes are opened alike."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, NamedTuple


class TensorFact(NamedTuple):
    """One tensor: numpy's (or ml_dtypes') name of its type, its shape, and its digest.

    ``digest`` is the hexadecimal blake3 of the canonical bytes: little-endian, C order.
    """

    dtype: str
    shape: tuple[int, ...]
    digest: str


def open_source(source: Path | bytes) -> BinaryIO:
    """Open a file, or bytes as if they were one."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
