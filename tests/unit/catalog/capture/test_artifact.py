"""Model files without an ML library."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stemma.catalog.capture.artifact import capture_model_path
from stemma.catalog.identity import architecture_identity, artifact_identity
from stemma.domain.errors import InvalidInputError, NotFoundError

safetensors = pytest.importorskip("safetensors.numpy")
TENSORS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "ids": np.arange(3)}


def test_the_same_tensors_in_other_containers_are_the_same_model(tmp_path: Path) -> None:
    """Converting a file, or splitting it into shards, would be a new model."""
    safetensors.save_file(TENSORS, tmp_path / "a.safetensors")
    safetensors.save_file(TENSORS, tmp_path / "b.safetensors", metadata={"note": "other bytes"})
    np.savez(tmp_path / "c.npz", **TENSORS)
    shards = tmp_path / "shards"
    shards.mkdir()
    for name, tensor in TENSORS.items():
        safetensors.save_file({name: tensor}, shards / f"{name}.safetensors")
    names = ("a.safetensors", "b.safetensors", "c.npz", "shards")
    found = [capture_model_path(tmp_path / name) for name in names]
    assert len({artifact_identity(model, {}) for model in found}) == 1
    assert found[0].family == "file:safetensors"
    assert found[0].parameter_count == 6
    assert found[0].structure == found[2].structure
    assert found[3].covered_files == ("ids.safetensors", "w.safetensors")


def test_one_changed_value_is_another_artifact_of_the_same_architecture(tmp_path: Path) -> None:
    """A retrained model would be called unchanged, or a redesign."""
    safetensors.save_file(TENSORS, tmp_path / "a.safetensors")
    changed = {**TENSORS, "w": TENSORS["w"] + 1}
    safetensors.save_file(changed, tmp_path / "b.safetensors")
    first, second = (capture_model_path(tmp_path / f"{n}.safetensors") for n in "ab")
    assert artifact_identity(first, {}) != artifact_identity(second, {})
    assert architecture_identity(first, {}) == architecture_identity(second, {})


def test_tensors_of_one_name_in_two_files_are_told_apart(tmp_path: Path) -> None:
    """One of two adapters would be lost from the identity."""
    safetensors.save_file({"w": np.zeros(2)}, tmp_path / "a.safetensors")
    safetensors.save_file({"w": np.ones(2)}, tmp_path / "b.safetensors")
    assert sorted(capture_model_path(tmp_path).tensors) == ["a.safetensors:w", "b.safetensors:w"]


def test_a_pickle_is_marked_and_never_loaded(tmp_path: Path) -> None:
    """Recording a model would run the code inside."""
    (tmp_path / "model.json").write_bytes(pickle.dumps({"a": 1}))
    found = capture_model_path(tmp_path / "model.json")
    assert found.is_pickle
    assert found.family == "file:pickle"
    assert found.tensors == {}
    assert found.covered_files == ()


def test_labels_and_tokens_are_read_beside_the_weights(tmp_path: Path) -> None:
    """A remapped label or token would pass as a patch."""
    safetensors.save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"id2label": {"10": "k", "2": "c", "0": "a"}}), encoding="utf-8"
    )
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(
            {
                "model": {"vocab": {"b": 1, "a": 0}},
                "added_tokens": [{"id": 2, "content": "<s>", "special": True}],
            }
        ),
        encoding="utf-8",
    )
    found = capture_model_path(tmp_path)
    assert found.labels == ("a", "c", "k")
    assert found.tokens == ("a", "b", "<s>")
    assert found.special_tokens == ("special_2=<s>",)
    alone = capture_model_path(tmp_path / "model.safetensors")
    assert alone.labels == found.labels
    assert list(alone.files) == ["model.safetensors"]


@pytest.mark.parametrize("text", ["{", "[]", '{"id2label": {"x": 1}}', '{"model": {"vocab": 3}}'])
def test_odd_configuration_files_are_passed_over(tmp_path: Path, text: str) -> None:
    """A model with a file of its own making could not be recorded."""
    for name in ("config.json", "tokenizer.json", "special_tokens_map.json"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = capture_model_path(tmp_path)
    assert (found.labels, found.tokens) == ((), ())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.safetensors", b"\x08\0\0\0\0\0\0\0{bad json"),
        ("a.npz", b"PK\x03\x04"),
        ("a.onnx", b"\x08\x07broken"),
        ("a.gguf", b"GGUF"),
        ("a.bin", b""),
    ],
)
def test_what_cannot_be_read_is_recorded_as_it_is(tmp_path: Path, name: str, data: bytes) -> None:
    """A format we do not know would be refused."""
    (tmp_path / name).write_bytes(data)
    found = capture_model_path(tmp_path / name)
    assert list(found.files) == [name]
    assert found.tensors == {}


@pytest.mark.slow
def test_a_refit_in_another_skops_container_is_the_same_model(tmp_path: Path) -> None:
    """Recording the same training again would never be "already is this"."""
    skops_io = pytest.importorskip("skops.io")
    linear = pytest.importorskip("sklearn.linear_model")
    rows = np.random.default_rng(0).normal(size=(60, 4))
    labels = (rows[:, 0] > 0).astype(int)
    found = []
    for name, strength in (("a", 1.0), ("b", 1.0), ("c", 0.5)):
        skops_io.dump(linear.LogisticRegression(C=strength).fit(rows, labels), tmp_path / name)
        found.append(capture_model_path(tmp_path / name))
    bytes_read = [(tmp_path / name).read_bytes() for name in "ab"]
    assert bytes_read[0] != bytes_read[1]
    same, again, other = (artifact_identity(model, {}) for model in found)
    assert same == again
    assert same != other


@pytest.mark.slow
def test_an_onnx_graph_gives_its_signature(tmp_path: Path) -> None:
    """A changed input of an ONNX model would go unnoticed."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 3])],
        [helper.make_tensor_value_info("y", kind, ["n", 3])],
        [weight],
    )
    model = helper.make_model(graph, producer_name="one")
    identities = set()
    for producer in ("one", "two"):
        model.producer_name = producer
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        found = capture_model_path(tmp_path / "m.onnx")
        identities.add(artifact_identity(found, {}))
    assert len(identities) == 1
    assert [(v.name, v.dtype, v.shape) for v in found.signature.inputs] == [
        ("x", "float32", (-1, 3))
    ]
    assert (found.parameter_count, list(found.tensors)) == (9, ["w"])


