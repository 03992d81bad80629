"""ONNX models: identity without names for people, answers, signature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skl2onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stemma.catalog.capture.base import CapturedModel
from stemma.domain.component import ANY_SIZE
from stemma.domain.errors import IntegrityError, InvalidInputError
from stemma.sdk.adapters.base import LoadRequest
from stemma.sdk.adapters.registry import adapter_for, adapter_named

Digits = tuple[NDArray[np.float64], NDArray[np.int64]]
Capture = Callable[..., CapturedModel]

pytestmark = pytest.mark.slow


def _export(model: Any, digits: Digits, *, zipmap: bool = False) -> onnx.ModelProto:
    features = digits[0].astype(np.float32)
    options = {"zipmap": zipmap} if hasattr(model, "classes_") else None
    return skl2onnx.to_onnx(model.fit(features, digits[1]), features[:1], options=options)


@pytest.mark.parametrize("zipmap", [False, True])
def test_a_classifier_answers_as_the_one_it_was_made_from(
    zipmap: bool,  # noqa: FBT001 - parametrized
    digits: Digits,
    capture: Capture,
) -> None:
    """Metrics of an exported model would be made up."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    proto = _export(model, digits, zipmap=zipmap)
    captured = capture(proto)
    assert captured.parameter_count == 650 + 128
    assert captured.labels == tuple("0123456789")
    session = adapter_named("onnx").load(
        LoadRequest(folder=captured.files["model.onnx"].parent, files=tuple(captured.files))
    )
    features = digits[0].astype(np.float32)
    answers = adapter_for(session).answer(session, features, digits[1])
    assert np.array_equal(answers.predictions, model.predict(features))
    assert answers.scores is not None
    assert np.allclose(answers.scores, model.predict_proba(features), atol=1e-5)


def test_two_exports_of_one_model_are_the_same(digits: Digits, capture: Capture) -> None:
    """Random graph names of the converter would make every export a new version."""
    first, second = (_export(RandomForestClassifier(3, random_state=0), digits) for _ in range(2))
    second.graph.name, second.producer_version = "another", "9"
    one, other = capture(first), capture(second)
    assert (one.tensors, one.configuration) == (other.tensors, other.configuration)
    assert one.family == "onnx.TreeEnsembleClassifier"


def test_other_coefficients_are_other_tensors_of_the_same_structure(
    digits: Digits, capture: Capture
) -> None:
    """A retrained export would be a redesign, or go unnoticed."""
    one, other = (
        capture(_export(LogisticRegression(C=c, max_iter=3000), digits)) for c in (1.0, 0.5)
    )
    assert one.structure == other.structure
    assert one.configuration == other.configuration
    assert one.tensors != other.tensors


def test_signature_is_the_graphs_own(digits: Digits, capture: Capture) -> None:
    """A caller could not be told what to send."""
    captured = capture(_export(Ridge(), digits))
    [inputs] = captured.signature.inputs
    assert (inputs.name, inputs.dtype, inputs.shape) == ("X", "float32", (ANY_SIZE, 64))
    assert captured.signature.outputs[0].dtype == "float32"
    assert captured.parameter_count == 65


def test_a_file_and_a_session_read_like_the_model(
    digits: Digits, capture: Capture, tmp_path: Path
) -> None:
    """One model would have three identities."""
    proto = _export(Ridge(), digits)
    path = tmp_path / "ridge.onnx"
    path.write_bytes(proto.SerializeToString())
    session = adapter_named("onnx").load(LoadRequest(folder=tmp_path, files=("ridge.onnx",)))
    assert capture(path).tensors == capture(session).tensors == capture(proto).tensors


def test_a_file_that_is_no_model_is_one_clear_error(tmp_path: Path, capture: Capture) -> None:
    """The user would see protobuf's traceback."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\xff\xfe nothing")
    with pytest.raises(InvalidInputError, match="is no ONNX model"):
        capture(path)
    with pytest.raises(IntegrityError, match="cannot be run"):
        adapter_named("onnx").load(LoadRequest(folder=tmp_path, files=("broken.onnx",)))


def test_a_model_of_two_inputs_has_both_in_its_signature(capture: Capture) -> None:
    """A caller would learn of the second input in production."""
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, 3])
    mask = helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", 1])
    total = helper.make_tensor_value_info("total", TensorProto.FLOAT, [None, 3])
    cast = helper.make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT)
    product = helper.make_node("Mul", ["rows", "weights"], ["total"])
    graph = helper.make_graph([cast, product], "two", [rows, mask], [total])
    opset = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opset)
    signature = capture(model).signature
    assert [(spec.name, spec.dtype, spec.shape) for spec in signature.inputs] == [
        ("rows", "float32", (ANY_SIZE, 3)),
        ("mask", "int64", (ANY_SIZE, 1)),
    ]
    assert [spec.name for spec in signature.outputs] == ["total"]
    with pytest.raises(InvalidInputError, match="has 2 inputs") as failure:
        adapter_for(model).answer(model, np.zeros((2, 3)), None)
    assert "predict=lambda X" in failure.value.hint
