"""Predictions on a golden set, and the metrics that follow from them.

Invariants:
    * A metric that is undefined on the data (no row of a class, one label value) is left out,
      never NaN or a made-up zero.
    * Predictions and labels are integers, floats or fixed-width text of one kind.

Metrics beyond these are the user's: ``run.metric(name, value)``.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stemma.catalog.capture.base import CapturedPredictions
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Metric
from stemma.sdk.adapters.base import Answers

_DISTINCT_LIMIT: Final = 20
"""Float labels with more distinct values than this are taken for regression."""

_CLASS_LIMIT: Final = 1_000
"""Classes beyond this get no metric of their own."""

_SMALLEST_PROBABILITY: Final = 1e-15
_MATRIX: Final = 2


def measure(
    dataset: str,
    row_digests: NDArray[np.uint8],
    answers: Answers,
    labels: NDArray[np.generic] | None,
) -> CapturedPredictions:
    """Measure answers against labels.

    Args:
        dataset: Name of the golden set.
        row_digests: (n, 16) uint8, one per row of it.
        answers: What the model answered on its rows.
        labels: (n,) right answers, or ``None``: then only the answers are kept.

    Raises:
        InvalidInputError: If the number of answers is not the number of rows, or a prediction
            or label is NaN or infinite.
    """
    if len(answers.predictions) != len(row_digests):
        raise InvalidInputError(
            f"{len(answers.predictions)} predictions for {len(row_digests)} rows of {dataset}",
            code="length-mismatch",
            hint="predict must give one answer per row",
        )
    predictions, truth = _same_kind(answers.predictions, labels)
    _refuse_gaps(dataset, predictions, "predictions")
    if truth is not None:
        _refuse_gaps(dataset, truth, "labels")
    if predictions.ndim != 1:
        return _other(dataset, row_digests, answers)
    task = answers.task or _task_of(truth if truth is not None else predictions)
    metrics: tuple[Metric, ...] = ()
    if truth is not None and len(truth):
        metrics = (
            _regression_metrics(predictions, truth)
            if task == "regression"
            else _classification_metrics(predictions, truth, answers)
        )
    return CapturedPredictions(
        dataset=dataset,
        row_digests=row_digests,
        predictions=predictions,
        labels=truth,
        scores=answers.scores,
        task=task,
        metric="r2" if task == "regression" else "accuracy",
        metrics=metrics,
    )


def _refuse_gaps(dataset: str, values: NDArray[Any], what: str) -> None:
    """Refuse values that equal nothing, not even themselves: they cannot be compared."""
    if values.dtype.kind not in "fc":
        return
    count = int(np.count_nonzero(~np.isfinite(values)))
    if count:
        raise InvalidInputError(
            f"{count} of {values.size} {what} on {dataset} are NaN or infinite",
            code="not-finite",
            hint=f"leave those rows out of the test set, or mend what makes the {what}",
        )


def _other(dataset: str, row_digests: NDArray[np.uint8], answers: Answers) -> CapturedPredictions:
    """Several values per row: equal rows are known by a digest of the answer."""
    rows = np.ascontiguousarray(answers.predictions).reshape(len(row_digests), -1)
    texts = np.asarray([" ".join(repr(value) for value in row) for row in rows.tolist()])
    return CapturedPredictions(
        dataset=dataset,
        row_digests=row_digests,
        predictions=texts.astype(np.str_),
        task="other",
        metric="",
    )


def _same_kind(
    predictions: NDArray[Any], labels: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Bring predictions and labels to one kind, so that ``==`` means what a person means."""
    answers = _plain(predictions)
    if labels is None or labels.ndim != 1:
        return answers, None
    truth = _plain(labels)
    if answers.ndim == 1 and (answers.dtype.kind == "U") != (truth.dtype.kind == "U"):
        answers, truth = answers.astype(np.str_), truth.astype(np.str_)
    is_whole = answers.dtype.kind == "f" and truth.dtype.kind in "iu"
    if is_whole and bool(np.all(answers == np.floor(answers))):
        answers = answers.astype(truth.dtype)
    return answers, truth


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == _MATRIX and array.shape[1] == 1:
        array = array[:, 0]
    return array.astype(np.str_) if array.dtype.kind in "bOS" else array


def _task_of(values: NDArray[Any]) -> str:
    if values.dtype.kind != "f":
        return "classification"
    is_whole = bool(np.all(values == np.floor(values)))
    is_few = len(np.unique(values)) <= _DISTINCT_LIMIT
    return "classification" if is_whole and is_few else "regression"


def _metric(name: str, value: float, size: int, part: str = "") -> list[Metric]:
    """Return the metric, or nothing when the value is undefined."""
    if not math.isfinite(value):
        return []
    return [Metric(name=name, value=repr(float(value)), slice=part, sample_size=size)]


def _regression_metrics(predictions: NDArray[Any], truth: NDArray[Any]) -> tuple[Metric, ...]:
    size = len(truth)
    errors = predictions.astype(np.float64) - truth.astype(np.float64)
    spread = float(((truth - truth.mean()) ** 2).sum())
    squares = float((errors**2).sum())
    found = [] if spread == 0.0 else _metric("r2", 1.0 - squares / spread, size)
    found += _metric("rmse", math.sqrt(squares / size), size)
    found += _metric("mae", float(np.abs(errors).mean()), size)
    return tuple(found)


def _classification_metrics(
    predictions: NDArray[Any], truth: NDArray[Any], answers: Answers
) -> tuple[Metric, ...]:
    size = len(truth)
    found = _metric("accuracy", float((predictions == truth).mean()), size)
    f1_scores = []
    classes = np.unique(np.concatenate([truth, predictions]))
    for name in classes.tolist():
        is_class, is_named = truth == name, predictions == name
        support, named = int(is_class.sum()), int(is_named.sum())
        right = int((is_class & is_named).sum())
        f1_scores.append(2 * right / (support + named))
        if support and len(classes) <= _CLASS_LIMIT:
            found += _metric("recall", right / support, support, f"class={name}")
    found += _metric("macro_f1", sum(f1_scores) / len(f1_scores), size)
    return tuple(found + _log_loss(truth, answers))


def _log_loss(truth: NDArray[Any], answers: Answers) -> list[Metric]:
    """Return the log loss; nothing without probabilities of every label that occurs."""
    scores, classes = answers.scores, answers.classes
    if scores is None or scores.ndim != _MATRIX or scores.shape[1] != len(classes):
        return []
    column = {name: index for index, name in enumerate(classes)}
    names = [str(name) for name in truth.tolist()]
    if not set(names) <= set(column) or bool((scores < 0).any()):
        return []
    right = scores[np.arange(len(truth)), [column[name] for name in names]]
    losses = -np.log(np.clip(right.astype(np.float64), _SMALLEST_PROBABILITY, 1.0))
    return _metric("log_loss", float(losses.mean()), len(truth))
