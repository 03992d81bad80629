"""``golden.npz``: a few rows of the golden set and what the version answered on them.

Layout (numpy ``npz`` without pickles):
    * ``names`` (k,) text: names of the columns in order; empty for inputs without names.
    * ``input_0`` to ``input_<k-1>`` (n,) each: the columns; without names ``input_0`` (n, …) alone.
    * ``prediction`` (n,): the answers as they were recorded (``stemma.sdk.measure``): integers,
      floats or text; of several values per row, their ``repr`` joined by blanks.

Invariants:
    * Inputs keep the type they were recorded with, so that rounding is the same.
    * Reading never unpickles.

This module does not choose the rows; see ``stemma.delivery.slots.golden``.

Example:
    >>> write_golden(path, {"": rows}, answers)  # doctest: +SKIP
    >>> agrees(read_golden(path).predictions, model.predict(rows), "classification", 0.0)
    ... # doctest: +SKIP
    True
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stemma.domain.component import Signature
from stemma.domain.errors import IntegrityError, InvalidInputError

_RELATIVE: Final = 1e-4
"""A float may differ by this share: batch size and threads change the order of sums."""

_NEAR_ZERO: Final = 1e-6
"""Share of the largest recorded value by which a value near zero may differ."""

_MATRIX: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Rows and the answers that were recorded for them.

    Attributes:
        inputs: Columns by name in order; or one array under the empty name.
        predictions: (n,) recorded answers.
    """

    inputs: Mapping[str, NDArray[np.generic]]
    predictions: NDArray[np.generic]

    def fitted_to(self, signature: Signature) -> dict[str, NDArray[np.generic]]:
        """Return the inputs under the names of the signature.

        Raises:
            InvalidInputError: If the rows do not have the columns the signature names.
        """
        names = [spec.name for spec in signature.inputs]
        inputs = dict(self.inputs)
        if list(inputs) == [""]:
            rows = inputs[""]
            if len(names) <= 1:
                return {names[0] if names else "input": rows}
            if rows.ndim == _MATRIX and rows.shape[1] == len(names):
                return {name: rows[:, index] for index, name in enumerate(names)}
        elif set(names) <= set(inputs):
            return {name: inputs[name] for name in names}
        elif len(names) == 1:
            return {names[0]: np.column_stack(list(inputs.values()))}
        raise InvalidInputError(
            f"the golden rows have {', '.join(inputs) or 'no'} columns, "
            f"the signature names {', '.join(names)}",
            code="golden-does-not-fit",
            hint="stemma show lists the version's signature",
        )


def write_golden(
    path: Path, inputs: Mapping[str, NDArray[np.generic]], predictions: NDArray[np.generic]
) -> None:
    """Write ``golden.npz``.

    Args:
        path: The file.
        inputs: Columns by name in order; or one array under the empty name.
        predictions: (n,) recorded answers to these rows.

    Raises:
        InvalidInputError: If the lengths differ.
    """
    lengths = {len(array) for array in (*inputs.values(), predictions)}
    if not inputs or len(lengths) != 1:
        raise InvalidInputError(
            f"golden rows and answers have lengths {sorted(lengths)}", code="length-mismatch"
        )
    names = [] if list(inputs) == [""] else list(inputs)
    arrays = {f"input_{index}": array for index, array in enumerate(inputs.values())}
    np.savez(
        path,
        allow_pickle=False,
        names=np.asarray(names, dtype=np.str_),
        prediction=predictions,
        **arrays,
    )


def read_golden(path: Path) -> Golden:
    """Read ``golden.npz``.

    Raises:
        IntegrityError: If it is missing or no such file.
    """
    try:
        # Opened here, for numpy leaves its own file open when the archive is malformed.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = [str(name) for name in archive["names"].tolist()] or [""]
            return Golden(
                inputs={name: archive[f"input_{index}"] for index, name in enumerate(names)},
                predictions=archive["prediction"],
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(
            f"{path.name} cannot be read: {error}", code="bad-golden", hint="stemma doctor"
        ) from error


def agrees(
    recorded: NDArray[np.generic], answered: NDArray[np.generic], task: str, tolerance: float
) -> bool:
    """Say whether answers are the recorded ones.

    Args:
        recorded: (n,) as in ``golden.npz``.
        answered: (n,) or (n, …) as the model answered now.
        task: Classes must be equal; numbers of another task may differ a little.
        tolerance: Largest absolute difference; 0: 1e-4 of the value.
    """
    if len(recorded) != len(answered):
        return False
    if answered.ndim > 1 and answered[0].size == 1:
        answered = answered.reshape(len(answered))
    if answered.ndim > 1:
        return _agree_rows(recorded, answered, tolerance)
    if recorded.dtype.kind == "U" or answered.dtype.kind not in "iufb":
        return bool(np.array_equal(recorded.astype(np.str_), answered.astype(np.str_)))
    if task == "classification" and (recorded.dtype.kind != "f" or answered.dtype.kind != "f"):
        return bool(np.array_equal(recorded, answered))
    return _are_close(recorded, answered, tolerance)


def _agree_rows(recorded: NDArray[Any], answered: NDArray[Any], tolerance: float) -> bool:
    """Compare several values per row, as numbers where all of them are."""
    rows = answered.reshape(len(answered), -1)
    if rows.dtype.kind == "f" and recorded.dtype.kind == "U":
        try:
            numbers = np.asarray([text.split(" ") for text in recorded.tolist()], dtype=np.float64)
        except ValueError:
            return False
        return numbers.shape == rows.shape and _are_close(numbers, rows, tolerance)
    texts = [" ".join(repr(value) for value in row) for row in rows.tolist()]
    return bool(texts == recorded.tolist())


def _are_close(recorded: NDArray[Any], answered: NDArray[Any], tolerance: float) -> bool:
    wanted = recorded.astype(np.float64)
    if tolerance:
        return bool(np.allclose(answered, wanted, rtol=0.0, atol=tolerance))
    largest = float(np.abs(wanted).max(initial=0.0))
    return bool(np.allclose(answered, wanted, rtol=_RELATIVE, atol=_NEAR_ZERO * largest))
