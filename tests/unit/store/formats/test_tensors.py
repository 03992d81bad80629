"""Tensor digests: one tensor is one tensor in every container."""

import io
import json
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from blake3 import blake3

from stemma.store.formats.tensors import TensorFact, read_tensor_digests

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def _npz(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _npy(array: npt.NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def test_equal_tensors_have_equal_digests_in_every_container(tmp_path: Path) -> None:
    """The same weights in another container would count as a change."""
    expected = TensorFact("float32", (2, 3), blake3(WEIGHT.tobytes()).hexdigest())
    as_safetensors = safetensors.numpy.save({"w": WEIGHT}, metadata={"a": "b"})
    (tmp_path / "w.safetensors").write_bytes(as_safetensors)
    assert read_tensor_digests(tmp_path / "w.safetensors") == {"w": expected}
    assert read_tensor_digests(as_safetensors) == {"w": expected}
    assert read_tensor_digests(_npz({"w": WEIGHT})) == {"w": expected}
    assert read_tensor_digests(_npy(WEIGHT)) == {"array": expected}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_byte_order_and_memory_order_do_not_matter(order: str, dtype: str) -> None:
    """A big-endian or Fortran-ordered copy holds the same values."""
    array = np.array(WEIGHT, dtype=dtype, order="F" if order == "F" else "C")
    assert read_tensor_digests(_npy(array)) == read_tensor_digests(_npy(WEIGHT))


@pytest.mark.parametrize(
    "array",
    [
        np.array(1.5),
        np.zeros((0, 3), dtype=np.int64),
        np.array(["a", "bc"]),
        np.array([True]),
        np.array([b"x"]),
    ],
    ids=["scalar", "empty", "text", "bool", "bytes"],
)
def test_plain_arrays_of_every_kind_are_read(array: npt.NDArray[np.generic]) -> None:
    """Label arrays are part of models too."""
    facts = read_tensor_digests(_npz({"a": array}))
    assert facts is not None
    assert facts["a"].shape == array.shape


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        {"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1 << 70], "data_offsets": [0, 4]}},
        {"a": 1},
        {"a": {"dtype": "F32"}},
    ],
)
def test_a_malformed_safetensors_header_gives_no_tensors(header: object) -> None:
    """A crafted header must not crash a capture or read outside the file."""
    text = json.dumps(header).encode()
    assert read_tensor_digests(len(text).to_bytes(8, "little") + text + bytes(4)) is None


def test_object_and_structured_arrays_give_no_tensors() -> None:
    """Reading an object array would mean unpickling it."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    assert read_tensor_digests(buffer.getvalue()) is None
    assert read_tensor_digests(_npy(np.zeros(2, dtype=[("a", "<i4")]))) is None


def test_a_zip_member_that_is_no_array_gives_no_tensors() -> None:
    """An archive that only looks like an npz is opaque."""
    buffer = io.BytesIO(_npz({"a": WEIGHT}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("readme.txt", "hello")
    assert read_tensor_digests(buffer.getvalue()) is None


def test_no_damaged_container_makes_it_raise() -> None:
    """A truncated or flipped file is opaque, never a crash."""
    generator = random.Random(7)
    for data in (safetensors.numpy.save({"w": WEIGHT}), _npz({"w": WEIGHT}), _npy(WEIGHT)):
        for cut in range(len(data)):
            read_tensor_digests(data[:cut])
        for position in range(len(data)):
            flipped = bytearray(data)
            flipped[position] ^= 1 << generator.randrange(8)
            read_tensor_digests(bytes(flipped))
