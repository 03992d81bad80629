"""Turns what people train with (arrays, pairs, DataFrames, tensors, lists) into plain arrays.

Invariants:
    * The row digests of a training set and of a test set are taken from arrays made here, so
      equal rows are found equal whatever container they came in.
    * A DataFrame library is never imported: an object with columns is read through them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stemma.domain.errors import InvalidInputError

MISSING_TEXT: Final = ""
"""Stands for a missing value among text, as an empty cell of a CSV file does."""

_PAIR_LENGTH: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows as plain arrays.

    Attributes:
        features: (n, …) numbers or fixed-width text; columns of several kinds become text cells.
        labels: (n,) or (n, k) right answers; ``None`` when there are none.
        column_dtypes: numpy's dtype name (``str`` for text) by name of the feature column, in
            order; empty when columns have no names.
    """

    features: NDArray[np.generic]
    labels: NDArray[np.generic] | None = None
    column_dtypes: Mapping[str, str] = field(default_factory=dict)


def is_frame(value: object) -> bool:
    """Say whether ``value`` has named columns (pandas, polars, or alike)."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__") and hasattr(value, "shape")


def is_pair(value: object) -> bool:
    """Say whether ``value`` is ``(X, y)``: a tuple of two containers of equal length."""
    if not isinstance(value, tuple) or len(value) != _PAIR_LENGTH:
        return False
    return all(hasattr(part, "__len__") and not isinstance(part, str) for part in value)


def split_pair(value: object) -> tuple[Any, Any]:
    """Return ``(X, y)``; ``y`` is ``None`` when ``value`` is no pair."""
    if is_pair(value) and isinstance(value, tuple):
        return value[0], value[1]
    return value, None


def as_table(value: object) -> Table:
    """Read ``X``, ``(X, y)`` or a DataFrame.

    Raises:
        InvalidInputError: If the lengths differ, or a value has no plain form.
    """
    features, labels = split_pair(value)
    dtypes: Mapping[str, str] = {}
    if is_frame(features):
        array, dtypes = _read_frame(features)
    else:
        array = as_array(features)
    answers = None if labels is None else _as_labels(labels)
    if array.ndim == 0:
        raise InvalidInputError(
            f"a dataset has rows; this is one value of type {type(features).__name__}",
            code="no-rows",
            hint="pass an array, (X, y), a DataFrame, or the path of a file or folder",
        )
    if answers is not None and len(answers) != len(array):
        raise InvalidInputError(
            f"{len(array)} rows but {len(answers)} labels", code="length-mismatch"
        )
    return Table(features=array, labels=answers, column_dtypes=dtypes)


def as_array(value: Any) -> NDArray[np.generic]:
    """Return numbers, or fixed-width text; never objects.

    Raises:
        InvalidInputError: If the values are neither.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "toarray"):
        value = value.toarray()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidInputError(
            f"rows of different length cannot be recorded as an array: {error}",
            code="ragged-rows",
            hint="write them to a file and pass its path",
        ) from error
    if array.dtype.kind == "O":
        return _from_objects(array)
    if array.dtype.kind in "Mm":
        return array.astype(np.int64)
    return array


def _from_objects(array: NDArray[np.generic]) -> NDArray[np.generic]:
    items = array.ravel().tolist()
    if all(isinstance(item, int | float) or _is_missing(item) for item in items):
        numbers = [np.nan if _is_missing(item) else float(item) for item in items]
        return np.asarray(numbers, dtype=np.float64).reshape(array.shape)
    if all(isinstance(item, str) or _is_missing(item) for item in items):
        texts = [MISSING_TEXT if _is_missing(item) else item for item in items]
        return np.asarray(texts, dtype=np.str_).reshape(array.shape)
    kinds = sorted({type(item).__name__ for item in items})
    raise InvalidInputError(
        f"values of type {', '.join(kinds)} cannot be recorded as an array",
        code="no-plain-form",
        hint="convert the column to numbers or text, or pass the path of a file",
    )


def _is_missing(item: object) -> bool:
    return item is None or item != item or type(item).__name__ == "NAType"  # noqa: PLR0124 - NaN


def _as_labels(labels: object) -> NDArray[np.generic]:
    if is_frame(labels):
        array, _ = _read_frame(labels)
    else:
        array = as_array(labels)
    if array.ndim > 1 and array.shape[1:] == (1,):
        array = array[:, 0]
    return array


def _read_frame(frame: Any) -> tuple[NDArray[np.generic], dict[str, str]]:
    names = [str(name) for name in frame.columns]
    if len(set(names)) != len(names):
        raise InvalidInputError(
            "two columns have the same name", code="duplicate-column", hint="rename one of them"
        )
    if not names:
        raise InvalidInputError("a DataFrame without columns", code="no-columns")
    columns = [_read_column(frame[name]) for name in frame.columns]
    dtypes = {
        name: "str" if column.dtype.kind in "US" else column.dtype.name
        for name, column in zip(names, columns, strict=True)
    }
    if all(column.dtype.kind in "iufb" for column in columns):
        return np.column_stack(columns), dtypes
    return np.column_stack([_as_text(column) for column in columns]), dtypes


def _as_text(column: NDArray[np.generic]) -> NDArray[np.generic]:
    """Write numbers as ``repr`` does, a missing one as an empty cell."""
    if column.dtype.kind in "US":
        return column.astype(np.str_)
    cells = [MISSING_TEXT if _is_missing(value) else repr(value) for value in column.tolist()]
    return np.asarray(cells, dtype=np.str_)


def _read_column(column: Any) -> NDArray[np.generic]:
    values = column.to_numpy() if hasattr(column, "to_numpy") else column
    return as_array(values)
