"""Codecs of tensor blocks: stored vectors, every method and type, and what is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from stemma.domain.errors import IntegrityError, InvalidInputError
from stemma.store.codecs.base import BLOCK_BYTES, EncodedBlock, Method, Parent
from stemma.store.codecs.blocks import decode_block, encode_as, encode_block

VECTORS = sorted((Path(__file__).parents[3] / "vectors" / "blocks").glob("*.json"))
WORDS = 70_001
"""More than one tile, and not a multiple of anything."""


def weights(seed: int, count: int = WORDS) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (np.random.default_rng(seed).standard_normal(count) * 0.02).astype("<f4")


def bfloat16(values: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    bits = values.view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def load(path: Path) -> tuple[EncodedBlock, str, bytes, Parent | None]:
    vector = json.loads(path.read_text())
    encoded = EncodedBlock(
        method=Method(vector["method"]), payload=bytes.fromhex(vector["payload"])
    )
    parent = None
    if "parent" in vector:
        parent = Parent(data=bytes.fromhex(vector["parent"]), dtype=vector["parent_dtype"])
    return encoded, vector["dtype"], bytes.fromhex(vector["block"]), parent


def size_or_damage(
    encoded: EncodedBlock, dtype: str, size_bytes: int, parent: Parent | None
) -> int | str:
    try:
        return len(decode_block(encoded, dtype, size_bytes, parent))
    except IntegrityError as error:
        return error.code


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_a_stored_block_reads_as_it_always_did(path: Path) -> None:
    """Every store written before would give other bytes, or none."""
    encoded, dtype, block, parent = load(path)
    assert decode_block(encoded, dtype, len(block), parent) == block


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_a_block_written_now_reads_back(path: Path) -> None:
    """What is written today could not be read tomorrow."""
    stored, dtype, block, parent = load(path)
    encoded = encode_as(stored.method, block, dtype, parent)
    assert decode_block(encoded, dtype, len(block), parent) == block


def test_every_method_has_vectors() -> None:
    """A format would be free to drift."""
    assert {load(path)[0].method for path in VECTORS} == set(Method)


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_a_payload_cut_short_or_lengthened_is_refused(path: Path) -> None:
    """A damaged block would be delivered, or crash the reader."""
    encoded, dtype, block, parent = load(path)
    payload = encoded.payload
    cuts = [payload[:end] for end in range(0, len(payload), max(1, len(payload) // 40))]
    for bad in [*cuts, payload + b"\0", payload + payload]:
        with pytest.raises(IntegrityError) as caught:
            decode_block(
                EncodedBlock(method=encoded.method, payload=bad), dtype, len(block), parent
            )
        assert caught.value.code == "block-damaged"


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_a_flipped_bit_ends_in_an_error_or_a_block_of_the_right_size(path: Path) -> None:
    """A reader would crash with an error nobody expects; the digest finds the rest."""
    encoded, dtype, block, parent = load(path)
    generator = np.random.default_rng(5)
    for place in generator.integers(0, 8 * len(encoded.payload), 60):
        bad = bytearray(encoded.payload)
        bad[place >> 3] ^= 1 << (place & 7)
        damaged = EncodedBlock(method=encoded.method, payload=bytes(bad))
        assert size_or_damage(damaged, dtype, len(block), parent) in {len(block), "block-damaged"}


@pytest.mark.parametrize(
    ("dtype", "parent_dtype", "method"),
    [
        ("float32", "float32", Method.SUBTRACT_GROUPED),
        ("int32", "int32", Method.SUBTRACT),
        ("bfloat16", "bfloat16", Method.SUBTRACT_GROUPED),
        ("bfloat16", "float32", Method.CAST),
        ("float32", "bfloat16", Method.CAST),
    ],
)
def test_a_fine_tune_is_stored_against_its_parent(
    dtype: str, parent_dtype: str, method: Method
) -> None:
    """Every fine-tune would cost as much as its base."""
    base = weights(1)
    tuned = (base + weights(2) * np.float32(1e-3)).astype("<f4")
    forms = {"float32": np.ndarray.tobytes, "int32": np.ndarray.tobytes, "bfloat16": bfloat16}
    stranger = Parent(data=forms[parent_dtype](weights(3)), dtype=parent_dtype)
    parent = Parent(data=forms[parent_dtype](base), dtype=parent_dtype)
    block = forms[dtype](tuned)
    encoded, used = encode_block(block, dtype, [stranger, parent])
    assert (encoded.method, used) == (method, 1)
    assert decode_block(encoded, dtype, len(block), parent) == block
    assert len(encoded.payload) < 0.62 * len(block)


def test_a_copy_in_half_the_precision_costs_nearly_nothing() -> None:
    """Keeping a model in two precisions would cost one and a half models."""
    base = weights(1)
    parent = Parent(data=base.tobytes(), dtype="float32")
    for dtype, copy in (("bfloat16", bfloat16(base)), ("float16", base.astype("<f2").tobytes())):
        encoded, used = encode_block(copy, dtype, [parent])
        assert (encoded.method, used, len(encoded.payload)) == (Method.CAST, 0, 8)
        assert decode_block(encoded, dtype, len(copy), parent) == copy


@pytest.mark.parametrize(
    ("block", "dtype", "method"),
    [
        (b"", "float32", Method.RAW),
        (b"\x01" * 63, "float32", Method.RAW),
        (np.random.default_rng(1).bytes(100_000), "int8", Method.RAW),
        (np.random.default_rng(1).bytes(100_001), "float32", Method.RAW),
        (b"text " * 20_001, "float32", Method.ZSTD),
        (b"a phrase that comes back " * 4_000, "uint8", Method.ZSTD),
        (bytes(100_000), "float32", Method.PLANES),
        (weights(1).tobytes(), "float32", Method.PLANES),
    ],
    ids=[
        "empty",
        "tiny",
        "noise",
        "odd",
        "odd-text",
        "phrases",
        "zeros",
        "weights",
    ],
)
def test_a_block_without_parent_takes_the_method_that_suits_it(
    block: bytes, dtype: str, method: Method
) -> None:
    """Blocks would be larger than they need, or than they were."""
    encoded, used = encode_block(block, dtype)
    assert used == -1
    assert encoded.method is method
    assert len(encoded.payload) <= len(block)
    assert decode_block(encoded, dtype, len(block), None) == block


def test_a_parent_of_another_size_or_type_is_passed_over() -> None:
    """A tensor that changed its shape could not be stored at all."""
    block = weights(1).tobytes()
    parents = [
        Parent(data=block[:-4], dtype="float32"),
        Parent(data=block, dtype="int32"),
        Parent(data=block + block, dtype="float64"),
        Parent(data=b"", dtype="float32"),
    ]
    encoded, used = encode_block(block, "float32", parents)
    assert (encoded.method, used) == (Method.PLANES, -1)


def test_a_block_that_is_too_large_is_refused_by_writer_and_reader() -> None:
    """Memory would not be bounded."""
    with pytest.raises(InvalidInputError, match="larger than"):
        encode_block(bytes(BLOCK_BYTES + 4), "float32")
    for size_bytes in (BLOCK_BYTES + 4, -4):
        with pytest.raises(IntegrityError):
            decode_block(EncodedBlock(method=Method.RAW, payload=b""), "int8", size_bytes, None)


def skippable() -> bytes:
    return struct.pack("<II", 0x184D2A50, 4) + b"skip"


def without_stated_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


@pytest.mark.parametrize(
    ("method", "dtype", "payload", "parent"),
    [
        (Method.RAW, "int8", bytes(99), None),
        (Method.ZSTD, "int8", b"", None),
        (Method.ZSTD, "int8", skippable(), None),
        (Method.ZSTD, "int8", without_stated_size(bytes(100)), None),
        (Method.ZSTD, "int8", zstandard.compress(bytes(1 << 20)), None),
        (Method.ZSTD, "int8", zstandard.compress(bytes(100)) + skippable(), None),
        (Method.ZSTD, "int8", zstandard.compress(bytes(50)) * 2, None),
        (Method.PLANES, "int16", b"", None),
        (Method.PLANES, "int16", struct.pack("<I", 0), None),
        (Method.PLANES, "int16", struct.pack("<II", 51, 0) + bytes(51), None),
        (Method.PLANES, "int16", struct.pack("<II", 0xFFFFFFFF, 1), None),
        (Method.PLANES, "int16", struct.pack("<II", 0, 0) + b"\0", None),
        (Method.PLANES, "int16", struct.pack("<II", 0, 49) + bytes(49), None),
        (Method.PLANES, "int64", bytes(32), None),
        (Method.SUBTRACT, "int16", bytes(8), None),
        (Method.SUBTRACT, "int16", bytes(8), Parent(data=bytes(100), dtype="float16")),
        (Method.SUBTRACT, "int16", bytes(8), Parent(data=bytes(98), dtype="int16")),
        (Method.SUBTRACT_GROUPED, "int16", bytes(8), Parent(data=bytes(100), dtype="int16")),
        (Method.CAST, "float16", bytes(8), Parent(data=bytes(100), dtype="bfloat16")),
        (Method.CAST, "float16", bytes(8), Parent(data=bytes(100), dtype="float32")),
        (Method.CAST, "float32", bytes(16), Parent(data=bytes(100), dtype="float32")),
    ],
    ids=[
        "raw-short",
        "zstd-empty",
        "zstd-skippable",
        "zstd-no-size",
        "zstd-too-large",
        "zstd-trailing",
        "zstd-two-frames",
        "planes-empty",
        "planes-half-a-table",
        "plane-too-large",
        "plane-absurd",
        "planes-trailing",
        "plane-no-zstd",
        "words-not-whole",
        "no-parent",
        "subtract-other-type",
        "subtract-other-size",
        "group-integers",
        "cast-16-to-16",
        "cast-other-size",
        "cast-same",
    ],
)
def test_what_no_writer_makes_is_refused(
    method: Method, dtype: str, payload: bytes, parent: Parent | None
) -> None:
    """A crafted store could fill the memory, or pass for another block."""
    with pytest.raises(IntegrityError) as caught:
        decode_block(EncodedBlock(method=method, payload=payload), dtype, 100, parent)
    assert caught.value.code == "block-damaged"


@pytest.mark.parametrize("method", [method for method in Method if method is not Method.RAW])
def test_an_empty_block_must_be_raw(method: Method) -> None:
    """Nothing could be told from something."""
    with pytest.raises(IntegrityError):
        decode_block(EncodedBlock(method=method, payload=bytes(8)), "int16", 0, None)


def test_a_plane_of_zeros_takes_no_room_and_reads_back() -> None:
    """The high bytes of small integers would be stored for nothing."""
    block = np.arange(200, dtype="<u8").tobytes()
    payload = encode_as(Method.PLANES, block, "uint64", None).payload
    assert struct.unpack_from("<8I", payload)[1:] == (0,) * 7
    assert (
        decode_block(EncodedBlock(method=Method.PLANES, payload=payload), "uint64", 1600, None)
        == block
    )


def test_a_plane_of_noise_is_stored_as_it_is_and_one_that_only_looks_so_is_not() -> None:
    """Numbers that rise slowly would take their full size, since all bytes occur as often."""
    noise = np.random.default_rng(1).bytes(200_000)
    rising = (np.arange(200_000) * 256 // 200_000).astype(np.uint8).tobytes()
    words = (
        np.frombuffer(noise, np.uint8).astype("<u2")
        | np.frombuffer(rising, np.uint8).astype("<u2") << 8
    )
    payload = encode_as(Method.PLANES, words.astype("<u2").tobytes(), "uint16", None).payload
    low, high = struct.unpack_from("<2I", payload)
    assert low == len(noise)
    assert high < 0.01 * len(rising)
