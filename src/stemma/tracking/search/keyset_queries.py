"""Orders as SQL, and where in an order a page begins.

Invariants:
    * Keys never repeat: the last ones are the record's own key, so an order is total.
    * What has no value comes last, whichever way the order goes.
    * Texts are ordered by their code points on both engines.

Example: after ``(a DESC, b)`` ended at ``(5, "x")`` come ``a <= 5 AND (a < 5 OR b > 'x')``; the
first part lets an index begin there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, UnaryExpression, and_, case, collate, literal, or_, true

from stemma.tracking.search.pages import KeyValue


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SortKey:
    """One key of an order.

    Attributes:
        expression: What is ordered by.
        is_ascending: Least first.
        kind: What its values are.
    """

    expression: ColumnElement[Any]
    is_ascending: bool = True
    kind: type = str


def direction(key: SortKey) -> UnaryExpression[Any]:
    """Return a key for ``ORDER BY``."""
    return key.expression.asc() if key.is_ascending else key.expression.desc()


def after(keys: Sequence[SortKey], values: Sequence[KeyValue]) -> ColumnElement[bool]:
    """Return that a record comes after the one with these values.

    A value that is ``None`` equals those that its rank, the key before it, lets stand with it.
    """
    rest: ColumnElement[bool] | None = None
    for key, value in reversed(list(zip(keys, values, strict=True))):
        if value is None:
            continue
        bound = literal(value, key.expression.type)
        beyond = key.expression > bound if key.is_ascending else key.expression < bound
        if rest is None:
            rest = beyond
            continue
        reaches = key.expression >= bound if key.is_ascending else key.expression <= bound
        rest = and_(reaches, or_(beyond, rest))
    return true() if rest is None else rest


def nullable(
    expression: ColumnElement[Any], *, is_ascending: bool, kind: type
) -> tuple[SortKey, SortKey]:
    """Return the keys of something that may be NULL: whether it is, then its value."""
    rank = case((expression.is_(None), 1), else_=0)
    return (
        SortKey(expression=rank, kind=int),
        SortKey(expression=expression, is_ascending=is_ascending, kind=kind),
    )


def as_text(expression: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """Return a text that is ordered by its code points."""
    return expression if dialect == "sqlite" else collate(expression, "C")
