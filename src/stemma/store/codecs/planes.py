"""Byte planes as stored: each as zeros, as it is, or through zstd as a Huffman coder.

Normative text: ``docs/formats/store.md`` §Planes.  Every size is checked before anything is
decompressed; what cannot be trusted raises ``block-damaged``.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from stemma.store.codecs.entropy import entropy
from stemma.store.codecs.kernels.selection import kernels
from stemma.store.codecs.words import Planes
from stemma.store.codecs.zstd import compress_plane, damaged, decompress_exactly

_LARGE_BYTES: Final = 64 << 10
_RUN_BYTES: Final = 4 << 10
_RUNS: Final = 4
_NOISE_BITS: Final = 7.9
"""zstd codes a byte only if that saves a 64th, 0.125 bits."""


def pack(planes: Planes) -> bytes:
    """Return the stored bytes of planes."""
    stored = [_pack_plane(plane) for plane in planes]
    sizes = struct.pack(f"<{len(stored)}I", *(len(part) for part in stored))
    return b"".join([sizes, *stored])


def _pack_plane(plane: Planes) -> bytes | memoryview:
    # The first few bytes nearly always tell, and spare the look at all of them.
    if not plane[:64].any() and not plane.any():
        return b""
    if _is_noise(plane):
        return plane.data
    compressed = compress_plane(plane.data)
    return compressed if len(compressed) < len(plane) else plane.data


def _is_noise(plane: Planes) -> bool:
    """Whether zstd would leave the plane as it is: all of a few runs are too even to code."""
    if len(plane) < _LARGE_BYTES:
        return False
    step = (len(plane) - _RUN_BYTES) // (_RUNS - 1)
    return all(
        entropy(kernels().count(plane[start : start + _RUN_BYTES])) > _NOISE_BITS
        for start in range(0, _RUNS * step, step)
    )


def unpack(payload: bytes | memoryview, width: int, count: int) -> list[Planes]:
    """Return ``width`` planes of ``count`` bytes each.

    Raises:
        IntegrityError: If the payload does not hold exactly these.
    """
    table = struct.Struct(f"<{width}I")
    if len(payload) < table.size:
        raise damaged(f"{len(payload)} bytes are too few for the sizes of {width} planes")
    sizes = table.unpack_from(payload)
    if max(sizes) > count or sum(sizes) != len(payload) - table.size:
        raise damaged(
            f"planes of {sizes} bytes do not fit {count} words and "
            f"{len(payload) - table.size} stored bytes"
        )
    planes, offset = [], table.size
    view = memoryview(payload)
    for size in sizes:
        planes.append(_unpack_plane(view[offset : offset + size], count))
        offset += size
    return planes


def _unpack_plane(stored: memoryview, count: int) -> Planes:
    if not stored:
        return np.zeros(count, dtype=np.uint8)
    if len(stored) == count:
        return np.frombuffer(stored, dtype=np.uint8)
    return np.frombuffer(decompress_exactly(stored, count), dtype=np.uint8)
