"""Frames: chunks stored together and compressed, or one tensor block alone.

Invariants (normative text: ``docs/formats/store.md`` §Frames):
    * A frame's key is the blake3 of its stored bytes, so any flipped bit is found.
    * The header carries its own digest, so that the index can be rebuilt from headers alone.
    * A body is at most 1 MiB decompressed, a block at most 4 MiB; reading is bounded by that.
    * A block names the chunk it is the difference to; whoever decodes it brings that along.

This module does not write to a backend and does not know files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError, frame_content_size

from stemma.domain.errors import IntegrityError
from stemma.store.codecs.base import BLOCK_BYTES, EncodedBlock, Method, Parent
from stemma.store.codecs.blocks import decode_block
from stemma.store.hashing import blake3_raw

BODY_LIMIT_BYTES: Final = 1 << 20
CHUNK_LIMIT: Final = 1024
DIGEST_BYTES: Final = 32

_MAGIC: Final = b"STMF"
_CHUNKS_VERSION: Final = 1
_BLOCK_VERSION: Final = 2
_RAW: Final = 0
_ZSTD: Final = 1
_FIXED: Final = struct.Struct("<4sBBHIII")
_BLOCK_FIXED: Final = struct.Struct("<4sBBHIBBBBI")
_ENTRY: Final = struct.Struct("<32sI")
_NO_LEVEL: Final = 0
_FAST_LEVEL: Final = 3
_THOROUGH_LEVEL: Final = 6
"""Tables as text and columns shrink by 7 % more and take three times as long."""

_SAMPLE_BYTES: Final = 16 << 10
_SAMPLE_COUNT: Final = 4
_WORTHWHILE_RATIO: Final = 0.97
_WORTHWHILE_GAIN: Final = 0.0125
HEADER_LIMIT_BYTES: Final = _FIXED.size + CHUNK_LIMIT * _ENTRY.size + DIGEST_BYTES
DEPTH_LIMIT: Final = 2
"""Most steps from a block over its parents to a chunk that needs none."""

_DTYPES: Final = (
    "",
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "float8_e4m3fn",
    "float8_e5m2",
    "complex64",
    "complex128",
)
"""Names of the element types by the number that stands in frames."""

_ANY_DTYPE: Final = "uint8"
_WITH_PARENT: Final = frozenset({Method.SUBTRACT, Method.SUBTRACT_GROUPED, Method.CAST})


class Chunk(NamedTuple):
    """A chunk's raw blake3 and its size."""

    digest: bytes
    size_bytes: int


class Link(NamedTuple):
    """A block's parent: the chunk, its element type, and how many steps it is from the end."""

    chunk: Chunk
    dtype: str
    depth: int


class BlockFacts(NamedTuple):
    """What only the header of a block says: its element type, and its parent if it has one."""

    dtype: str
    parent: Link | None

    @property
    def depth(self) -> int:
        """How many steps it is from the end of its chain, as its writer found."""
        return 0 if self.parent is None else self.parent.depth + 1


class Header(NamedTuple):
    """What a frame says about itself: codec, chunks, sizes, and where its body starts.

    ``codec`` is a ``Method`` when ``block`` is given; then there is one chunk.
    """

    codec: int
    chunks: tuple[Chunk, ...]
    body_bytes: int
    stored_bytes: int
    body_offset: int
    block: BlockFacts | None = None

    @property
    def parent(self) -> Link | None:
        """The parent of the block inside, if any."""
        return None if self.block is None else self.block.parent

    @property
    def depth(self) -> int:
        """How many steps it is from the end of its chain; 0 for chunks cut by content."""
        return 0 if self.block is None else self.block.depth


ParentSource = Callable[[Link], Parent]
"""Finds a block's parent, verified; raises ``IntegrityError`` when it cannot be had."""


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
    level = _FAST_LEVEL
    if len(body) > 2 * _SAMPLE_COUNT * _SAMPLE_BYTES:
        level = _level_by_sample(body)
        if level == _NO_LEVEL:
            return _RAW, body
    compressed = ZstdCompressor(level=level).compress(body)
    if len(compressed) > _WORTHWHILE_RATIO * len(body):
        return _RAW, body
    return _ZSTD, compressed


def _level_by_sample(body: bytes) -> int:
    step = len(body) // _SAMPLE_COUNT
    sample = b"".join(body[i * step : i * step + _SAMPLE_BYTES] for i in range(_SAMPLE_COUNT))
    fast_bytes = len(ZstdCompressor(level=_FAST_LEVEL).compress(sample))
    if fast_bytes > _WORTHWHILE_RATIO * len(sample):
        return _NO_LEVEL
    thorough_bytes = len(ZstdCompressor(level=_THOROUGH_LEVEL).compress(sample))
    if fast_bytes - thorough_bytes > _WORTHWHILE_GAIN * len(sample):
        return _THOROUGH_LEVEL
    return _FAST_LEVEL


def encode_frame(chunks: Sequence[Chunk], body: bytes) -> bytes:
    """Return the stored bytes of a frame; ``body`` is the chunks' bytes one after another."""
    codec, stored = _compress(body)
    header = _FIXED.pack(_MAGIC, _CHUNKS_VERSION, codec, 0, len(chunks), len(body), len(stored))
    header += pack_chunks(chunks)
    return header + blake3_raw(header) + stored


def known_dtype(dtype: str) -> str:
    """Return an element type that frames can name: this one, or that of bytes."""
    return dtype if dtype in _DTYPES[1:] else _ANY_DTYPE


