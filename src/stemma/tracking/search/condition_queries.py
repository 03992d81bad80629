"""Conditions of a filter as SQL, for SQLite and PostgreSQL alike.

Invariants:
    * Every value of a filter is a bound parameter.
    * Both engines give the same answer: ``LIKE`` minds case and ``ILIKE`` does not, no
      character escapes another, and NaN, which is kept as NULL, differs from every number and
      is neither less nor more than any.
    * A record without a metric, param or tag matches no comparison of it but ``IS NULL``.

This module reads no rows.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Table,
    and_,
    exists,
    false,
    literal,
    or_,
    true,
)

from stemma.domain.canonical import timestamp
from stemma.domain.errors import InvalidInputError
from stemma.tracking.search.fields import Condition, Entity, Kind
from stemma.tracking.search.grammar import Comparison, FilterValue

Clause: TypeAlias = ColumnElement[bool]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FOREIGN_RUN: Final = re.compile(r"[0-9a-f]{32}")
_INTEGER_LIMIT: Final = 2**63
_EXPERIMENTS_LIMIT: Final = 20_000
_BEFORE_ALL: Final = "0000"
_FIRST_YEAR: Final = 1000  # the canonical text of earlier ones has no four digits
_AFTER_ALL: Final = "9999-12-31T23:59:59.999999ZZ"
_OPERATORS: Final[dict[Comparison, Callable[[Any, Any], Any]]] = {
    Comparison.EQUAL: operator.eq,
    Comparison.UNEQUAL: operator.ne,
    Comparison.LESS: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.GREATER: operator.gt,
    Comparison.AT_LEAST: operator.ge,
}
_NEGATIONS: Final = {
    Comparison.UNEQUAL: Comparison.EQUAL,
    Comparison.NOT_IN: Comparison.IN,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Where one kind of record stands.

    Attributes:
        table: Its table.
        columns: Its attributes, by our names for them.
        parts: Tables of its metrics, params, tags and datasets.
        owners: For each column of ``table``'s key, what it is called in the parts.
        states: Words that stand for each stored state.
        runs: Attributes that hold a run's id, which clients may write without its ``r-``.
        metric_condition: What a metric must meet besides, such as a dataset.
    """

    table: Table
    columns: Mapping[str, ColumnElement[Any]]
    parts: Mapping[Entity, Table] = field(default_factory=dict)
    owners: Mapping[str, str]
    states: Mapping[str, Sequence[str]] = field(default_factory=dict)
    runs: frozenset[str] = frozenset()
    metric_condition: Callable[[FromClause], Clause] | None = None


def compile_condition(source: Source, condition: Condition, dialect: str) -> Clause:
    """Return a condition as SQL over the source's table."""
    if condition.field.entity is not Entity.ATTRIBUTE:
        return _part_condition(source, condition, dialect)
    named = condition.field
    column = source.columns[named.key]
    if condition.comparison in {Comparison.IS_NULL, Comparison.IS_NOT_NULL}:
        is_wanted = condition.comparison is Comparison.IS_NULL
        return column.is_(None) if is_wanted else column.is_not(None)
    match named.kind:
        case Kind.MOMENT:
            return _moment(column, condition.comparison, condition.value)
        case Kind.STATE:
            return _state(source, column, condition)
        case Kind.NUMBER:
            return number_condition(column, condition.comparison, condition.value)
        case Kind.TEXT:
            value = condition.value
            if named.key in source.runs:
                value = _run_ids(value)
            return text_condition(column, condition.comparison, value, dialect)


def within(column: ColumnElement[int], numbers: Sequence[int]) -> Clause:
    """Return that an experiment is one of these; numbers that none can have are left out.

    Raises:
        InvalidInputError: If they are more than a statement takes.
    """
    kept = sorted({number for number in numbers if abs(number) < _INTEGER_LIMIT})
    if len(kept) > _EXPERIMENTS_LIMIT:
        raise InvalidInputError(
            f"a search in {len(kept)} experiments; at most {_EXPERIMENTS_LIMIT} are taken",
            code="bad-filter",
        )
    # With "=" SQLite reads an index in order, with IN it does not.
    return column == kept[0] if len(kept) == 1 else column.in_(kept)


def part_of(source: Source, part: FromClause, entity: Entity, key: str) -> Clause:
    """Return that a row of ``part`` is the metric, param or tag ``key`` of the record."""
    same = [part.c[owned] == source.table.c[own] for own, owned in source.owners.items()]
    if entity is Entity.METRIC:
        if source.metric_condition is not None:
            same.append(source.metric_condition(part))
        return and_(*same, part.c.name == key)
    return and_(*same, part.c.key == key)


def value_condition(column: ColumnElement[Any], condition: Condition, dialect: str) -> Clause:
    """Return that the value of a metric, param or tag compares so."""
    if condition.comparison in {Comparison.IS_NULL, Comparison.IS_NOT_NULL}:
        return true()
    if condition.field.entity is Entity.METRIC:
        clause = number_condition(column, condition.comparison, condition.value)
        return or_(clause, column.is_(None)) if _differs(condition) else clause
    return text_condition(column, condition.comparison, condition.value, dialect)


