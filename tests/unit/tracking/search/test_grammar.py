"""The filter language: what is read, what is refused, and where."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.domain.errors import InvalidInputError
from stemma.tracking.search.fields import (
    EXPERIMENT_FIELDS,
    LOGGED_MODEL_FIELDS,
    MODEL_VERSION_FIELDS,
    REGISTERED_MODEL_FIELDS,
    RUN_FIELDS,
    resolve,
    resolve_order,
)
from stemma.tracking.search.grammar import (
    CLAUSES_LIMIT,
    FILTER_LENGTH_LIMIT,
    LIST_LIMIT,
    ORDER_LIMIT,
    TEXT_LENGTH_LIMIT,
    FilterValue,
    parse_filter,
    parse_order,
)

ALL_FIELDS = (
    RUN_FIELDS,
    EXPERIMENT_FIELDS,
    LOGGED_MODEL_FIELDS,
    REGISTERED_MODEL_FIELDS,
    MODEL_VERSION_FIELDS,
)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("metrics.loss < 0.5", ("metrics", "loss", "<", 0.5)),
        ("metrics.`val loss`>=-1e3", ("metrics", "val loss", ">=", -1000.0)),
        ('`metric`."a.b" = .5', ("metric", "a.b", "=", 0.5)),
        ("metrics.val/loss-2:x <> 3", ("metrics", "val/loss-2:x", "!=", 3)),
        ("metrics.a > 99999999999999999999", ("metrics", "a", ">", 1e20)),
        ("params.lr='0.1'", ("params", "lr", "=", "0.1")),
        ('tags.mlflow.source.name LIKE "%.py"', ("tags", "mlflow.source.name", "LIKE", "%.py")),
        ("tags.a = 'it''s'", ("tags", "a", "=", "it's")),
        ("tags.a iLiKe ''", ("tags", "a", "ILIKE", "")),
        ("run_id IN ('a','b')", ("", "run_id", "IN", ("a", "b"))),
        ("run_id Not In ( 'a' , )", ("", "run_id", "NOT IN", ("a",))),
        ("`Run name` = 'x'", ("", "Run name", "=", "x")),
        ("tags.a is null", ("tags", "a", "IS NULL", None)),
        ("tags.a IS NOT NULL", ("tags", "a", "IS NOT NULL", None)),
    ],
)
def test_a_comparison_is_read(text: str, read: tuple[str, str, str, FilterValue]) -> None:
    """A filter that MLflow's clients send would be refused, or mean something else."""
    for padded in (text, f"  {text}\n", f"{text} AND params.other = 'x'"):
        clause = parse_filter(padded)[0]
        name = clause.identifier
        assert (name.entity, name.key, clause.comparison.value, clause.value) == read


def test_comparisons_are_joined_by_and() -> None:
    """Only part of a filter would count."""
    assert parse_filter("") == parse_filter("  ") == ()
    assert len(parse_filter("metrics.a > 1 and metrics.b<2 AND tags.c = 'and'")) == 3


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("metrics.loss", "its end", "comparison"),
        ("metrics.loss <", "its end", "number"),
        ("metrics.a > 1 or metrics.b > 1", "character 15", "only AND"),
        ("metrics.a > 1 metrics.b > 1", "character 15", "only AND"),
        ("metrics.a > 1 and", "its end", "name"),
        ("(metrics.a > 1)", "character 1", "not grouped"),
        ("params.a = 'x", "character 12", "not closed"),
        ("metrics. a > 1", "character 10", "right after the dot"),
        ("metrics.a == 1", "character 11", "single ="),
        ("tags.a NOT 'x'", "character 12", "IN is expected"),
        ("tags.a IS 'x'", "character 11", "NULL is expected"),
        ("tags.a IN 'x'", "character 11", "'('"),
        ("tags.a IN ()", "character 12", "text"),
        ("tags.a IN (1)", "character 12", "text"),
        ("tags.a = ('x')", "character 10", "IN"),
        ("tags.a = b", "character 10", "quotes"),
        ("tags.a = 'x'; drop", "character 13", "unknown character"),
        ("tags.a = 'x\0'", "character 12", "no text may hold"),
        ("tags.a = '\ud800'", "character 11", "no text may hold"),
        ("tags.`` = 'x'", "character 9", "key"),
        ("5 > metrics.a", "character 5", "number or a text"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, place: str, problem: str) -> None:
    """A user would have to guess which part of a long filter is wrong."""
    with pytest.raises(InvalidInputError) as refused:
        parse_filter(text)
    assert place in refused.value.message
    assert problem in refused.value.message
    assert refused.value.code == "bad-filter"


