"""Ranges of real files: every container says where its tensors lie."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from stemma.store.formats.partition import Partition, partition, tensor_ranges
from stemma.store.formats.ranges import FileRange

WEIGHT = np.arange(6000, dtype=np.float32).reshape(60, 100)
HALF = np.arange(4000, dtype=np.float16)
SMALL = np.arange(5, dtype=np.int64)


def _ranges(data: bytes, name: str = "") -> Partition:
    """Return the partition, having checked that it covers the file."""
    found = partition(io.BytesIO(data), len(data), name=name)
    position = 0
    for item in found.ranges:
        assert item.offset == position
        assert item.size_bytes > 0
        position = item.end
    assert position == len(data)
    return found


def _tensors(data: bytes, name: str = "") -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    found = _ranges(data, name)
    assert found.warning == ""
    return {
        item.name: (item.dtype, item.shape, data[item.offset : item.end])
        for item in found.ranges
        if item.is_tensor
    }


def _as(array: npt.NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.name, array.shape, array.tobytes()


def _npy(array: npt.NDArray[Any], *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def _zip(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _gguf() -> bytes:
    """Return a file with metadata of every kind, two plain tensors and a quantised one."""
    pairs = [
        _gguf_text("general.name") + struct.pack("<I", 8) + _gguf_text("test"),
        _gguf_text("general.alignment") + struct.pack("<II", 4, 64),
        _gguf_text("layers") + struct.pack("<II", 4, 2),
        _gguf_text("tokens")
        + struct.pack("<IIQ", 9, 8, 2)
        + _gguf_text("first")
        + _gguf_text("second"),
        _gguf_text("scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12),
    ]
    infos = [
        _gguf_text("weight") + struct.pack("<IQQIQ", 2, 100, 60, 0, 0),
        _gguf_text("half") + struct.pack("<IQIQ", 1, 4000, 1, 24_000),
        _gguf_text("quantised") + struct.pack("<IQIQ", 1, 4096, 2, 32_000),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs + infos)
    data = WEIGHT.tobytes() + HALF.tobytes() + bytes(4096 // 32 * 18)
    return head + bytes(-len(head) % 64) + data


def test_safetensors_are_cut_at_their_tensors() -> None:
    """A fine-tune would share nothing with its base."""
    data = safetensors.numpy.save(
        {"weight": WEIGHT, 'q"{é': HALF, "small": SMALL, "empty": np.zeros((0, 3), np.float32)},
        metadata={"format": 'a "quoted" } brace'},
    )
    assert _tensors(data) == {"weight": _as(WEIGHT), 'q"{é': _as(HALF)}


def test_bfloat16_and_float8_are_known_by_name() -> None:
    """The types that models are made of would be opaque."""
    for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        array = np.ones((100, 50), kind)
        data = safetensors.numpy.save({"w": array})
        assert _tensors(data) == {"w": _as(array)}


def test_an_array_is_one_range_after_its_header() -> None:
    """A changed array would be stored whole again."""
    assert _tensors(_npy(WEIGHT)) == {"array": _as(WEIGHT)}
    assert _tensors(_npy(np.asfortranarray(WEIGHT))) == {"array": _as(WEIGHT.T.copy())}


@pytest.mark.parametrize(
    "array",
    [
        np.array(["text"] * 3000),
        np.zeros(3000, dtype=">f4"),
        np.zeros(3000, dtype=[("left", "<i8"), ("right", "<i8")]),
        np.array([{"a": 1}] * 3000, dtype=object),
        SMALL,
    ],
    ids=["text", "big-endian", "structured", "objects", "small"],
)
def test_arrays_of_other_kinds_are_opaque_and_no_trouble(array: npt.NDArray[Any]) -> None:
    """A sound file would come with a warning, or with a type that is not true."""
    assert _tensors(_npy(array, allow_pickle=True)) == {}


def test_members_of_an_npz_are_cut_where_they_are_stored() -> None:
    """Two epochs' arrays would share nothing."""
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, allow_pickle=False, weight=WEIGHT, half=HALF, small=SMALL)
    np.savez_compressed(packed, allow_pickle=False, weight=WEIGHT)
    assert _tensors(plain.getvalue()) == {"weight": _as(WEIGHT), "half": _as(HALF)}
    assert _tensors(packed.getvalue()) == {}


def _widen(archive: bytes) -> bytes:
    """Return a zip of one member with its sizes and offsets in 64-bit fields."""
    start = archive.index(b"PK\x01\x02")
    entry = bytearray(archive[start:-22])
    size_bytes = int.from_bytes(entry[24:28], "little")
    extra = struct.pack("<HHHHH3Q", 9, 2, 0, 1, 24, size_bytes, size_bytes, 0)
    entry[42:46] = b"\xff" * 4
    entry[20:24] = entry[24:28] = b"\xff" * 4
    entry[30:32] = struct.pack("<H", len(extra))
    entry += extra
    end = start + len(entry)
    wide = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(entry), start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return archive[:start] + entry + wide + locator + last


