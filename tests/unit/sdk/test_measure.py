"""Metrics: right, sized, and left out where they are undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score, log_loss, r2_score

from stemma.catalog.capture.base import CapturedPredictions
from stemma.domain.errors import InvalidInputError
from stemma.sdk.adapters.base import Answers
from stemma.sdk.measure import measure


def _measure(predictions: Any, labels: Any, **options: Any) -> CapturedPredictions:
    answers = Answers(predictions=np.asarray(predictions), **options)
    rows: NDArray[np.uint8] = np.zeros((len(answers.predictions), 16), dtype=np.uint8)
    return measure("digits-test", rows, answers, None if labels is None else np.asarray(labels))


def _values(captured: CapturedPredictions) -> dict[str, float]:
    return {metric.key: metric.number for metric in captured.metrics}


def test_classification_metrics_agree_with_scikit_learn() -> None:
    """Gates would stand on wrong numbers."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 200)
    scores = random.dirichlet(np.ones(4), 200)
    predictions = scores.argmax(axis=1)
    captured = _measure(predictions, labels, scores=scores, classes=("0", "1", "2", "3"))
    values = _values(captured)
    assert captured.task == "classification"
    assert values["accuracy"] == pytest.approx((predictions == labels).mean())
    assert values["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
    assert values["log_loss"] == pytest.approx(log_loss(labels, scores))
    sizes = {metric.key: metric.sample_size for metric in captured.metrics}
    assert sizes["accuracy"] == 200
    assert sizes["recall[class=3]"] == int((labels == 3).sum())


def test_a_class_without_rows_has_no_recall() -> None:
    """A gate on every class would fail, or pass, on an empty one."""
    values = _values(_measure([0, 1, 2], [0, 1, 1]))
    assert set(values) == {"accuracy", "recall[class=0]", "recall[class=1]", "macro_f1"}


def test_regression_metrics_agree_with_scikit_learn() -> None:
    """Gates would stand on wrong numbers."""
    random = np.random.default_rng(0)
    labels = random.normal(size=100)
    predictions = labels + random.normal(scale=0.1, size=100)
    captured = _measure(predictions, labels)
    assert (captured.task, captured.metric) == ("regression", "r2")
    assert _values(captured)["r2"] == pytest.approx(r2_score(labels, predictions))
    assert set(_values(captured)) == {"r2", "rmse", "mae"}


def test_what_is_undefined_is_left_out() -> None:
    """NaN in a record would break every comparison with it."""
    constant = _values(_measure([1.0, 2.0], [1.5, 1.5], task="regression"))
    assert "r2" not in constant
    assert _measure([0, 1], None).metrics == ()
    assert _measure(np.zeros(0, dtype=int), np.zeros(0, dtype=int)).metrics == ()


@pytest.mark.parametrize(
    ("predictions", "labels", "what"),
    [
        ([np.nan, 1.0], [1.5, 2.5], "1 of 2 predictions"),
        ([np.nan, np.nan], [0, 1], "2 of 2 predictions"),
        ([np.inf, 1.0], None, "1 of 2 predictions"),
        ([1.0, 1.0], [np.nan, 1.0], "1 of 2 labels"),
    ],
)
def test_nan_is_refused_with_what_is_and_how_many(predictions: Any, labels: Any, what: str) -> None:
    """A diverged model would crash the measuring, or be compared by values that equal nothing."""
    with pytest.raises(InvalidInputError, match=what) as refused:
        _measure(predictions, labels)
    assert refused.value.code == "not-finite"


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [
        ([1.0, 2.0], [1, 2]),
        (["1", "2"], [1, 2]),
        (np.array(["a", "b"], dtype=object), ["a", "b"]),
        ([[1], [2]], [1, 2]),
        ([True, False], [True, False]),
    ],
)
def test_equal_answers_of_another_kind_are_equal(predictions: Any, labels: Any) -> None:
    """A right model would score 0."""
    captured = _measure(predictions, labels)
    assert _values(captured)["accuracy"] == 1.0
    assert captured.predictions.dtype.kind in "ifU"


def test_several_values_per_row_are_kept_as_comparable_text() -> None:
    """A segmentation model could not be compared at all."""
    captured = _measure([[1.0, 2.0], [3.0, 4.0]], None)
    assert captured.task == "other"
    assert captured.predictions.tolist() == ["1.0 2.0", "3.0 4.0"]


def test_another_number_of_answers_is_refused() -> None:
    """Answers would be compared with the wrong rows."""
    answers = Answers(predictions=np.arange(3))
    with pytest.raises(InvalidInputError, match="3 predictions for 2 rows of digits-test"):
        measure("digits-test", np.zeros((2, 16), dtype=np.uint8), answers, None)
