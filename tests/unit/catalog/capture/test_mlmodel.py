"""What MLflow's files say of a model: flavor, class, signature, requirements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stemma.catalog.capture.mlmodel import (
    SIZE_LIMIT_BYTES,
    read_columns,
    read_mlmodel,
    read_requirements,
    read_row_count,
)
from stemma.domain.component import Package, ValueSpec

MODELS = Path(__file__).parents[2] / "hub" / "mlflow_models"


def test_an_mlmodel_says_class_flavor_and_signature() -> None:
    """A released model would not say what it is or takes."""
    facts = read_mlmodel((MODELS / "xgboost" / "MLmodel").read_bytes())
    assert facts.flavors == ("xgboost",)
    assert facts.family == "xgboost.sklearn.XGBClassifier"
    assert [spec.name for spec in facts.signature.inputs] == ["a", "b", "c"]
    assert facts.signature.inputs[0].dtype == "float64"
    assert not facts.signature.is_positional
    assert facts.options["xgboost"]["model_format"] == "json"


def test_inputs_without_names_count_by_place() -> None:
    """Two inputs could change places without anybody noticing."""
    signature = read_mlmodel((MODELS / "onnx" / "MLmodel").read_bytes()).signature
    assert signature.is_positional
    assert signature.inputs == (ValueSpec(name="input_0", dtype="float32", shape=(-1, 3)),)


def test_params_of_a_signature_are_optional_inputs() -> None:
    """Removing one would look as if nothing changed."""
    params = json.dumps([{"name": "top_k", "type": "long", "default": 3, "shape": None}])
    text = json.dumps({"signature": {"inputs": None, "params": params}})
    (found,) = read_mlmodel(text.encode()).signature.inputs
    assert (found.name, found.dtype, found.is_optional) == ("top_k", "int64", True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[1, 2]",
        b"flavors: [",
        b"flavors: 3",
        b"!!python/object/apply:os.system ['true']",
        b"signature: {inputs: '[', outputs: 3}",
        b"x" * (SIZE_LIMIT_BYTES + 1),
        b"[" * 10_000,
    ],
)
def test_what_is_no_mlmodel_says_nothing(data: bytes) -> None:
    """A damaged or hostile file would stop a release, or run code."""
    facts = read_mlmodel(data)
    assert (facts.flavors, facts.signature.inputs, facts.family) == ((), (), "mlflow")


def test_requirements_become_an_environment() -> None:
    """A released model would not say what it needs."""
    text = b"# made by hand\nNumPy==2.1.0\nscipy>=1\ngit+https://host/x\n"
    found = read_requirements(text, b"python: 3.11.7\n")
    assert found is not None
    assert found.packages == (Package(name="numpy", version="2.1.0"),)
    assert found.requirements == ("NumPy==2.1.0", "git+https://host/x", "scipy>=1")
    assert (found.python, len(found.notes)) == ("3.11.7", 2)
    assert read_requirements(b"", b"") is None


def test_columns_and_rows_of_a_dataset_are_read() -> None:
    """A dataset's schema would be lost."""
    columns = read_columns('{"mlflow_colspec": [{"type": "string", "name": "a"}]}')
    assert columns == (ValueSpec(name="a", dtype="str", shape=(-1,)),)
    features = json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": [-1, 2]}}])
    tensors = read_columns(json.dumps({"mlflow_tensorspec": {"features": features}}))
    assert tensors == (ValueSpec(name="input_0", dtype="int8", shape=(-1, 2)),)
    assert read_columns("no JSON") == ()
    assert (read_row_count('{"num_rows": 40}'), read_row_count("{}")) == (40, -1)
