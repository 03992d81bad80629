"""Containers become plain arrays, so that equal rows are found equal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stemma.catalog.capture.rows import digest_rows
from stemma.domain.errors import InvalidInputError
from stemma.sdk.adapters.arrays import as_table


def test_a_frame_of_numbers_has_the_rows_of_its_array() -> None:
    """Training rows in a test set would go unnoticed because one came as a DataFrame."""
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    table = as_table(frame)
    assert np.array_equal(table.features, [[1.0, 0.5], [2.0, 1.5]])
    assert table.column_dtypes == {"a": "int64", "b": "float64"}
    assert np.array_equal(digest_rows(table.features), digest_rows(np.array([[1, 0.5], [2, 1.5]])))


def test_a_frame_of_several_kinds_keeps_its_schema() -> None:
    """Columns of text would be lost or pickled."""
    frame = pd.DataFrame({"n": [1.5, np.nan], "s": ["x", None], "t": [True, False]})
    table = as_table((frame, pd.Series([0, 1])))
    assert table.column_dtypes == {"n": "float64", "s": "str", "t": "bool"}
    assert table.features.tolist() == [["1.5", "x", "True"], ["", "", "False"]]
    assert table.labels is not None
    assert table.labels.tolist() == [0, 1]


def test_lists_and_sparse_matrices_are_read() -> None:
    """Only numpy arrays would be accepted."""
    assert as_table(["a", "bc"]).features.dtype.kind == "U"
    assert as_table(csr_matrix([[0, 1], [2, 0]])).features.tolist() == [[0, 1], [2, 0]]
    assert as_table(([[1.0], [2.0]], [[0], [1]])).labels is not None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "one value"),
        (([[1], [2]], [1]), "2 rows but 1 labels"),
        ([[1], [2, 3]], "different length"),
        ([object()], "values of type object"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "same name"),
        (pd.DataFrame(), "without columns"),
    ],
)
def test_what_has_no_plain_form_is_refused(value: object, message: str) -> None:
    """A dataset would be recorded as a pickle or as addresses in memory."""
    with pytest.raises(InvalidInputError, match=message):
        as_table(value)
