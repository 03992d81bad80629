"""Frames: chunks cut by content and stored together, compressed.

Invariants (normative text: ``docs/formats/store.md`` §Frames):
    * A frame's key is the blake3 of its stored bytes, so any flipped bit is found.
    * The header carries its own digest, so that the index can be rebuilt from headers alone.
    * A frame's body is at most 1 MiB decompressed; reading is bounded by that.

This module does not write to a backend and does not know files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from pyfastcdc import FastCDC
from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError

from stemma.domain.errors import IntegrityError
from stemma.store.hashing import blake3_raw

BODY_LIMIT_BYTES: Final = 1 << 20
CHUNK_LIMIT: Final = 1024
DIGEST_BYTES: Final = 32

_MINIMUM_CHUNK_BYTES: Final = 4 << 10
_AVERAGE_CHUNK_BYTES: Final = 16 << 10
_MAXIMUM_CHUNK_BYTES: Final = 64 << 10
_MAGIC: Final = b"STMF"
_VERSION: Final = 1
_RAW: Final = 0
_ZSTD: Final = 1
_FIXED: Final = struct.Struct("<4sBBHIII")
_ENTRY: Final = struct.Struct("<32sI")
_ZSTD_LEVEL: Final = 3
_SAMPLE_BYTES: Final = 16 << 10
_SAMPLE_COUNT: Final = 4
_WORTHWHILE_RATIO: Final = 0.97
HEADER_LIMIT_BYTES: Final = _FIXED.size + CHUNK_LIMIT * _ENTRY.size + DIGEST_BYTES


class Readable(Protocol):
    """What a file is read through."""

    def read(self, size_bytes: int, /) -> bytes:
        """Return up to that many bytes; none at the end."""
        ...


class Chunk(NamedTuple):
    """A chunk's raw blake3 and its size."""

    digest: bytes
    size_bytes: int


class Header(NamedTuple):
    """What a frame says about itself: codec, chunks, sizes, and where its body starts."""

    codec: int
    chunks: tuple[Chunk, ...]
    body_bytes: int
    stored_bytes: int
    body_offset: int


def cut(stream: Readable) -> Iterator[tuple[bytes, bytes]]:
    """Yield each content-defined chunk of a stream with its raw blake3, in order."""
    chunker = FastCDC(
        avg_size=_AVERAGE_CHUNK_BYTES,
        min_size=_MINIMUM_CHUNK_BYTES,
        max_size=_MAXIMUM_CHUNK_BYTES,
    )
    for chunk in chunker.cut_stream(stream):
        data = bytes(chunk.data)
        yield blake3_raw(data), data


def pack_chunks(chunks: Sequence[Chunk]) -> bytes:
    """Return the chunk table that frames and recipes share."""
    return b"".join(_ENTRY.pack(*chunk) for chunk in chunks)


def unpack_chunks(table: bytes) -> tuple[Chunk, ...]:
    """Read a chunk table."""
    return tuple(Chunk(*entry) for entry in _ENTRY.iter_unpack(table))


def chunk_table_bytes(count: int) -> int:
    """Return the size of a table of ``count`` chunks."""
    return count * _ENTRY.size


def _compress(body: bytes) -> tuple[int, bytes]:
    """Return codec and stored body; a sample spares the work where it would not pay."""
    compressor = ZstdCompressor(level=_ZSTD_LEVEL)
    if len(body) > 2 * _SAMPLE_COUNT * _SAMPLE_BYTES:
        step = len(body) // _SAMPLE_COUNT
        sample = b"".join(body[i * step : i * step + _SAMPLE_BYTES] for i in range(_SAMPLE_COUNT))
        if len(compressor.compress(sample)) > _WORTHWHILE_RATIO * len(sample):
            return _RAW, body
    compressed = compressor.compress(body)
    if len(compressed) > _WORTHWHILE_RATIO * len(body):
        return _RAW, body
    return _ZSTD, compressed


def encode_frame(chunks: Sequence[Chunk], body: bytes) -> bytes:
    """Return the stored bytes of a frame; ``body`` is the chunks' bytes one after another."""
    codec, stored = _compress(body)
    header = _FIXED.pack(_MAGIC, _VERSION, codec, 0, len(chunks), len(body), len(stored))
    header += pack_chunks(chunks)
    return header + blake3_raw(header) + stored


def _damaged(key: str, detail: str) -> IntegrityError:
    return IntegrityError(
        f"damaged frame {key}: {detail}", code="frame-damaged", hint="stemma doctor"
    )


def decode_header(data: bytes, key: str) -> Header:
    """Read the header from a frame's first ``HEADER_LIMIT_BYTES``.

    Raises:
        IntegrityError: If it is not sound.
    """
    if len(data) < _FIXED.size:
        raise _damaged(key, "too short")
    magic, version, codec, zero, count, body_bytes, stored_bytes = _FIXED.unpack_from(data)
    if magic != _MAGIC or zero or not 0 < count <= CHUNK_LIMIT or body_bytes > BODY_LIMIT_BYTES:
        raise _damaged(key, "not a frame header")
    table_end = _FIXED.size + chunk_table_bytes(count)
    body_offset = table_end + DIGEST_BYTES
    if data[table_end:body_offset] != blake3_raw(data[:table_end]):
        raise _damaged(key, "the header does not match its digest")
    if version != _VERSION or codec not in {_RAW, _ZSTD}:
        raise _damaged(key, f"version {version}, codec {codec} are not known; upgrade stemma")
    chunks = unpack_chunks(data[_FIXED.size : table_end])
    if sum(chunk.size_bytes for chunk in chunks) != body_bytes:
        raise _damaged(key, "chunk sizes do not add up")
    return Header(codec, chunks, body_bytes, stored_bytes, body_offset)


def decode_frame(data: bytes, key: str) -> tuple[Header, bytes]:
    """Return a frame's header and decompressed body; its chunks are not checked yet.

    Raises:
        IntegrityError: If header, codec or sizes are not sound.
    """
    header = decode_header(data, key)
    stored = data[header.body_offset :]
    if len(stored) != header.stored_bytes:
        raise _damaged(key, "truncated, or followed by other bytes")
    if header.codec == _RAW:
        body = stored
    else:
        try:
            body = ZstdDecompressor().decompress(
                stored, max_output_size=BODY_LIMIT_BYTES, allow_extra_data=False
            )
        except ZstdError as error:
            raise _damaged(key, str(error)) from error
    if len(body) != header.body_bytes:
        raise _damaged(key, "the body has another size than the header says")
    return header, body
