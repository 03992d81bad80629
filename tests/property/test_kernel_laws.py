"""The loops in C do what those in numpy do, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.store.codecs.base import Method
from stemma.store.codecs.delta import is_groupable
from stemma.store.codecs.kernels.base import Kernels
from stemma.store.codecs.kernels.native import agree, load
from stemma.store.codecs.kernels.portable import PortableKernels
from stemma.store.codecs.kernels.selection import SWITCH, selected
from stemma.store.codecs.planes import unpack
from stemma.store.codecs.words import as_words, word_bytes

Words = np.ndarray[Any, np.dtype[Any]]

VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "blocks").glob("*.json"))
PLANAR = {Method.PLANES, Method.SUBTRACT, Method.SUBTRACT_GROUPED, Method.CAST}
CASTS = {
    "float32": ["bfloat16", "float16"],
    "bfloat16": ["float32"],
    "float16": ["float32"],
}
DTYPES = ["uint8", "int16", "bfloat16", "float16", "int32", "float32", "int64", "complex128"]
COUNTS = st.one_of(st.integers(0, 70), st.integers(1_000, 1_100), st.integers(2_040, 5_000))
"""Around the tiles of the C code, and around what a vector register holds."""

SPECIAL = [0, 1, 0x7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0xFFFFFFFF, 0x80000000, 0x38800000]
SPECIAL += [0x387FFFFF, 0x33000000, 0x33000001, 0x477FF000, 0x477FEFFF, 0x7C00, 0x7C01, 0xFC01]


@pytest.fixture(scope="module")
def native() -> Kernels:
    loaded = load()
    if loaded.kernels is None:
        if shutil.which("cc"):
            pytest.fail(f"there is a C compiler, and yet: {loaded.obstacle}; pip install -e .")
        pytest.skip(f"no C accelerator: {loaded.obstacle}")
    return loaded.kernels


@st.composite
def word_arrays(draw: st.DrawFn, dtype: str, count: int) -> Words:
    """Return noise, weights, or patterns where conversions turn: infinities, NaNs, subnormals."""
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    whole = f"<u{word_bytes(dtype)}"
    kind = draw(st.sampled_from(["noise", "special", "weights", "few"]))
    if kind == "noise":
        return np.frombuffer(generator.bytes(count * word_bytes(dtype)), dtype=whole)
    if kind == "special":
        near = generator.choice(np.array(SPECIAL, dtype="<u4"), count)
        near += generator.integers(0, 3, count, dtype="<u4")
        return (near >> (16 if draw(st.booleans()) and whole == "<u2" else 0)).astype(whole)
    if kind == "weights":
        weights = (generator.standard_normal(count) * 10.0 ** draw(st.integers(-9, 6))).astype(
            "<f4"
        )
        if dtype == "float16":
            with np.errstate(over="ignore"):
                return weights.astype("<f2").view(whole)
        return (weights.view("<u4") >> (16 if dtype == "bfloat16" else 0)).astype(whole)
    return generator.integers(0, 3, count).astype(whole)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Words, str, Words, str]:
    dtype = draw(st.sampled_from(DTYPES))
    parent_dtype = draw(st.sampled_from([dtype, *CASTS.get(dtype, [])]))
    count = draw(COUNTS)
    words = draw(word_arrays(dtype, count))
    return words, dtype, draw(word_arrays(parent_dtype, count)), parent_dtype


def methods_of(dtype: str, parent_dtype: str) -> list[Method]:
    if dtype != parent_dtype:
        return [Method.CAST]
    grouped = [Method.SUBTRACT_GROUPED] if is_groupable(dtype) else []
    return [Method.PLANES, Method.SUBTRACT, *grouped]


def split(
    kernels: Kernels, method: Method, words: Words, dtype: str, parent: Words, parent_dtype: str
) -> Words:
    planes = np.empty((words.itemsize, len(words)), dtype=np.uint8)
    if method is Method.PLANES:
        kernels.split(words, dtype, planes)
    elif method is Method.SUBTRACT_GROUPED:
        kernels.split_grouped(words, dtype, parent, planes)
    else:
        kernels.split_residuals(words, dtype, parent, parent_dtype, planes)
    return planes


def merge(
    kernels: Kernels, method: Method, planes: Any, dtype: str, parent: Words, parent_dtype: str
) -> bytes:
    out = np.empty(len(planes[0]), dtype=f"<u{word_bytes(dtype)}")
    if method is Method.PLANES:
        kernels.merge(list(planes), dtype, out)
    elif method is Method.SUBTRACT_GROUPED:
        kernels.merge_grouped(list(planes), dtype, parent, out)
    else:
        kernels.merge_residuals(list(planes), dtype, parent, parent_dtype, out)
    return out.tobytes()


@pytest.mark.slow
@given(case=cases())
@settings(max_examples=400, deadline=None)
def test_a_block_is_encoded_and_decoded_alike_with_and_without_the_accelerator(
    native: Kernels, case: tuple[Words, str, Words, str]
) -> None:
    """A store written on one machine could not be read on another."""
    words, dtype, parent, parent_dtype = case
    for method in methods_of(dtype, parent_dtype):
        expected = split(PortableKernels(), method, words, dtype, parent, parent_dtype)
        found = split(native, method, words, dtype, parent, parent_dtype)
        assert found.tobytes() == expected.tobytes()
        back = merge(native, method, expected, dtype, parent, parent_dtype)
        assert back == words.tobytes()
        assert merge(PortableKernels(), method, found, dtype, parent, parent_dtype) == back


@given(st.integers(0, 5_000), st.integers(0, 99), st.sampled_from([2, 256]))
@settings(max_examples=50, deadline=None)
def test_bytes_are_counted_alike(native: Kernels, count: int, seed: int, kinds: int) -> None:
    """The same file would be stored in two ways, and pushes would not share it."""
    symbols, groups = np.random.default_rng(seed).integers(0, kinds, (2, count), dtype=np.uint8)
    for labels in (None, groups):
        counts = PortableKernels().count(symbols, labels)
        assert np.array_equal(native.count(symbols, labels), counts)
        assert counts.sum() == count


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_pattern_of_a_half_precision_number_is_cast_alike(
    native: Kernels, dtype: str
) -> None:
    """One NaN or subnormal in a billion would make a model unreadable elsewhere."""
    halves = np.arange(1 << 16, dtype="<u2")
    zeros = np.zeros(1 << 16, dtype="<u4")
    with np.errstate(all="ignore"):
        wide = (halves.astype("<u4") << 16).repeat(8)
    generator = np.random.default_rng(7)
    wide |= generator.integers(0, 1 << 16, len(wide), dtype="<u4")
    wide[::8] = (wide[::8] & np.uint32(0xFFFFF000)) | np.uint32(0x1000)  # ties
    for words, block_type, parent, parent_dtype in (
        (zeros, "float32", halves, dtype),
        (np.zeros(len(wide), dtype="<u2"), dtype, wide, "float32"),
    ):
        found = split(native, Method.CAST, words, block_type, parent, parent_dtype)
        known = split(PortableKernels(), Method.CAST, words, block_type, parent, parent_dtype)
        assert np.array_equal(found, known)


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
@pytest.mark.parametrize("is_native", [True, False], ids=["c", "numpy"])
def test_a_stored_block_reads_as_it_always_did_by_either_loops(
    native: Kernels, path: Path, *, is_native: bool
) -> None:
    """An accelerator would make old stores unreadable, or its absence new ones."""
    kernels = native if is_native else PortableKernels()
    vector = json.loads(path.read_text())
    method, dtype = Method(vector["method"]), vector["dtype"]
    if method not in PLANAR:
        return
    block = bytes.fromhex(vector["block"])
    parent_dtype = vector.get("parent_dtype", dtype)
    parent = as_words(bytes.fromhex(vector.get("parent", "")), parent_dtype)
    planes = unpack(
        bytes.fromhex(vector["payload"]), word_bytes(dtype), len(block) // word_bytes(dtype)
    )
    assert merge(kernels, method, planes, dtype, parent, parent_dtype) == block


def test_words_and_planes_may_lie_anywhere(native: Kernels) -> None:
    """A block read from the middle of a file would crash a processor that minds alignment."""
    memory = np.random.default_rng(3).bytes(8 * 1_500 + 1)
    words = np.frombuffer(memory, dtype="<u8", offset=1)
    planes = split(native, Method.PLANES, words, "float64", words, "float64")
    scattered = [np.frombuffer(b"\0" + plane.tobytes(), np.uint8, offset=1) for plane in planes]
    out = np.frombuffer(bytearray(8 * 1_500 + 1), dtype="<u8", offset=1)
    native.merge(scattered, "float64", out)
    assert out.tobytes() == words.tobytes()


def test_sizes_that_do_not_fit_are_refused_before_the_call(native: Kernels) -> None:
    """A wrong call would write over memory instead of ending in an error."""
    words, short = np.zeros(100, dtype="<u2"), np.zeros(99, dtype="<u2")
    planes = np.zeros((2, 100), dtype=np.uint8)
    with pytest.raises(ValueError, match="shape"):
        native.split(words, "int16", planes[:1])
    with pytest.raises(ValueError, match="shape"):
        native.split(words, "int16", np.zeros((2, 99), dtype=np.uint8))
    with pytest.raises(ValueError, match="others"):
        native.split_residuals(words, "int16", short, "int16", planes)
    with pytest.raises(ValueError, match="others"):
        native.merge_grouped(list(planes), "float16", short, words)
    with pytest.raises(ValueError, match="planes of"):
        native.merge(list(planes), "int16", short)
    with pytest.raises(ValueError, match="words of"):
        native.merge(list(planes), "int16", np.zeros(100, dtype="<u4"))
    with pytest.raises(ValueError, match="in a row"):
        native.merge(list(planes), "int16", np.zeros(200, dtype="<u2")[::2])
    with pytest.raises(ValueError, match="writable"):
        native.merge(list(planes), "int16", np.frombuffer(bytes(200), dtype="<u2"))


@pytest.mark.slow
def test_threads_do_not_disturb_each_other(native: Kernels) -> None:
    """Storing a large model would now and then damage it."""
    blocks = [np.frombuffer(np.random.default_rng(i).bytes(400_000), "<u2") for i in range(8)]
    parent = blocks[-1]

    def round_trip(words: Words) -> bool:
        planes = split(native, Method.SUBTRACT_GROUPED, words, "bfloat16", parent, "bfloat16")
        back = merge(native, Method.SUBTRACT_GROUPED, planes, "bfloat16", parent, "bfloat16")
        return back == words.tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(round_trip, blocks * 5))


def test_a_library_that_is_missing_or_no_library_is_not_used(tmp_path: Path) -> None:
    """Stemma would not start where no compiler was, or after a damaged installation."""
    assert load(tmp_path / "none.so").kernels is None
    (tmp_path / "text.so").write_text("not a library")
    assert "cannot be loaded" in load(tmp_path / "text.so").obstacle


def test_a_library_of_another_source_is_not_used(native: Kernels, tmp_path: Path) -> None:
    """An installation that was updated by half would call functions that have changed."""
    other = tmp_path / "accelerator.c"
    other.write_text("/* another */")
    assert "another source" in load(source=other).obstacle


def test_the_self_check_finds_loops_that_answer_wrongly() -> None:
    """A miscompiled library would be trusted with every model."""

    class Wrong(PortableKernels):  # type: ignore[misc]
        def merge_grouped(self, planes: Any, dtype: str, parent: Any, out: Any) -> None:
            super().merge_grouped(planes, dtype, parent, out)
            out[len(out) // 2] += 1

    assert agree(PortableKernels(), PortableKernels())
    assert not agree(Wrong(), PortableKernels())


def test_what_is_selected_says_why() -> None:
    """Nobody could tell why a machine is slow."""
    kernels, obstacle = selected()
    assert isinstance(kernels, PortableKernels) == bool(obstacle)


@pytest.mark.slow
def test_the_accelerator_can_be_ruled_out() -> None:
    """Who suspects the C code could not do without it."""
    code = "from stemma.store.codecs.kernels.selection import selected; print(selected().obstacle)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, SWITCH: "off"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{SWITCH} is off\n"
