"""The two verbs: a tensor block to its stored bytes and back, bit for bit.

Normative text: ``docs/formats/store.md`` §Codecs of tensor blocks.

Invariants:
    * ``decode_block`` of what ``encode_block`` returned, with the parent it named, is the block,
      whatever the bits mean (NaNs with payloads, subnormals, -0.0).
    * A payload is never larger than the block: what does not shrink is stored raw.
    * A payload that no writer makes raises ``block-damaged`` and allocates no more than a small
      multiple of the block's size.

This module does not check digests, and does not choose among parents that the caller did not
name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stemma.domain.errors import InvalidInputError
from stemma.store.codecs.base import BLOCK_BYTES, EncodedBlock, Method, Parent
from stemma.store.codecs.buffers import filled
from stemma.store.codecs.cast import is_castable
from stemma.store.codecs.choose import choose
from stemma.store.codecs.delta import is_groupable
from stemma.store.codecs.kernels.selection import kernels
from stemma.store.codecs.planes import pack, unpack
from stemma.store.codecs.words import Planes, Words, as_words, word_bytes
from stemma.store.codecs.zstd import compress_plainly, damaged, decompress_exactly

_TOO_SMALL_BYTES: Final = 64
"""Below this the sizes and headers of planes eat what they save."""

_DIFFERENCES: Final = frozenset({Method.SUBTRACT, Method.SUBTRACT_GROUPED, Method.CAST})


def encode_block(
    data: bytes, dtype: str, parents: Sequence[Parent] = ()
) -> tuple[EncodedBlock, int]:
    """Return a block as stored and the index of the parent it needs, -1 for none.

    Args:
        data: The raw bytes, at most ``BLOCK_BYTES``.
        dtype: The element type.
        parents: What the block may be the difference to; those of no use are passed over.

    Raises:
        InvalidInputError: If the block is too large.
    """
    if len(data) > BLOCK_BYTES:
        raise InvalidInputError(
            f"a block of {len(data)} bytes is larger than {BLOCK_BYTES}", code="block-too-large"
        )
    raw = EncodedBlock(method=Method.RAW, payload=data)
    if len(data) < _TOO_SMALL_BYTES:
        return raw, -1
    if len(data) % word_bytes(dtype):
        method, index = Method.ZSTD, -1
    else:
        method, index, _ = choose(data, dtype, parents)
    encoded = encode_as(method, data, dtype, parents[index] if index >= 0 else None)
    if len(encoded.payload) < len(data):
        return encoded, index
    return raw, -1


def encode_as(method: Method, data: bytes, dtype: str, parent: Parent | None) -> EncodedBlock:
    """Return a block as stored by one method, whether or not that pays.

    Raises:
        InvalidInputError: If the method cannot store this block against this parent.
    """
    if method is Method.RAW:
        return EncodedBlock(method=method, payload=data)
    if method is Method.ZSTD:
        return EncodedBlock(method=method, payload=compress_plainly(data))
    if obstacle := _obstacle(method, dtype, len(data), parent):
        raise InvalidInputError(f"a block cannot be stored so: {obstacle}", code="block-method")
    words = as_words(data, dtype)
    planes: Planes = np.empty((words.itemsize, len(words)), dtype=np.uint8)
    if parent is None or method is Method.PLANES:
        kernels().split(words, dtype, planes)
    else:
        before = as_words(parent.data, parent.dtype)
        if method is Method.SUBTRACT_GROUPED:
            kernels().split_grouped(words, dtype, before, planes)
        else:
            kernels().split_residuals(words, dtype, before, parent.dtype, planes)
    return EncodedBlock(method=method, payload=pack(planes))


def decode_block(
    encoded: EncodedBlock, dtype: str, size_bytes: int, parent: Parent | None
) -> bytes:
    """Return a block's raw bytes.

    Args:
        encoded: What was stored.
        dtype: The element type.
        size_bytes: The block's size.
        parent: What the block is the difference to; ignored by methods that need none.

    Raises:
        IntegrityError: If the payload or the parent is not what a writer stored.
    """
    method, payload = encoded.method, encoded.payload
    if not 0 <= size_bytes <= BLOCK_BYTES:
        raise damaged(f"a block of {size_bytes} bytes is larger than {BLOCK_BYTES}")
    if method is Method.RAW:
        if len(payload) != size_bytes:
            raise damaged(f"{len(payload)} raw bytes instead of {size_bytes}")
        return bytes(payload)
    if not size_bytes:
        raise damaged(f"an empty block stored by {method.name}")
    if method is Method.ZSTD:
        return decompress_exactly(payload, size_bytes)
    if obstacle := _obstacle(method, dtype, size_bytes, parent):
        raise damaged(obstacle)
    width = word_bytes(dtype)
    planes = unpack(payload, width, size_bytes // width)

    def fill(octets: NDArray[np.uint8]) -> None:
        _merge(method, planes, dtype, parent, octets.view(f"<u{width}"))

    return filled(size_bytes, fill)


def _merge(
    method: Method, planes: Sequence[Planes], dtype: str, parent: Parent | None, out: Words
) -> None:
    """Write the words of a block that passed ``_obstacle``."""
    if parent is None or method is Method.PLANES:
        kernels().merge(planes, dtype, out)
        return
    before = as_words(parent.data, parent.dtype)
    if method is Method.SUBTRACT_GROUPED:
        kernels().merge_grouped(planes, dtype, before, out)
    else:
        kernels().merge_residuals(planes, dtype, before, parent.dtype, out)


def _obstacle(method: Method, dtype: str, size_bytes: int, parent: Parent | None) -> str:
    """Return why a block cannot be stored by planes in this way; empty if it can."""
    width = word_bytes(dtype)
    if size_bytes % width:
        return f"{size_bytes} bytes are not whole words of {dtype}"
    if method not in _DIFFERENCES:
        return ""
    if parent is None:
        return f"{method.name} without a parent"
    if method is Method.CAST:
        is_possible = is_castable(parent.dtype, dtype)
    else:
        is_possible = parent.dtype == dtype
        is_possible &= method is not Method.SUBTRACT_GROUPED or is_groupable(dtype)
    if not is_possible:
        return f"{method.name} of {dtype} against a parent of {parent.dtype}"
    parent_bytes = size_bytes // width * word_bytes(parent.dtype)
    if len(parent.data) != parent_bytes:
        return f"a parent of {len(parent.data)} bytes instead of {parent_bytes}"
    return ""
