"""Wrong here: a column is given to the model as another, or as another type."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stemma.domain.component import ValueSpec

PREDICT = "/v1/models/digits:predict"
INVOKE = "/invocations"
_RECORDS = [
    {"city": "Wien", "age": 30, "income": 1.5},
    {"income": 2, "city": None, "age": 31},
]
_COLUMNS = {"city": ["Wien", None], "age": [30, 31], "income": [1.5, 2]}
_ROWS = [["Wien", 30, 1.5], [None, 31, 2]]
_SPLIT = {
    "columns": ["age", "city", "income"],
    "data": [[30, "Wien", 1.5], [31, None, 2]],
    "index": [7, 8],
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (INVOKE, {"dataframe_records": _RECORDS}),
        (INVOKE, {"dataframe_split": _SPLIT}),
        (INVOKE, {"inputs": _COLUMNS}),
        (INVOKE, {"instances": _RECORDS}),
        (PREDICT, {"instances": _RECORDS}),
        (PREDICT, {"instances": _ROWS}),
        (PREDICT, {"inputs": _COLUMNS}),
    ],
)
def test_a_table_arrives_in_each_form_with_its_types(
    make_asker: Callable[..., Any], path: str, body: dict[str, Any]
) -> None:
    """The same rows written another way must be the same question."""
    asker = make_asker(is_table=True)
    reply = asker.post(path, body)
    assert (reply.status, reply.json) == (200, {"predictions": [35.5, 33.0]})
    (asked,) = asker.application._model().model.asked
    assert list(asked) == ["city", "age", "income"]
    assert asked["city"].tolist() == ["Wien", None]
    assert (asked["age"].dtype, asked["income"].dtype) == (np.int64, np.float64)


def test_csv_is_read_by_its_header(make_asker: Callable[..., Any]) -> None:
    """As MLflow has it: the first row names the columns; an empty cell is a missing number."""
    body = b"income,age,city\n1.5,30,Wien\n,31,\n"
    asker = make_asker(is_table=True)
    reply = asker.post(INVOKE, body, {"content-type": "text/csv; charset=utf-8"})
    assert reply.json == {"predictions": [35.5, 31.0]}
    assert np.isnan(asker.application._model().model.asked[0]["income"][1])
    reply = make_asker().post(INVOKE, b"0,1\n1,2\n", {"content-type": "text/csv"})
    assert reply.json == {"predictions": [3.0]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"city,age\nWien,1\n", "missing input income"),
        (b"city,age,income,colour\nWien,1,2,red\n", "no input 'colour'"),
        (b"city,age,income\nWien,x,2\n", "age[0] is 'x', needs INT64 [-1]"),
        (b"city,age,income\nWien,1\n", "row 0 of the CSV has 2 cells, the header 3"),
        (b"city,age,income\n", "at least one row"),
        (b"\xff\xfe", "no CSV in UTF-8"),
    ],
)
def test_a_wrong_csv_is_named(make_asker: Callable[..., Any], body: bytes, said: str) -> None:
    """Cell, column and what is needed stand in the message."""
    reply = make_asker(is_table=True).post(INVOKE, body, {"content-type": "text/csv"})
    assert reply.status == 400
    assert said in reply.error
    assert reply.json["error_code"] == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([["Wien", "30", 1.5]], "age[0] is str, needs INT64 [-1]"),
        ([["Wien", 30.5, 1.5]], "age[0] is float, needs INT64 [-1]"),
        ([["Wien", None, 1.5]], "age[0] is null, needs INT64 [-1]"),
        ([["Wien", 2**70, 1.5]], "age holds a number that does not fit, needs INT64"),
        ([["Wien", 30, "1.5"]], "income[0] is str, needs FP64 [-1]"),
        ([["Wien", 30, 1.5], [5, 30, 1.5]], "city[1] is int, needs BYTES [-1]"),
        ([["Wien", 30]], "row 0 has 2 values, needs 3: city, age, income"),
        ([{"city": "Wien", "age": 30}], "row 0: missing input income (FP64 [-1])"),
        ([{"city": "W", "agee": 3, "income": 1}], "no input 'agee'; needed are city, age"),
    ],
)
def test_a_wrong_value_is_named(make_asker: Callable[..., Any], rows: Any, said: str) -> None:
    """Input, row, what was sent and what is needed stand in the message."""
    reply = make_asker(is_table=True).post(PREDICT, {"instances": rows})
    assert reply.status == 400
    assert said in reply.error


def test_columns_of_unequal_length_are_named(make_asker: Callable[..., Any]) -> None:
    """Rows must not be paired with those of another column."""
    reply = make_asker(is_table=True).post(PREDICT, {"inputs": _COLUMNS | {"age": [1]}})
    assert reply.status == 400
    assert "city 2, age 1, income 2" in reply.error


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1, 2, 3]], "X has shape [1, 3], needs FP64 [-1, 2]"),
        ([1, 2], "X[0] is int, needs FP64 [-1, 2]"),
        ([[1, 2], [3]], "X has rows of different length"),
        ([[[1, 2]]], "X[0][0] is array, needs FP64 [-1, 2]"),
        ([[True, 2]], "X[0][0] is bool, needs FP64 [-1, 2]"),
    ],
)
def test_a_wrong_array_is_named(make_asker: Callable[..., Any], rows: Any, said: str) -> None:
    """A model of 64 pixels must say so."""
    reply = make_asker().post(PREDICT, {"instances": rows})
    assert reply.status == 400
    assert said in reply.error


def test_another_declared_method_is_reached_each_way(make_asker: Callable[..., Any]) -> None:
    """Probabilities are asked for as often as classes."""
    asker, body = make_asker(), {"instances": [[1, 2]]}
    wanted = {"predictions": [[3.0, -3.0]]}
    assert asker.post("/v1/models/digits:predict_proba", body).json == wanted
    assert asker.post(PREDICT, body | {"parameters": {"method": "predict_proba"}}).json == wanted
    assert asker.post(INVOKE, body | {"params": {"method": "predict_proba"}}).json == wanted
    assert asker.post(INVOKE + "?method=predict_proba", body).json == wanted


def test_a_model_of_one_column_or_of_text_takes_plain_values(
    make_asker: Callable[..., Any],
) -> None:
    """Nobody wraps each text into a list."""
    text = (ValueSpec(name="text", dtype="str", shape=(-1,), aliases=("message",)),)
    asker = make_asker(inputs=text)
    for rows in (["a", "bc"], [["a"], ["bc"]], [{"text": "a"}, {"message": "bc"}]):
        assert asker.post(PREDICT, {"instances": rows}).json == {"predictions": [1.0, 2.0]}


def test_an_optional_column_may_be_left_out(make_asker: Callable[..., Any]) -> None:
    """The signature says so."""
    inputs = (
        ValueSpec(name="a", dtype="float64", shape=(-1,)),
        ValueSpec(name="b", dtype="float64", shape=(-1,), is_optional=True),
    )
    asker = make_asker(inputs=inputs)
    assert asker.post(PREDICT, {"instances": [{"a": 1}]}).json == {"predictions": [1.0]}
    mixed = {"instances": [{"a": 1}, {"a": 2, "b": 3}]}
    assert asker.post(PREDICT, mixed).json == {"predictions": [1.0, 5.0]}


def test_without_a_signature_any_numbers_are_taken(make_asker: Callable[..., Any]) -> None:
    """A torch module recorded without a test set says nothing about its inputs."""
    asker = make_asker(inputs=())
    for rows in ([1, 2], [[1], [2]], [[[1]], [[2]]]):
        assert asker.post(PREDICT, {"instances": rows}).json == {"predictions": [1.0, 2.0]}
    assert asker.post(PREDICT, {"instances": ["a"]}).status == 400


def test_one_long_text_among_many_costs_no_more_than_its_bytes(
    make_asker: Callable[..., Any],
) -> None:
    """A fixed-width array would need 100 GB here."""
    asker = make_asker(inputs=(ValueSpec(name="text", dtype="str", shape=(-1,)),))
    started = time.perf_counter()
    reply = asker.post(PREDICT, {"instances": ["a" * 1_000_000] + ["b"] * 25_000})
    assert reply.status == 200
    assert time.perf_counter() - started < 1


def test_empty_rows_by_the_million_are_refused_before_they_become_objects(
    make_asker: Callable[..., Any],
) -> None:
    """Three bytes each as text would be sixty in memory."""
    asker = make_asker(inputs=(ValueSpec(name="X", dtype="float64", shape=(-1, 64)),))
    body = b'{"instances": [' + b"[]," * 4_000_000 + b"[]]}"
    started = time.perf_counter()
    reply = asker.post(PREDICT, body)
    assert time.perf_counter() - started < 0.5
    assert (reply.status, "rows of different length" in reply.error) == (400, True)


@pytest.mark.slow
def test_many_short_rows_are_taken(make_asker: Callable[..., Any]) -> None:
    """A large body that is whole must not be taken for a hollow one."""
    for width, text in ((1, b"[1],"), (2, b"[1,2],")):
        asker = make_asker(inputs=(ValueSpec(name="X", dtype="float64", shape=(-1, width)),))
        body = b'{"instances": [' + text * 300_000 + text[:-1] + b"]}"
        assert len(asker.post(PREDICT, body).json["predictions"]) == 300_001
