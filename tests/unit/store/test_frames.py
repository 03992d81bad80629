"""Frames and recipes: their bytes are fixed, and anything else is refused."""

import io
import struct
from random import Random

import pytest
from zstandard import ZstdCompressor

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.store.cutting import cut
from stemma.store.frames import (
    BODY_LIMIT_BYTES,
    Chunk,
    decode_frame,
    decode_header,
    encode_frame,
    pack_chunks,
)
from stemma.store.hashing import blake3_raw, hash_bytes
from stemma.store.recipes import Recipe, decode_recipe, encode_recipe

HELLO = Chunk(blake3_raw(b"hello"), 5)
WORLD = Chunk(blake3_raw(b"world!"), 6)
HELLO_HEX = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
RECIPE = Recipe(
    digest=hash_bytes(b"hello"),
    sha256=Digest.sha256("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
    size_bytes=5,
    table=pack_chunks([HELLO]),
)


def test_a_frame_s_bytes_are_fixed() -> None:
    """Frames written today must be read by every later release."""
    header = bytes.fromhex(
        "53544d46 01 00 0000 01000000 05000000 05000000".replace(" ", "") + HELLO_HEX + "05000000"
    )
    assert encode_frame([HELLO], b"hello") == header + blake3_raw(header) + b"hello"


def test_a_recipe_s_bytes_are_fixed() -> None:
    """Recipes written today must be read by every later release."""
    body = bytes.fromhex(
        "53544d52 01 000000 0500000000000000".replace(" ", "")
        + HELLO_HEX
        + RECIPE.sha256.hex
        + "01000000"
        + HELLO_HEX
        + "05000000"
    )
    assert encode_recipe(RECIPE) == body + blake3_raw(body)
    assert decode_recipe(encode_recipe(RECIPE), RECIPE.digest) == RECIPE


def test_text_of_a_table_is_compressed_with_more_effort() -> None:
    """Tables grow with every version, so what their text takes is paid again and again."""
    random = Random(1)
    prices = (random.lognormvariate(3, 1) for _ in range(30_000))
    body = "".join(f"{i},{random.choice('ABCDE')},{p:.2f}\n" for i, p in enumerate(prices)).encode()
    frame = encode_frame([Chunk(blake3_raw(body), len(body))], body)
    assert len(frame) < 0.97 * len(ZstdCompressor(level=3).compress(body))
    assert decode_frame(frame, "k")[1] == body


def test_a_compressed_frame_comes_back() -> None:
    """Text must be stored small and come back the same."""
    body = b"hello" * 10_000
    frame = encode_frame([Chunk(blake3_raw(body), len(body))], body)
    assert len(frame) < 1000
    header, decoded = decode_frame(frame, "k")
    assert decoded == body
    assert decode_header(frame[: header.body_offset], "k") == header


def _header(**changed: int) -> bytes:
    fields = {"version": 1, "codec": 0, "zero": 0, "count": 2, "body": 11, "stored": 11} | changed
    fixed = struct.pack("<4sBBHIII", b"STMF", *fields.values())
    table = fixed + pack_chunks([HELLO, WORLD])
    return table + blake3_raw(table)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"STMF",
        _header()[:-1],
        b"X" + _header()[1:] + b"helloworld!",
        _header(version=3) + b"helloworld!",
        _header(codec=2) + b"helloworld!",
        _header(zero=1) + b"helloworld!",
        _header(count=0) + b"helloworld!",
        _header(count=1 << 31) + b"helloworld!",
        _header(body=12) + b"helloworld!",
        _header(body=BODY_LIMIT_BYTES + 1) + b"helloworld!",
        _header() + b"helloworld",
        _header() + b"helloworld!!",
        _header(codec=1) + b"helloworld!",
        _header(stored=10) + b"helloworld!",
    ],
)
def test_a_frame_that_is_not_sound_is_refused(frame: bytes) -> None:
    """A crafted frame must not make the reader take gigabytes or wrong bytes."""
    with pytest.raises(IntegrityError) as caught:
        decode_frame(frame, "frames/ab/cd")
    assert caught.value.code == "frame-damaged"
    assert "frames/ab/cd" in caught.value.message


def test_a_compressed_body_larger_than_it_says_is_refused() -> None:
    """A zip bomb in the store must not fill the memory."""
    body = bytes(BODY_LIMIT_BYTES)
    sound = encode_frame([Chunk(blake3_raw(body), len(body))], body)
    header, _ = decode_frame(sound, "k")
    small = struct.pack("<4sBBHIII", b"STMF", 1, 1, 0, 1, 5, header.stored_bytes)
    small += pack_chunks([HELLO])
    with pytest.raises(IntegrityError):
        decode_frame(small + blake3_raw(small) + sound[header.body_offset :], "k")


def _resealed(old: bytes, new: bytes) -> bytes:
    body = encode_recipe(RECIPE)[:-32].replace(old, new, 1)
    return body + blake3_raw(body)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_recipe(RECIPE)[:-1],
        encode_recipe(RECIPE) + b"\0",
        _resealed(b"STMR", b"STMX"),
        _resealed(b"STMR\1", b"STMR\2"),
        _resealed(b"STMR\1\0", b"STMR\1\1"),
        _resealed(struct.pack("<Q", 5), struct.pack("<Q", 6)),
        _resealed(struct.pack("<I", 1) + HELLO.digest, struct.pack("<I", 2) + HELLO.digest),
        _resealed(HELLO.digest, WORLD.digest),
    ],
)
def test_a_recipe_that_is_not_sound_is_refused(data: bytes) -> None:
    """A wrong recipe would put a wrong file together from sound chunks."""
    with pytest.raises(IntegrityError) as caught:
        decode_recipe(data, RECIPE.digest)
    assert caught.value.code == "recipe-damaged"


def test_cutting_loses_nothing_and_is_local() -> None:
    """An insertion must not move every later cut."""
    data = bytes(range(256)) * 300 + b"tail"
    chunks = list(cut(io.BytesIO(data)))
    assert b"".join(piece.data for piece in chunks) == data
    assert all(blake3_raw(piece.data) == piece.digest for piece in chunks)
    assert list(cut(io.BytesIO(b""))) == []


def test_a_body_that_states_a_size_of_its_own_is_refused_before_it_is_unpacked() -> None:
    """Thirteen damaged bytes would take three gigabytes of memory."""
    stated = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 3 << 30) + b"\1\0\0"
    header = struct.pack("<4sBBHIII", b"STMF", 1, 1, 0, 1, 5, len(stated)) + pack_chunks([HELLO])
    with pytest.raises(IntegrityError, match="another size than its header"):
        decode_frame(header + blake3_raw(header) + stated, "frames/x")
