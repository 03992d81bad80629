"""Every tensor of a file is found and comes out as the library that wrote it would give it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file
from typing_extensions import override

from stemma.store.formats.locate import locate_tensors, read_array

RNG = np.random.default_rng(3)
ARRAYS: dict[str, Any] = {
    "big": RNG.normal(size=(40, 60)).astype(np.float32),
    "small": np.arange(3, dtype=np.int64),
    "scalar": np.array(2.5, np.float64),
    "empty": np.zeros((0, 4), np.float16),
    "flags": np.array([[True, False], [False, True]]),
}


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        places = locate_tensors(stream, path.stat().st_size, name=path.name)
        return {name: read_array(stream, place) for name, place in places.items()}


def _same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array)
        assert found[name].flags.writeable


def _gguf(path: Path, arrays: dict[str, Any]) -> None:
    head, data = bytearray(), bytearray()
    for name, array in arrays.items():
        head += len(name).to_bytes(8, "little") + name.encode()
        head += array.ndim.to_bytes(4, "little")
        for size in array.shape[::-1]:
            head += size.to_bytes(8, "little")
        head += (0).to_bytes(4, "little") + len(data).to_bytes(8, "little")
        data += array.tobytes() + bytes(-array.nbytes % 32)
    start = b"GGUF" + (3).to_bytes(4, "little") + len(arrays).to_bytes(8, "little") + bytes(8)
    start += bytes(head)
    path.write_bytes(start + bytes(-len(start) % 32) + bytes(data))


def _onnx(path: Path, arrays: dict[str, Any]) -> None:
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph([], "g", [], [], initializer=weights)
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())


WRITERS: dict[str, Callable[[Path, dict[str, Any]], object]] = {
    "safetensors": lambda path, arrays: save_file(arrays, path),
    "npz": lambda path, arrays: np.savez(path, **arrays),
    "packed.npz": lambda path, arrays: np.savez_compressed(path, **arrays),
    "pt": lambda path, arrays: torch.save(
        {name: torch.from_numpy(array) for name, array in arrays.items()}, path
    ),
    "onnx": _onnx,
    "gguf": _gguf,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_tensor_comes_out_as_it_went_in(tmp_path: Path, kind: str) -> None:
    """A user would get other numbers than the library that wrote the file gives."""
    arrays = dict(ARRAYS)
    if kind == "gguf":  # it knows neither booleans nor tensors without elements
        arrays = {"big": ARRAYS["big"], "row": ARRAYS["big"][0]}
    path = tmp_path / f"model.{kind}"
    WRITERS[kind](path, arrays)
    _same(_read(path), arrays)


def test_views_of_torch_are_what_torch_loads(tmp_path: Path) -> None:
    """Tied and transposed weights would come out as the storage lies in the file."""
    base = torch.arange(24.0).reshape(4, 6)
    state = {"all": base, "turned": base.T, "row": base[2], "column": base[1:, 3]}
    nested = {"model": state, "step": 7, "weight": torch.nn.Parameter(base[:2])}
    torch.save(nested, tmp_path / "state.pt")
    found = _read(tmp_path / "state.pt")
    _same(
        found,
        {f"model.{name}": tensor.numpy() for name, tensor in state.items()}
        | {"weight": base[:2].numpy()},
    )


def test_a_tensor_that_repeats_its_numbers_is_left_out(tmp_path: Path) -> None:
    """A small file could ask for any amount of memory."""
    torch.save({"x": torch.ones(1).expand(1 << 40), "y": torch.ones(2)}, tmp_path / "x.pt")
    assert list(_read(tmp_path / "x.pt")) == ["y"]


def test_orders_and_types_of_numpy_are_kept(tmp_path: Path) -> None:
    """Arrays of Fortran programs and texts would come out turned or not at all."""
    arrays: dict[str, Any] = {
        "fortran": np.asfortranarray(ARRAYS["big"]),
        "big-endian": np.arange(5, dtype=">f8"),
        "texts": np.array(["a", "bcd"]),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    _same(_read(tmp_path / "a.npz"), arrays)
    np.save(tmp_path / "a.npy", arrays["fortran"])
    _same(_read(tmp_path / "a.npy"), {"array": arrays["fortran"]})


def test_objects_are_left_out_and_never_loaded(tmp_path: Path) -> None:
    """Reading a tensor would run somebody's pickle."""
    np.savez(tmp_path / "a.npz", objects=np.array([{}], dtype=object), plain=np.ones(3))
    assert list(_read(tmp_path / "a.npz")) == ["plain"]


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e5m2", "float8_e4m3fn"])
def test_types_that_numpy_lacks_come_as_the_same_numbers(tmp_path: Path, kind: str) -> None:
    """Every number would be off, or an infinity lost."""
    bits = torch.arange(256, dtype=torch.uint8)
    if kind == "bfloat16":
        bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16)
    tensor = bits.view(getattr(torch, kind))
    save_torch_file({"x": tensor}, tmp_path / "m.safetensors")
    with (tmp_path / "m.safetensors").open("rb") as stream:
        size_bytes = (tmp_path / "m.safetensors").stat().st_size
        place = locate_tensors(stream, size_bytes, name="m.safetensors")["x"]
        found = read_array(stream, place)
    assert place.dtype == kind
    assert found.dtype == np.float32
    assert np.array_equal(found, tensor.to(torch.float32).numpy(), equal_nan=True)


def test_what_is_malformed_has_no_tensors(tmp_path: Path) -> None:
    """A lying header would be taken at its word."""
    save_file(ARRAYS, tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes()
    assert locate_tensors(io.BytesIO(data[:-1]), len(data) - 1, name="m.safetensors") == {}
    assert locate_tensors(io.BytesIO(b"text"), 4, name="notes.txt") == {}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
    assert _read(tmp_path / "a.npz") == {}


def test_listing_reads_headers_only(tmp_path: Path) -> None:
    """Naming the tensors of a large file would read all of it."""
    arrays: dict[str, Any] = {f"t{number}": np.ones((300, 300)) for number in range(20)}
    np.savez(tmp_path / "a.npz", **arrays)
    stream = _Counting((tmp_path / "a.npz").read_bytes())
    assert len(locate_tensors(stream, len(stream.getvalue()), name="a.npz")) == 20
    assert stream.count_bytes < 80_000


class _Counting(io.BytesIO):
    """Counts what is read."""

    count_bytes = 0

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count_bytes += len(data)
        return data
