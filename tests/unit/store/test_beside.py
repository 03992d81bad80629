"""ONNX models whose weights lie in other files: what is shared, and what a model may not say."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from stemma.store.beside import NOTHING, cut_as_said, look_beside, outside_tensors
from stemma.store.formats.locate import locate_said, read_array
from stemma.store.formats.partition import Partition, partition
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore, StoredTree
from stemma.store.verify import verify

Tensors = Mapping[str, NDArray[np.generic]]
Extent = tuple[str, Mapping[str, object]]
WEIGHT_BYTES = 8000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for a model."""
    path = tmp_path / "model"
    path.mkdir()
    return path


@pytest.fixture
def weights() -> dict[str, NDArray[np.generic]]:
    """Tensors of several types and sizes, in all 3 MiB."""
    generator = np.random.default_rng(5)
    return {
        "embed": generator.normal(0, 0.05, (400, 512)).astype(np.float32),
        "layer.weight": generator.normal(0, 0.05, (512, 512)).astype(np.float32),
        "layer.half": generator.normal(0, 0.05, (512, 500)).astype(np.float16),
        "ids": np.arange(60_000, dtype=np.int64),
        "bias": generator.normal(0, 1, 5).astype(np.float32),
    }


def _save(path: Path, tensors: Tensors, *, is_one_file: bool = True) -> None:
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initializers))
    onnx.save_model(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=is_one_file,
        location="weights.bin" if is_one_file else None,
        size_threshold=0,
    )


def _says(*extents: Extent, size: int = WEIGHT_BYTES // 4) -> bytes:
    """Return a model of tensors whose external data is said to be this."""
    tensors = []
    for name, said in extents:
        tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[size])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in said.items():
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    graph = onnx.helper.make_graph([], "g", [], [], tensors)
    data: bytes = onnx.helper.make_model(graph).SerializeToString()
    return data


def _names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    )


def _put(store: ObjectStore, folder: Path) -> StoredTree:
    """Store a folder and check that every file comes back."""
    tree = store.put_tree(folder, _names(folder))
    reader = ObjectStore(store.backend, store.index)
    for path, file in tree.files.items():
        assert reader.read_bytes(file.digest) == (folder / path).read_bytes()
    assert verify(reader) == []
    return tree


def _cut(folder: Path, name: str = "weights.bin") -> Partition:
    """Return how a file of a folder is cut."""
    files = {found: folder / found for found in _names(folder)}
    beside = look_beside(files).get(name, NOTHING)
    size_bytes = (folder / name).stat().st_size
    with (folder / name).open("rb") as stream:
        found = partition(stream, size_bytes, name=name)
    return cut_as_said(found, beside.claims, size_bytes) if beside.claims else found


def _tensors(folder: Path, name: str = "weights.bin") -> dict[str, bytes]:
    found = _cut(folder, name)
    data = (folder / name).read_bytes()
    assert b"".join(data[item.offset : item.end] for item in found.ranges) == data
    return {item.name: data[item.offset : item.end] for item in found.ranges if item.is_tensor}


@pytest.mark.slow
@pytest.mark.parametrize("is_one_file", [True, False])
def test_weights_beside_a_model_are_shared_with_a_safetensors_file(
    store: ObjectStore,
    folder: Path,
    weights: dict[str, NDArray[np.generic]],
    tmp_path: Path,
    is_one_file: bool,  # noqa: FBT001  a parameter of pytest
) -> None:
    """Who exports a stored model to ONNX would pay for its weights a second time."""
    source = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(weights, source)
    first = store.put_file(source)
    _save(folder / "model.onnx", weights, is_one_file=is_one_file)
    tree = _put(store, folder)
    assert tree.warnings == ()
    assert len(tree.files) == 2 if is_one_file else 6
    assert first.new_bytes > 2_000_000
    assert tree.new_bytes < 8192


def test_a_file_says_what_dtype_name_and_shape_its_tensors_have(
    folder: Path, weights: dict[str, NDArray[np.generic]]
) -> None:
    """Parents would be looked for under wrong names, and blocks cut at wrong places."""
    _save(folder / "model.onnx", weights)
    found = {item.name: item for item in _cut(folder).ranges if item.is_tensor}
    assert {name: (item.dtype, item.shape) for name, item in found.items()} == {
        name: (array.dtype.name, array.shape) for name, array in weights.items() if name != "bias"
    }
    expected = {name: array.tobytes() for name, array in weights.items() if name != "bias"}
    assert _tensors(folder) == expected


def test_a_model_in_a_subfolder_names_files_from_there(folder: Path) -> None:
    """Exporters put each part of a pipeline in a folder of its own."""
    (folder / "unet" / "data").mkdir(parents=True)
    (folder / "unet" / "data" / "w").write_bytes(bytes(WEIGHT_BYTES))
    (folder / "w").write_bytes(bytes(WEIGHT_BYTES))
    (folder / "unet" / "model.onnx").write_bytes(_says(("a", {"location": "./data//w"})))
    assert set(_tensors(folder, "unet/data/w")) == {"a"}
    assert _tensors(folder, "w") == {}