def encode_block_frame(
    chunk: Chunk, encoded: EncodedBlock, dtype: str, parent: Link | None
) -> bytes:
    """Return the stored bytes of a frame that holds one tensor block.

    Args:
        chunk: The block.
        encoded: Its bytes, through its method.
        dtype: Its element type (``known_dtype``).
        parent: What it is the difference to; none when the method needs none.
    """
    chunks = [chunk] if parent is None else [chunk, parent.chunk]
    header = _BLOCK_FIXED.pack(
        _MAGIC,
        _BLOCK_VERSION,
        encoded.method,
        0,
        len(chunks),
        _DTYPES.index(dtype),
        0 if parent is None else _DTYPES.index(parent.dtype),
        0 if parent is None else parent.depth + 1,
        0,
        len(encoded.payload),
    )
    header += pack_chunks(chunks)
    return b"".join([header, blake3_raw(header), encoded.payload])


def _damaged(key: str, detail: str) -> IntegrityError:
    return IntegrityError(
        f"damaged frame {key}: {detail}", code="frame-damaged", hint="stemma doctor"
    )


def decode_header(data: bytes, key: str) -> Header:
    """Read the header from a frame's first ``HEADER_LIMIT_BYTES``.

    Raises:
        IntegrityError: If it is not sound, or of a version that is not known.
    """
    if len(data) < _FIXED.size:
        raise _damaged(key, "too short")
    magic, version, codec, zero, count, body_bytes, stored_bytes = _FIXED.unpack_from(data)
    if magic != _MAGIC or zero or not 0 < count <= CHUNK_LIMIT:
        raise _damaged(key, "not a frame header")
    table_end = _FIXED.size + chunk_table_bytes(count)
    body_offset = table_end + DIGEST_BYTES
    if data[table_end:body_offset] != blake3_raw(data[:table_end]):
        raise _damaged(key, "the header does not match its digest")
    chunks = unpack_chunks(data[_FIXED.size : table_end])
    if version == _BLOCK_VERSION:
        return _block_header(data, chunks, key)
    if version != _CHUNKS_VERSION or codec not in {_RAW, _ZSTD}:
        raise _damaged(key, f"version {version}, codec {codec} are not known; upgrade stemma")
    if body_bytes > BODY_LIMIT_BYTES:
        raise _damaged(key, f"a body of {body_bytes} bytes")
    if sum(chunk.size_bytes for chunk in chunks) != body_bytes:
        raise _damaged(key, "chunk sizes do not add up")
    return Header(codec, chunks, body_bytes, stored_bytes, body_offset)


def _block_header(data: bytes, chunks: tuple[Chunk, ...], key: str) -> Header:
    """Read what only the header of a block has; the common part is sound."""
    fields = _BLOCK_FIXED.unpack_from(data)
    code, count, dtype, parent_dtype, depth, zero, stored_bytes = (fields[2], *fields[4:])
    if code not in set(Method) or max(dtype, parent_dtype) >= len(_DTYPES):
        raise _damaged(
            key, f"method {code}, types {dtype} and {parent_dtype} are not known; upgrade stemma"
        )
    has_parent = code in _WITH_PARENT
    is_sound = count == 1 + has_parent and has_parent == (depth > 0) == (parent_dtype > 0)
    if not is_sound or zero or not dtype or depth > DEPTH_LIMIT:
        raise _damaged(key, "the header of a block contradicts itself")
    if not all(0 < chunk.size_bytes <= BLOCK_BYTES for chunk in chunks):
        raise _damaged(key, "a block without bytes, or with more than a block may have")
    parent = Link(chunks[1], _DTYPES[parent_dtype], depth - 1) if has_parent else None
    return Header(
        codec=code,
        chunks=chunks[:1],
        body_bytes=chunks[0].size_bytes,
        stored_bytes=stored_bytes,
        body_offset=_FIXED.size + chunk_table_bytes(count) + DIGEST_BYTES,
        block=BlockFacts(_DTYPES[dtype], parent),
    )


def decode_frame(
    data: bytes, key: str, parents: ParentSource | None = None
) -> tuple[Header, bytes]:
    """Return a frame's header and raw body; its chunks are not checked yet.

    Args:
        data: The stored bytes.
        key: Where they rest.
        parents: Asked for the parent's bytes, if the header names one.

    Raises:
        IntegrityError: If header, codec or sizes are not sound, or as ``parents`` raises.
    """
    header = decode_header(data, key)
    stored = memoryview(data)[header.body_offset :]
    if len(stored) != header.stored_bytes:
        raise _damaged(key, "truncated, or followed by other bytes")
    if header.block is not None:
        link = header.block.parent
        if link is not None and parents is None:
            raise _damaged(key, f"it needs its parent {link.chunk.digest.hex()}")
        parent = parents(link) if link is not None and parents is not None else None
        return header, _decode_block(header, header.block, stored, parent, key)
    if header.codec == _RAW:
        body = bytes(stored)
    else:
        try:
            # A stated size is allocated before anything else is looked at.
            if frame_content_size(stored) > header.body_bytes:
                raise _damaged(key, "its body states another size than its header")
            body = ZstdDecompressor().decompress(
                stored, max_output_size=BODY_LIMIT_BYTES, allow_extra_data=False
            )
        except ZstdError as error:
            raise _damaged(key, str(error)) from error
    if len(body) != header.body_bytes:
        raise _damaged(key, "the body has another size than the header says")
    return header, body


def _decode_block(
    header: Header, block: BlockFacts, stored: memoryview, parent: Parent | None, key: str
) -> bytes:
    encoded = EncodedBlock(method=Method(header.codec), payload=stored)
    try:
        return decode_block(encoded, block.dtype, header.body_bytes, parent)
    except IntegrityError as error:
        raise _damaged(key, error.message) from error
