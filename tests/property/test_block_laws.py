"""Laws of tensor blocks: any bytes come back, by any method, and any payload is survived."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.domain.errors import IntegrityError, InvalidInputError
from stemma.store.codecs.base import EncodedBlock, Method, Parent
from stemma.store.codecs.blocks import decode_block, encode_as, encode_block

WIDTHS = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "complex64": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex128": 8,
    "of another library": 1,
}
CASTS = {
    "float32": ["bfloat16", "float16"],
    "bfloat16": ["float32"],
    "float16": ["float32"],
}
DTYPES = st.sampled_from(sorted(WIDTHS))
SPECIAL = [0, 1, 0x7F, 0x80, 0x7C00, 0xFC01, 0x7F80, 0xFFC1, 0x8000]


def words(seed: int, count: int, width: int, kind: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Return words of a kind that codecs meet: noise, weights, few values, constants."""
    generator = np.random.default_rng(seed)
    whole = f"<u{width}"
    if kind == "noise":
        return np.frombuffer(generator.bytes(count * width), dtype=whole)
    if kind == "special":
        top = np.array(SPECIAL, dtype="<u8") << np.uint64(8 * max(width - 2, 0))
        return generator.choice(top, count).astype(whole)
    if kind == "steps":
        return np.cumsum(generator.integers(0, 4, count)).astype(whole)
    floats = {1: "<f2", 2: "<f2", 4: "<f4", 8: "<f8"}[width]
    values = (generator.standard_normal(count) * 0.02).astype(floats)
    return values.view(f"<u{values.itemsize}").astype(whole)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, str, list[Parent]]:
    dtype = draw(DTYPES)
    count = draw(st.integers(0, 900))
    kinds = st.sampled_from(["noise", "special", "steps", "weights"])
    block = words(draw(st.integers(0, 99)), count, WIDTHS[dtype], draw(kinds))
    parents = [
        Parent(
            data=words(draw(st.integers(0, 99)), count, WIDTHS[dtype], draw(kinds)).tobytes(),
            dtype=dtype,
        )
    ]
    near = block + words(draw(st.integers(0, 99)), count, WIDTHS[dtype], "steps") % 5
    parents.append(Parent(data=near.astype(block.dtype).tobytes(), dtype=dtype))
    for other in CASTS.get(dtype, []):
        parent = words(draw(st.integers(0, 99)), count, WIDTHS[other], draw(kinds))
        parents.append(Parent(data=parent.tobytes(), dtype=other))
    return block.tobytes(), dtype, parents


def size_or_damage(encoded: EncodedBlock, dtype: str, size_bytes: int, parent: Parent) -> int | str:
    try:
        return len(decode_block(encoded, dtype, size_bytes, parent))
    except IntegrityError as error:
        return error.code


@pytest.mark.slow
@given(blocks())
@settings(max_examples=150, deadline=None)
def test_any_block_comes_back_by_the_method_chosen(case: tuple[bytes, str, list[Parent]]) -> None:
    """A file with such a tensor could not be delivered, or would grow."""
    block, dtype, parents = case
    encoded, used = encode_block(block, dtype, parents)
    parent = parents[used] if used >= 0 else None
    assert decode_block(encoded, dtype, len(block), parent) == block
    assert len(encoded.payload) <= len(block)
    assert (used >= 0) == (encoded.method >= Method.SUBTRACT)


@pytest.mark.slow
@given(blocks(), st.sampled_from(sorted(Method)))
@settings(max_examples=300, deadline=None)
def test_any_block_comes_back_by_every_method_that_can_hold_it(
    case: tuple[bytes, str, list[Parent]], method: Method
) -> None:
    """The choice, not the codec, would keep blocks right."""
    block, dtype, parents = case
    for parent in parents:
        try:
            encoded = encode_as(method, block, dtype, parent)
        except InvalidInputError:
            continue
        if block:
            assert decode_block(encoded, dtype, len(block), parent) == block
        assert len(encoded.payload) <= len(block) + 64


@pytest.mark.slow
@given(blocks(), st.sampled_from(sorted(Method)), st.data())
@settings(max_examples=300, deadline=None)
def test_any_damage_ends_in_an_error_or_a_block_of_the_right_size(
    case: tuple[bytes, str, list[Parent]], method: Method, data: st.DataObject
) -> None:
    """A damaged store would end the program instead of being reported."""
    block, dtype, parents = case
    parent = data.draw(st.sampled_from(parents))
    try:
        payload = bytearray(encode_as(method, block, dtype, parent).payload)
    except InvalidInputError:
        payload = bytearray(data.draw(st.binary(max_size=60)))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(payload)))
        payload[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    encoded = EncodedBlock(method=method, payload=bytes(payload))
    assert size_or_damage(encoded, dtype, len(block), parent) in {len(block), "block-damaged"}