@pytest.mark.slow
def test_a_later_version_is_stored_as_a_difference(
    memory_store: ObjectStore, folder: Path, weights: dict[str, NDArray[np.generic]], tmp_path: Path
) -> None:
    """A fine-tuned model with its weights outside would cost as much as the first."""
    _save(folder / "model.onnx", weights)
    earlier = _put(memory_store, folder).files["weights.bin"]
    before = sum(stat.size_bytes for stat in memory_store.backend.list("frames/"))
    later = tmp_path / "later"
    later.mkdir()
    tuned = {
        name: np.multiply(array, np.float32(1 + 1e-6)) if array.dtype == np.float32 else array
        for name, array in weights.items()
    }
    _save(later / "model.onnx", tuned)
    from_parent = memory_store.put_file(folder / "model.onnx")
    assert from_parent.new_bytes == 0
    beside = look_beside({name: later / name for name in _names(later)})
    batch = Batch(memory_store.backend, memory_store.index)
    stored = batch.add_path(
        later / "weights.bin", parents=[earlier.digest], beside=beside["weights.bin"]
    )
    batch.flush()
    assert memory_store.read_bytes(stored.digest) == (later / "weights.bin").read_bytes()
    added = sum(stat.size_bytes for stat in memory_store.backend.list("frames/")) - before
    assert added < 0.2 * stored.new_bytes


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("../secret", "a part '..'"),
        ("sub/../weights.bin", "a part '..'"),
        ("/etc/passwd", "is absolute"),
        ("", "is empty"),
        (".", "is empty"),
        ("link", "no such file, or a link"),
        ("missing", "no such file, or a link"),
        ("sub", "no such file, or a link"),
        ("weights.bin\0", "no such file, or a link"),
        ("C:\\weights.bin", "no such file, or a link"),
    ],
)
def test_a_location_that_leads_elsewhere_is_not_followed(
    memory_store: ObjectStore, folder: Path, location: str, reason: str
) -> None:
    """A model from a stranger could make the program read any file of the user."""
    secret = folder.parent / "secret"
    os.mkfifo(secret)  # whoever opened it would wait
    (folder / "sub").mkdir()
    (folder / "sub" / "x").write_bytes(b"x")
    (folder / "weights.bin").write_bytes(bytes(WEIGHT_BYTES))
    (folder / "link").symlink_to("weights.bin")
    (folder / "model.onnx").write_bytes(_says(("a", {"location": location})))
    assert _tensors(folder) == {}
    (warning,) = _put(memory_store, folder).warnings
    assert warning.startswith("model.onnx: weights in ")
    assert reason in warning


@pytest.mark.parametrize(
    ("extents", "reason"),
    [
        ([("a", {"offset": 8001})], "'a' lies outside the file"),
        ([("a", {"offset": 10**18})], "'a' lies outside the file"),
        ([("a", {"length": WEIGHT_BYTES + 4})], "does not fit its shape"),
        ([("a", {"length": 0})], "does not fit its shape"),
        ([("a", {"length": 4}), ("b", {})], "does not fit its shape"),
        ([("a", {}), ("b", {"offset": 4000})], "'b' overlaps"),
        ([("a", {}), ("a", {"offset": 8000})], "two tensors are named 'a'"),
    ],
)
def test_weights_of_which_a_model_lies_are_plain_bytes(
    memory_store: ObjectStore, folder: Path, extents: list[Extent], reason: str
) -> None:
    """A file with a wrong model beside it could not be stored, or would come back changed."""
    (folder / "weights.bin").write_bytes(os.urandom(16_000))
    said = [(name, {"location": "weights.bin", **where}) for name, where in extents]
    (folder / "model.onnx").write_bytes(_says(*said))
    (warning,) = _put(memory_store, folder).warnings
    assert warning.startswith("weights.bin: taken as opaque bytes, for 'model.onnx' says")
    assert reason in warning
    assert _tensors(folder) == {}


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["-1", "", "1e3", "²", "9" * 20, "0x10"])
def test_a_number_that_is_none_makes_the_weights_plain_bytes(
    memory_store: ObjectStore, folder: Path, key: str, value: str
) -> None:
    """A folder with a broken model in it could not be stored."""
    (folder / "weights.bin").write_bytes(bytes(WEIGHT_BYTES))
    (folder / "model.onnx").write_bytes(_says(("a", {"location": "weights.bin", key: value})))
    (warning,) = _put(memory_store, folder).warnings
    assert "model.onnx: weights in other files are stored as plain bytes: tensor 'a'" in warning


