"""zstd as the codecs use it: plainly, as a Huffman coder, and back under a known size.

A reader looks at the stated size before it decompresses, so no payload makes it allocate more
than the block it expects; what it cannot trust raises ``block-damaged``.
"""

from __future__ import annotations

import threading
from typing import Final

from zstandard import (
    ZstdCompressionParameters,
    ZstdCompressor,
    ZstdDecompressor,
    ZstdError,
    frame_content_size,
)

from stemma.domain.errors import IntegrityError

_LEVEL: Final = 3


class _Coders(threading.local):
    """One set per thread: zstandard's objects must not work for two threads at once."""

    def __init__(self) -> None:
        # The smallest tables and the longest match: next to no search, nearly all Huffman.
        huffman = ZstdCompressionParameters(
            window_log=20,
            hash_log=6,
            chain_log=6,
            search_log=1,
            min_match=7,
            target_length=0,
            strategy=1,
        )
        self.huffman = ZstdCompressor(compression_params=huffman)
        self.plain = ZstdCompressor(level=_LEVEL)
        self.decompressor = ZstdDecompressor()


_CODERS: Final = _Coders()


def damaged(detail: str) -> IntegrityError:
    """Return the error of a payload that is not what was written."""
    return IntegrityError(
        f"damaged tensor block: {detail}", code="block-damaged", hint="stemma doctor"
    )


def compress_plainly(data: bytes) -> bytes:
    """Return one zstd frame of any bytes."""
    return _CODERS.plain.compress(data)


def compress_plane(plane: memoryview) -> bytes:
    """Return one zstd frame of a byte plane."""
    return _CODERS.huffman.compress(plane)


def decompress_exactly(frame: bytes | memoryview, size_bytes: int) -> bytes:
    """Return the content of one zstd frame that must hold so many bytes, at least one.

    Raises:
        IntegrityError: If it does not, or is no sound frame, or is followed by anything.
    """
    try:
        stated_bytes = frame_content_size(frame)
        if stated_bytes != size_bytes:
            raise damaged(f"a zstd frame states {stated_bytes} bytes instead of {size_bytes}")
        content = _CODERS.decompressor.decompress(frame, allow_extra_data=False)
    except ZstdError as error:
        raise damaged(f"a zstd frame cannot be read: {error}") from error
    if len(content) != size_bytes:
        raise damaged(f"a zstd frame holds {len(content)} bytes instead of {size_bytes}")
    return content
