"""Wrong here: a damaged model is said to be ready, or a sound one never is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stemma.delivery.runtime.golden import Golden, agrees, read_golden, write_golden
from stemma.domain.component import Signature, ValueSpec
from stemma.domain.errors import IntegrityError, InvalidInputError


def _signature(*names: str) -> Signature:
    return Signature(
        inputs=tuple(ValueSpec(name=name, dtype="float64", shape=(-1,)) for name in names)
    )


def test_named_columns_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A column in another place or type would be another question."""
    columns = {"input_0": np.arange(3), "file": np.array(["a", "b", "c"]), "x/y": np.ones(3)}
    write_golden(tmp_path / "golden.npz", columns, np.array([1, 0, 1]))
    found = read_golden(tmp_path / "golden.npz")
    assert list(found.inputs) == list(columns)
    assert all(found.inputs[name].dtype == columns[name].dtype for name in columns)
    assert found.predictions.tolist() == [1, 0, 1]


def test_one_array_keeps_its_shape_and_type(tmp_path: Path) -> None:
    """Images in float32 must be asked as images in float32."""
    rows = np.ones((2, 3, 4), dtype=np.float32)
    write_golden(tmp_path / "golden.npz", {"": rows}, np.array(["a", "b"]))
    found = read_golden(tmp_path / "golden.npz").inputs[""]
    assert (found.shape, found.dtype) == (rows.shape, rows.dtype)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 torn"])
def test_a_torn_file_is_named(tmp_path: Path, data: bytes) -> None:
    """Half a file must be one clear line."""
    (tmp_path / "golden.npz").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"golden\.npz cannot be read"):
        read_golden(tmp_path / "golden.npz")


def test_rows_and_answers_of_unequal_length_are_refused(tmp_path: Path) -> None:
    """They could not have been recorded together."""
    with pytest.raises(InvalidInputError, match="lengths"):
        write_golden(tmp_path / "golden.npz", {"": np.ones(3)}, np.ones(2))


@pytest.mark.parametrize(
    ("recorded", "answered", "task", "is_same"),
    [
        (np.array([1, 2]), np.array([1, 2]), "classification", True),
        (np.array([1, 2]), np.array([1, 3]), "classification", False),
        (np.array(["1", "2"]), np.array([1, 2]), "classification", True),
        (np.array(["True"]), np.array([True]), "classification", True),
        (np.array([1, 2]), np.array([1.0, 2.0]), "classification", True),
        (np.array([1, 2]), np.array([1.0, 2.2]), "classification", False),
        (np.array(["a"]), np.array(["b"], dtype=object), "classification", False),
        (np.array([1.0, 2.0]), np.array([1.00001, 2.0]), "regression", True),
        (np.array([1.0, 2.0]), np.array([1.01, 2.0]), "regression", False),
        (np.array([1.0, 2.0]), np.array([[1.0], [2.0]]), "regression", True),
        (np.array([1.0]), np.array([np.nan]), "regression", False),
        (np.array(["0.5 1.0"]), np.array([[0.5000001, 1.0]]), "other", True),
        (np.array(["0.5 1.0"]), np.array([[0.6, 1.0]]), "other", False),
        (np.array(["0.5 1.0"]), np.array([[0.5, 1.0, 2.0]]), "other", False),
        (np.array(["1 2"]), np.array([[1, 2]]), "other", True),
        (np.array([1, 2]), np.array([1]), "classification", False),
    ],
)
def test_an_answer_is_compared_as_its_task_asks(
    recorded: np.ndarray, answered: np.ndarray, task: str, *, is_same: bool
) -> None:
    """Classes are equal or wrong; sums of floats depend on threads and batch size."""
    assert agrees(recorded, answered, task, 0.0) is is_same


def test_a_declared_tolerance_counts() -> None:
    """A team that accepts ±0.1 must not wait for a model that is within it."""
    assert agrees(np.array([1.0]), np.array([1.05]), "regression", 0.1)
    assert not agrees(np.array([1.0]), np.array([1.2]), "regression", 0.1)


def test_rows_are_given_under_the_names_of_the_signature() -> None:
    """Trained on a table and tested on an array, or the other way round, is still one model."""
    rows = np.arange(6.0).reshape(3, 2)
    answers = np.zeros(3)
    whole = Golden(inputs={"": rows}, predictions=answers)
    named = Golden(inputs={"b": rows[:, 1], "a": rows[:, 0]}, predictions=answers)
    assert list(whole.fitted_to(_signature("X"))) == ["X"]
    assert whole.fitted_to(_signature("a", "b"))["b"].tolist() == [1.0, 3.0, 5.0]
    assert list(named.fitted_to(_signature("a", "b"))) == ["a", "b"]
    assert named.fitted_to(_signature("X"))["X"].shape == (3, 2)
    with pytest.raises(InvalidInputError, match="signature names a, c"):
        named.fitted_to(_signature("a", "c"))