def test_a_file_that_was_cut_off_is_plain_bytes(
    memory_store: ObjectStore, folder: Path, weights: dict[str, NDArray[np.generic]]
) -> None:
    """A download that broke off could not be stored, or would be taken for whole."""
    _save(folder / "model.onnx", weights)
    data = (folder / "weights.bin").read_bytes()
    (folder / "weights.bin").write_bytes(data[:-100])
    (warning,) = _put(memory_store, folder).warnings
    assert "lies outside the file" in warning


def test_what_follows_the_last_tensor_is_opaque(
    memory_store: ObjectStore, folder: Path, weights: dict[str, NDArray[np.generic]]
) -> None:
    """A file with more in it than the model names would lose its tensors or its end."""
    _save(folder / "model.onnx", weights)
    with (folder / "weights.bin").open("ab") as stream:
        stream.write(b"more" * 100)
    assert _put(memory_store, folder).warnings == ()
    assert len(_tensors(folder)) == 4


def test_a_model_that_was_cut_off_says_nothing(
    memory_store: ObjectStore, folder: Path, weights: dict[str, NDArray[np.generic]]
) -> None:
    """A broken model would give two warnings, or an error."""
    _save(folder / "model.onnx", weights)
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[:-9])
    (warning,) = _put(memory_store, folder).warnings
    assert "no well-formed ONNX file" in warning
    assert _tensors(folder) == {}


def test_models_that_agree_are_taken_together(folder: Path) -> None:
    """Two models over one file, and weights tied within one, would be cut by half."""
    (folder / "w").write_bytes(bytes(3 * WEIGHT_BYTES))
    first = {"location": "w", "offset": 0}
    second = {"location": "w", "offset": WEIGHT_BYTES}
    third = {"location": "w", "offset": 2 * WEIGHT_BYTES}
    (folder / "a.onnx").write_bytes(_says(("x", first), ("tied", first), ("y", second)))
    (folder / "b.onnx").write_bytes(_says(("other", second), ("z", third)))
    found = _cut(folder, "w")
    assert [item.name for item in found.ranges] == ["x", "y", "z"]
    assert found.warning == ""


def test_of_models_that_contradict_each_other_the_first_counts(folder: Path) -> None:
    """A wrong model beside a right one would undo it silently."""
    (folder / "w").write_bytes(bytes(3 * WEIGHT_BYTES))
    (folder / "a.onnx").write_bytes(_says(("x", {"location": "w"})))
    (folder / "b.onnx").write_bytes(_says(("y", {"location": "w", "offset": 4000})))
    found = _cut(folder, "w")
    assert [item.name for item in found.ranges] == ["x", ""]
    assert "other models say otherwise" in found.warning


def test_a_file_that_describes_itself_is_cut_by_that(
    folder: Path, weights: dict[str, NDArray[np.generic]]
) -> None:
    """A model could make a sound safetensors file lose its tensors."""
    safetensors.numpy.save_file(weights, folder / "w.safetensors")
    (folder / "a.onnx").write_bytes(_says(("x", {"location": "w.safetensors", "offset": 4000})))
    assert set(_tensors(folder, "w.safetensors")) == set(weights) - {"bias"}


@pytest.mark.slow
def test_models_that_name_too_many_tensors_say_nothing(folder: Path) -> None:
    """A folder made on purpose could take all memory."""
    (folder / "w").write_bytes(bytes(WEIGHT_BYTES))
    tensors = [(f"{number:05}" + "n" * 60_000, {"location": "w"}) for number in range(280)]
    (folder / "model.onnx").write_bytes(_says(*tensors))
    beside = look_beside({name: folder / name for name in _names(folder)})
    assert "names more than 65536 tensors" in beside["model.onnx"].warning
    assert "w" not in beside


def test_every_tensor_beside_a_model_can_be_read_alone(
    folder: Path, weights: dict[str, NDArray[np.generic]]
) -> None:
    """Who wants one tensor of an ONNX model would have to fetch all of its weights."""
    _save(folder / "model.onnx", weights)
    data = (folder / "weights.bin").read_bytes()
    with (folder / "model.onnx").open("rb") as stream:
        size_bytes = (folder / "model.onnx").stat().st_size
        said = outside_tensors(stream, size_bytes, "model.onnx", _names(folder))
        assert outside_tensors(stream, size_bytes, "model.onnx", ["model.onnx"]) == {}
        assert outside_tensors(stream, size_bytes - 1, "model.onnx", _names(folder)) == {}
        assert outside_tensors(stream, size_bytes, "model.bin", _names(folder)) == {}
    assert set(said) == {"weights.bin"}
    places = locate_said(said["weights.bin"], len(data))
    assert set(places) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(read_array(io.BytesIO(data), places[name]), array)
    assert locate_said(said["weights.bin"], len(data) - 21) == {}