def test_a_missing_or_empty_model_is_named(tmp_path: Path) -> None:
    """The user would not know which path was wrong."""
    with pytest.raises(NotFoundError, match="nope"):
        capture_model_path(tmp_path / "nope")
    with pytest.raises(InvalidInputError, match="no files"):
        capture_model_path(tmp_path)


@pytest.mark.parametrize(
    "members",
    [
        {"schema.json": "[1]"},
        {"schema.json": "{broken"},
        {"schema.json": '{"content": {"file": "gone.npy"}}'},
        {"other.json": "{}"},
    ],
)
def test_a_malformed_skops_file_is_recorded_as_it_is(
    members: dict[str, str], tmp_path: Path
) -> None:
    """A recording would fail over a file that Stemma need not understand."""
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    captured = capture_model_path(path)
    assert captured.tensors == {}
    assert list(captured.files) == ["model.skops"]


def test_an_onnx_file_with_text_and_sequences_is_read(tmp_path: Path) -> None:
    """A tokenizer's graph could not be recorded."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    words = make.make_tensor("words", onnx.TensorProto.STRING, [2], [b"a", b"b"])
    text = make.make_tensor_value_info("out", onnx.TensorProto.STRING, [2])
    inner = make.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    many = make.make_value_info("many", make.make_sequence_type_proto(inner))
    node = make.make_node("Identity", ["words"], ["out"])
    path = tmp_path / "model.onnx"
    onnx.save(make.make_model(make.make_graph([node], "g", [many], [text], [words])), str(path))
    captured = capture_model_path(path)
    assert list(captured.tensors) == ["words"]
    assert [(spec.name, spec.dtype) for spec in captured.signature.inputs] == [("many", "sequence")]
    assert [(spec.name, spec.dtype) for spec in captured.signature.outputs] == [("out", "str")]
    path.write_bytes(path.read_bytes()[:20])
    assert capture_model_path(path).tensors == {}


def test_weights_beside_an_onnx_file_count_with_their_bytes(tmp_path: Path) -> None:
    """A changed weight file would be the same model."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    weight = onnx.numpy_helper.from_array(np.ones((64, 64), dtype=np.float32), "w")
    out = make.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [64, 64])
    graph = make.make_graph([make.make_node("Identity", ["w"], ["out"])], "g", [], [out], [weight])
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save_model(
        make.make_model(graph),
        str(folder / "model.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    captured = capture_model_path(folder)
    assert sorted(captured.files) == ["model.onnx", "weights.bin"]
    assert captured.covered_files == ()