def number_condition(
    column: ColumnElement[Any], comparison: Comparison, value: FilterValue
) -> Clause:
    """Return that a number compares so."""
    if isinstance(value, tuple):
        is_in = column.in_([int(item) for item in value])
        return ~is_in if comparison is Comparison.NOT_IN else is_in
    if isinstance(value, float) and math.isinf(value):
        value = math.copysign(1.7976931348623157e308, value)  # as infinities are kept
    # PostgreSQL would round a fraction to the column's whole numbers.
    bound = literal(value, Double() if isinstance(value, float) else column.type)
    clause: Clause = _OPERATORS[comparison](column, bound)
    return clause


def text_condition(
    column: ColumnElement[Any], comparison: Comparison, value: FilterValue, dialect: str
) -> Clause:
    """Return that a text compares so."""
    if isinstance(value, tuple):
        is_in = column.in_(value)
        return ~is_in if comparison is Comparison.NOT_IN else is_in
    pattern = str(value)
    is_sqlite = dialect == "sqlite"
    if comparison is Comparison.LIKE:
        # SQLite's LIKE minds no case.
        return (
            column.bool_op("GLOB")(_glob(pattern)) if is_sqlite else column.like(pattern, escape="")
        )
    if comparison is Comparison.ILIKE:
        return column.like(pattern) if is_sqlite else column.ilike(pattern, escape="")
    clause: Clause = _OPERATORS[comparison](column, pattern)
    return clause


def _part_condition(source: Source, condition: Condition, dialect: str) -> Clause:
    """Return that the record has, or has not, a row of a part."""
    entity, key = condition.field.entity, condition.field.key
    part = source.parts[entity].alias()
    if entity is Entity.DATASET:
        same = [part.c[owned] == source.table.c[own] for own, owned in source.owners.items()]
        compared = text_condition(part.c[key], condition.comparison, condition.value, dialect)
        return exists().where(*same, compared)
    found = exists().where(
        part_of(source, part, entity, key), value_condition(part.c.value, condition, dialect)
    )
    return ~found if condition.comparison is Comparison.IS_NULL else found


def _differs(condition: Condition) -> bool:
    return condition.comparison is Comparison.UNEQUAL


def _moment(column: ColumnElement[Any], comparison: Comparison, value: FilterValue) -> Clause:
    """Compare a moment with milliseconds since 1970; clients see whole milliseconds only."""
    number = value if isinstance(value, int | float) else 0
    if isinstance(number, float) and math.isinf(number):
        number = math.copysign(1e300, number)
    least, following = math.ceil(number), math.floor(number) + 1
    is_whole = least + 1 == following
    match comparison:
        case Comparison.LESS:
            return column < _bound(least)
        case Comparison.AT_MOST:
            return column < _bound(following)
        case Comparison.GREATER:
            return column >= _bound(following)
        case Comparison.AT_LEAST:
            return column >= _bound(least)
        case Comparison.EQUAL:
            within = and_(column >= _bound(least), column < _bound(following))
            return within if is_whole else false()
        case _:
            without = or_(column < _bound(least), column >= _bound(following))
            return without if is_whole else column.is_not(None)


def _bound(milliseconds: int) -> str:
    """Return the canonical text of a moment, or one before or after all of them."""
    try:
        moment = _EPOCH + milliseconds * _MILLISECOND
    except OverflowError:
        return _BEFORE_ALL if milliseconds < 0 else _AFTER_ALL
    return timestamp(moment) if moment.year >= _FIRST_YEAR else _BEFORE_ALL


def _state(source: Source, column: ColumnElement[Any], condition: Condition) -> Clause:
    """Compare a state by the words for it; there are few, so it is done here."""
    comparison = _NEGATIONS.get(condition.comparison, condition.comparison)
    meant = [
        state
        for state, words in source.states.items()
        if any(_matches(word, comparison, condition.value) for word in words)
    ]
    is_in = column.in_(meant)
    return ~is_in if condition.comparison in _NEGATIONS else is_in


def _matches(word: str, comparison: Comparison, value: FilterValue) -> bool:
    match comparison:
        case Comparison.LIKE | Comparison.ILIKE:
            flags = re.IGNORECASE if comparison is Comparison.ILIKE else re.NOFLAG
            pattern = "".join(
                ".*" if mark == "%" else "." if mark == "_" else re.escape(mark)
                for mark in re.sub("%+", "%", str(value))
            )
            return re.fullmatch(pattern, word, flags) is not None
        case Comparison.IN:
            return isinstance(value, tuple) and word in value
        case _:
            return word == value


def _run_ids(value: FilterValue) -> FilterValue:
    if isinstance(value, tuple):
        return tuple(_run_id(item) for item in value)
    return _run_id(value) if isinstance(value, str) else value


def _run_id(text: str) -> str:
    return f"r-{text}" if _FOREIGN_RUN.fullmatch(text) else text


def _glob(pattern: str) -> str:
    """Return a pattern of LIKE as one of GLOB."""
    marks = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(marks.get(mark, mark) for mark in pattern)
