"""What a codec takes and gives.

Types only; the verbs ``encode_block`` and ``decode_block`` are in ``blocks``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

BLOCK_BYTES: Final = 4 << 20
"""Most bytes of a block before encoding."""


class Method(IntEnum):
    """How a block is stored; the value is written into frames (``docs/formats/store.md``)."""

    RAW = 0
    ZSTD = 1
    PLANES = 2
    SUBTRACT = 3
    SUBTRACT_GROUPED = 4
    CAST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A block that another one is stored as the difference to.

    Attributes:
        data: Its raw bytes, as many elements as the block has.
        dtype: Its element type; differs from the block's only for CAST.
    """

    data: bytes
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedBlock:
    """A block as it is stored.

    Attributes:
        method: How.
        payload: The stored bytes.
    """

    method: Method
    payload: bytes | memoryview