@pytest.mark.parametrize(
    "text",
    [
        "x" * (FILTER_LENGTH_LIMIT + 1),
        " and ".join(["tags.a = 'x'"] * (CLAUSES_LIMIT + 1)),
        f"tags.a = '{'x' * (TEXT_LENGTH_LIMIT + 1)}'",
        "tags.a IN (" + ",".join(["'x'"] * (LIST_LIMIT + 1)) + ")",
        f"metrics.a > {'9' * 100}",
        "(" * 50_000,
        "`" * 50_001,
    ],
)
def test_a_filter_is_bounded(text: str) -> None:
    """One request could keep the server busy."""
    with pytest.raises(InvalidInputError):
        parse_filter(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("metrics.loss < 'a'", "a number"),
        ("params.a = 1", "a text in quotes"),
        ("params.a > 'x'", "not compared by >"),
        ("metrics.a LIKE 'x'", "not compared by LIKE"),
        ("metrics.a IN ('1')", "not compared by IN"),
        ("start_time = '5'", "a number"),
        ("status IS NULL", "not compared by IS NULL"),
        ("dataset.size = 'x'", "no attribute 'size'"),
        ("stats = 'x'", "did you mean status"),
        ("metric5.a = 1", "no 'metric5'"),
    ],
)
def test_a_comparison_fits_what_is_compared(text: str, problem: str) -> None:
    """A mistaken filter would find nothing, in silence."""
    with pytest.raises(InvalidInputError, match="at character 1") as refused:
        resolve(RUN_FIELDS, text)
    assert problem in refused.value.message


@pytest.mark.parametrize("text", ["experiment_id = 'a'", "experiment_id IN ('1', '2.5')"])
def test_numbers_of_records_are_whole(text: str) -> None:
    """A wrong id would be compared as something else."""
    with pytest.raises(InvalidInputError, match="numbers"):
        resolve(EXPERIMENT_FIELDS, text)


def test_an_order_is_read() -> None:
    """A table would be ordered by another column, or the wrong way."""
    assert [
        (key.identifier.key, key.is_ascending)
        for key in parse_order('metrics.`val loss` DESC, start_time,params."a b" asc')
    ] == [("val loss", False), ("start_time", True), ("a b", True)]
    assert parse_order("") == ()


@pytest.mark.parametrize(
    "texts",
    [
        ["metrics.loss UP"],
        ["metrics.loss params.a"],
        ["metrics.loss,,params.a"],
        ["metrics.loss desc desc"],
        [">"],
        ["dataset.name"],
        ["start_time", "created DESC"],
        ["metrics.a"] * (ORDER_LIMIT + 1),
        [",".join(["metrics.a"] * (ORDER_LIMIT + 1))],
    ],
)
def test_an_order_that_cannot_be_is_refused(texts: list[str]) -> None:
    """A table would come in an order that nobody asked for."""
    with pytest.raises(InvalidInputError) as refused:
        resolve_order(RUN_FIELDS, texts)
    assert refused.value.code == "bad-order"


WORDS = (
    'metrics. params.` tags." attributes. dataset.name run_id experiment_id version_number name '
    "`ab` 'x' \"y\" '' -1 2.5e3 .5 = != <> < <= > >= LIKE ilike IN NOT IS NULL AND or ( ) , . ; "
    "' \" ` \\ ü \x00 \ud800 \u2028 DESC asc"
)
PIECES = st.sampled_from(WORDS.split(" "))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    pieces=st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=12),
    glue=st.sampled_from(["", " "]),
)
def test_any_text_is_read_or_refused(pieces: list[str], glue: str) -> None:
    """A strange filter would end in a crash of the server."""
    text = glue.join(pieces)
    for fields in ALL_FIELDS:
        with suppress(InvalidInputError):
            resolve(fields, text)
        with suppress(InvalidInputError):
            resolve_order(fields, [text])