def test_a_zip_with_a_64_bit_directory_or_a_comment_is_read() -> None:
    """A model over 4 GB would be opaque."""
    data = _widen(_zip({"weight.npy": _npy(WEIGHT)}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("weight.npy") == _npy(WEIGHT)
    assert _tensors(data) == {"weight": _as(WEIGHT)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("weight.npy", _npy(WEIGHT))
        archive.comment = b"a comment after the directory"
    assert _tensors(buffer.getvalue()) == {"weight": _as(WEIGHT)}


def test_a_stream_that_gives_less_than_asked_is_read_on() -> None:
    """A file opened without a buffer would be opaque now and then."""

    class Halting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(7, size or 0))

    data = _npy(WEIGHT)
    assert partition(Halting(data), len(data)).ranges == _ranges(data).ranges


def test_arrays_of_a_skops_file_are_named_by_their_order() -> None:
    """Names from memory addresses would find no parent in the version before."""
    members = {"91.npy": _npy(WEIGHT), "17.npy": _npy(HALF), "schema.json": b"{}"}
    assert _tensors(_zip(members)) == {"array 0": _as(WEIGHT), "array 1": _as(HALF)}


def test_other_zips_are_opaque() -> None:
    """A zip in a zip would be taken apart."""
    inner = _zip({"weight.npy": _npy(WEIGHT)})
    assert _tensors(_zip({"inner.zip": inner, "text.txt": b"a" * 9000})) == {}


@pytest.mark.slow
def test_a_torch_file_is_cut_at_its_storages(tmp_path: Path) -> None:
    """A checkpoint would share nothing with the one before."""
    torch = pytest.importorskip("torch")
    weight = torch.from_numpy(WEIGHT.copy())
    saved = {
        "model": {"weight": torch.nn.Parameter(weight), "tied": weight, "step": 7},
        "state": {0: {"average": torch.from_numpy(HALF)}},
        "column": torch.arange(4000.0)[::2],
        "brain": torch.ones(3000, dtype=torch.bfloat16),
        "eight": torch.zeros(5000).to(torch.float8_e4m3fn),
        "wide": torch.ones(1000, dtype=torch.uint16).repeat(3),
        "object": torch.nn.Linear(100, 20),
    }
    torch.save(saved, tmp_path / "checkpoint.pt")
    data = (tmp_path / "checkpoint.pt").read_bytes()
    found = _tensors(data)
    assert found["model.weight"] == _as(WEIGHT)
    assert found["state.0.average"] == _as(HALF)
    assert {name: item[:2] for name, item in found.items()} == {
        "model.weight": ("float32", (60, 100)),
        "state.0.average": ("float16", (4000,)),
        "column": ("float32", (4000,)),
        "brain": ("bfloat16", (3000,)),
        "eight": ("float8_e4m3fn", (5000,)),
        "wide": ("uint16", (3000,)),
        "object._parameters.weight": ("float32", (20, 100)),
    }


@pytest.mark.slow
def test_torch_s_own_names_are_those_of_safetensors(tmp_path: Path) -> None:
    """A model saved in the other container would not find its parent."""
    torch = pytest.importorskip("torch")
    torch.save({"a.weight": torch.from_numpy(WEIGHT)}, tmp_path / "model.bin")
    torch.save(torch.from_numpy(WEIGHT), tmp_path / "bare.pt")
    assert _tensors((tmp_path / "model.bin").read_bytes()) == {"a.weight": _as(WEIGHT)}
    assert _tensors((tmp_path / "bare.pt").read_bytes()) == {"data/0": _as(WEIGHT)}


@pytest.mark.slow
def test_an_onnx_file_is_cut_at_its_initialisers() -> None:
    """Weights that did not change would be stored again."""
    onnx = pytest.importorskip("onnx")
    numbers = np.arange(3000.0)
    initializers = [
        onnx.numpy_helper.from_array(WEIGHT, "weight"),
        onnx.helper.make_tensor("packed", onnx.TensorProto.DOUBLE, [3000], numbers),
        onnx.helper.make_tensor("integers", onnx.TensorProto.INT64, [2000], list(range(2000))),
        onnx.helper.make_tensor("texts", onnx.TensorProto.STRING, [2], ["a" * 5000, "b"]),
        onnx.numpy_helper.from_array(HALF, ""),
    ]
    external = onnx.numpy_helper.from_array(np.ones(3000), "elsewhere")
    onnx.external_data_helper.set_external_data(external, "../../outside.bin")
    external.ClearField("raw_data")
    graph = onnx.helper.make_graph([], "graph", [], [], [*initializers, external])
    data = onnx.helper.make_model(graph).SerializeToString()
    assert _tensors(data, "model.onnx") == {
        "weight": _as(WEIGHT),
        "packed": _as(numbers),
        "initializer 4": _as(HALF),
    }


@pytest.mark.slow
def test_an_estimator_turned_into_onnx_is_cut() -> None:
    """What sklearn users release would be opaque."""
    skl2onnx = pytest.importorskip("skl2onnx")
    neighbours = pytest.importorskip("sklearn.neighbors")
    rows = np.random.default_rng(0).normal(size=(100, 40)).astype(np.float32)
    model = neighbours.KNeighborsClassifier().fit(rows, np.arange(100) % 3)
    data = skl2onnx.to_onnx(model, rows[:1]).SerializeToString()
    assert [found[:2] for found in _tensors(data, "model.onnx").values()] == [
        ("float32", (100, 40))
    ]


def test_gguf_is_cut_at_plain_tensors_and_leaves_quantised_ones() -> None:
    """A converted model would share nothing with what it was made from."""
    assert _tensors(_gguf()) == {"weight": _as(WEIGHT), "half": _as(HALF)}


@pytest.mark.parametrize("data", [b"", b"a", bytes(9000), b"{}" * 5000])
def test_everything_else_is_one_range(data: bytes) -> None:
    """An ordinary file would be refused, or come with a warning."""
    found = _ranges(data, "data.bin")
    assert found.warning == ""
    assert found.ranges == ((FileRange(offset=0, size_bytes=len(data)),) if data else ())


def test_tensors_are_found_by_name_and_the_stream_is_rewound() -> None:
    """The parent of a tensor would not be found, or the file read from its middle."""
    stream = io.BytesIO(_npy(WEIGHT))
    found = tensor_ranges(stream, len(stream.getvalue()))
    assert found["array"].shape == (60, 100)
    assert stream.tell() == 0
