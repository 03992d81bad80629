"""Frames of tensor blocks: their bytes are fixed, and anything else is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest

from stemma.domain.errors import IntegrityError
from stemma.store.codecs.base import BLOCK_BYTES, EncodedBlock, Method, Parent
from stemma.store.codecs.blocks import encode_block
from stemma.store.frames import (
    BODY_LIMIT_BYTES,
    HEADER_LIMIT_BYTES,
    Chunk,
    Link,
    decode_frame,
    decode_header,
    encode_block_frame,
    known_dtype,
    pack_chunks,
)
from stemma.store.hashing import blake3_raw

VECTORS = Path(__file__).parents[2] / "vectors" / "frame"
BLOCK = b"eight by"
CHUNK = Chunk(blake3_raw(BLOCK), len(BLOCK))
OTHER = Chunk(blake3_raw(b"parents."), 8)


def _base() -> bytes:
    return (np.arange(4096, dtype="<u4") * 2654435761 % 9973 + 0x3D000000).astype("<u4").tobytes()


def _child() -> bytes:
    words = np.frombuffer(_base(), dtype="<u4")
    return (words + np.arange(4096, dtype="<u4") % 5 - 2).astype("<u4").tobytes()


def _vector(name: str) -> bytes:
    return bytes.fromhex((VECTORS / f"{name}.hex").read_text(encoding="ascii"))


def test_a_raw_block_s_frame_has_fixed_bytes() -> None:
    """Frames written today must be read by every later release."""
    header = (
        bytes.fromhex("53544d46 02 00 0000 01000000 0c 00 00 00 08000000".replace(" ", ""))
        + CHUNK.digest
        + struct.pack("<I", 8)
    )
    encoded = EncodedBlock(method=Method.RAW, payload=BLOCK)
    frame = encode_block_frame(CHUNK, encoded, "float32", None)
    assert frame == header + blake3_raw(header) + BLOCK
    assert decode_frame(frame, "k")[1] == BLOCK


def test_a_difference_s_header_has_fixed_bytes() -> None:
    """The parent of a block must be found by every later release."""
    header = bytes.fromhex(
        "53544d46 02 05 0000 02000000 0b 0c 01 00 03000000".replace(" ", "")
    ) + pack_chunks([CHUNK, OTHER])
    encoded = EncodedBlock(method=Method.CAST, payload=b"xyz")
    frame = encode_block_frame(CHUNK, encoded, "bfloat16", Link(OTHER, "float32", 0))
    assert frame == header + blake3_raw(header) + b"xyz"
    assert decode_header(frame, "k").parent == Link(OTHER, "float32", 0)


def test_frames_that_were_written_once_are_read_for_ever() -> None:
    """A release that reads yesterday's fine-tunes differently loses them."""
    base = Chunk(blake3_raw(_base()), len(_base()))
    child = Chunk(blake3_raw(_child()), len(_child()))
    header, body = decode_frame(_vector("planes"), "k")
    assert (header.chunks, header.parent, header.depth, body) == ((base,), None, 0, _base())
    link = Link(base, "float32", 0)

    def parent_of(asked: Link) -> Parent:
        assert asked == link
        return Parent(data=_base(), dtype="float32")

    header, body = decode_frame(_vector("subtract"), "k", parent_of)
    assert (header.chunks, header.parent, header.depth, body) == ((child,), link, 1, _child())


def _header(**changed: int) -> bytes:
    fields = {
        "version": 2,
        "method": 3,
        "zero": 0,
        "count": 2,
        "dtype": 12,
        "parent": 12,
        "depth": 1,
        "pad": 0,
        "stored": 3,
    } | {name: value for name, value in changed.items() if name not in {"size", "size_of_parent"}}
    sizes = (changed.get("size", 8), changed.get("size_of_parent", 8))
    fixed = struct.pack("<4sBBHIBBBBI", b"STMF", *fields.values())
    chunks = [Chunk(CHUNK.digest, sizes[0]), Chunk(OTHER.digest, sizes[1])]
    table = fixed + pack_chunks(chunks[: min(fields["count"], 2)])
    return table + blake3_raw(table)


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 3},
        {"method": 6},
        {"method": 2},
        {"zero": 1},
        {"count": 1},
        {"count": 3},
        {"dtype": 0},
        {"dtype": 18},
        {"parent": 0},
        {"parent": 18},
        {"depth": 0},
        {"depth": 3},
        {"pad": 1},
        {"size": 0},
        {"size": BLOCK_BYTES + 1},
        {"size_of_parent": 0},
        {"size_of_parent": BLOCK_BYTES + 1},
        {"method": 2, "count": 1, "parent": 0},
        {"method": 2, "count": 1, "depth": 0},
    ],
)
def test_a_header_that_contradicts_itself_is_refused(changed: dict[str, int]) -> None:
    """A crafted frame must not lead the reader astray."""
    assert decode_header(_header(), "k").depth == 1
    with pytest.raises(IntegrityError) as caught:
        decode_header(_header(**changed), "frames/ab/cd")
    assert caught.value.code == "frame-damaged"
    assert "frames/ab/cd" in caught.value.message


def test_a_block_that_needs_its_parent_is_not_read_without() -> None:
    """Nobody may take a difference for the numbers themselves."""
    with pytest.raises(IntegrityError, match=OTHER.digest.hex()):
        decode_frame(_header() + b"xyz", "k")


def test_a_payload_that_no_writer_made_names_the_frame() -> None:
    """Of ten thousand frames, the broken one must be told."""
    with pytest.raises(IntegrityError, match="frames/ab/cd"):
        decode_frame(
            _header() + b"xyz",
            "frames/ab/cd",
            lambda _: Parent(data=b"parents.", dtype="float32"),
        )


def test_a_program_of_version_1_says_that_it_is_too_old() -> None:
    """People with an older release must hear "upgrade", not "damaged"."""
    for frame in (_vector("planes"), _vector("subtract")):
        # What that program checks before it looks at the version.
        magic, version, _, zero, count, body_bytes, _ = struct.unpack_from("<4sBBHIII", frame)
        end = 20 + 36 * count
        assert (magic, version, zero) == (b"STMF", 2, 0)
        assert body_bytes <= BODY_LIMIT_BYTES
        assert frame[end : end + 32] == blake3_raw(frame[:end])


def test_every_header_fits_what_is_read_of_one() -> None:
    """Making the index anew reads a part of each frame only."""
    encoded, number = encode_block(_child(), "float32", [Parent(data=_base(), dtype="float32")])
    assert (encoded.method, number) == (Method.SUBTRACT, 0)
    frame = encode_block_frame(CHUNK, encoded, "float32", Link(OTHER, "float32", 1))
    head = frame[:HEADER_LIMIT_BYTES]
    assert decode_header(head, "k").depth == 2


def test_element_types_without_a_number_are_stored_as_bytes() -> None:
    """A type that is invented tomorrow must be stored today."""
    assert known_dtype("bfloat16") == "bfloat16"
    assert known_dtype("float4_e2m1") == "uint8"
    assert known_dtype("") == "uint8"
