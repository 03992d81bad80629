"""Ids of runs that a filter takes, in order, a page at a time.

Invariants:
    * An order is total: its keys, then the newest start, then the id.
    * NaN comes after every number and before the runs without the metric, whichever way the
      order goes.

A first key that not every run has splits the order into phases (a number, NaN, nothing), each a
statement of its own that an index serves in order; one statement with a rank would sort every
run of the experiment for its first page.  Where few runs come into question, from a metric or
from small experiments, the runs are read first instead; what is found is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    case,
    exists,
    func,
    literal,
    select,
)

from stemma.db.tables import runs
from stemma.db.tracking_tables import metric_series, run_inputs, run_params, run_tags
from stemma.domain.run import RunState
from stemma.tracking.search.condition_queries import (
    Source,
    compile_condition,
    number_condition,
    part_of,
    value_condition,
    within,
)
from stemma.tracking.search.fields import (
    RUN_FIELDS,
    Condition,
    Entity,
    Key,
    Kind,
    resolve,
    resolve_order,
)
from stemma.tracking.search.grammar import Comparison
from stemma.tracking.search.keyset_queries import SortKey, after, as_text, direction, nullable
from stemma.tracking.search.pages import Mark, check_values
from stemma.tracking.search.values import Search, View

_STATES: Final = {
    state.value: (state.name if state is not RunState.INTERRUPTED else "KILLED", state.value)
    for state in RunState
}
_SOURCE: Final = Source(
    table=runs,
    columns={column.name: column for column in runs.columns}
    | {
        "artifact_root": literal("mlflow-artifacts:/")
        .concat(runs.c.experiment)
        .concat("/")
        .concat(runs.c.id)
        .concat("/artifacts")
    },
    parts={
        Entity.METRIC: metric_series,
        Entity.PARAM: run_params,
        Entity.TAG: run_tags,
        Entity.DATASET: run_inputs,
    },
    owners={"id": "run"},
    states=_STATES,
    runs=frozenset({"id"}),
)
_KINDS: Final = {Kind.NUMBER: float}
FEW: Final = 1_000
"""So many runs are sorted faster than an index over all runs is searched for them."""
_SELECTIVE: Final = frozenset(
    {
        Comparison.EQUAL,
        Comparison.LESS,
        Comparison.AT_MOST,
        Comparison.GREATER,
        Comparison.AT_LEAST,
    }
)


class Found(NamedTuple):
    """A run, and where the page would end with it."""

    run: str
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Phase:
    """One part of an order.

    Attributes:
        number: Which one; in order.
        source: Runs, joined with what they are ordered by.
        conditions: What makes a run stand in this part.
        keys: What orders it.
        taken: Conditions of the filter that ``conditions`` hold already.
    """

    number: int
    source: FromClause
    conditions: tuple[ColumnElement[bool], ...] = ()
    keys: tuple[SortKey, ...] = ()
    taken: tuple[Condition, ...] = ()


def find_runs(
    connection: Connection,
    experiments: Sequence[int] | None,
    search: Search,
    start: Mark | None,
    *,
    few_limit: int = FEW,
) -> list[Found]:
    """Return one run more than a page of them, when there are so many.

    Args:
        connection: Of the caller's transaction.
        experiments: Where to look; ``None`` for everywhere.
        search: What for.
        start: Where the page before ended.
        few_limit: So many runs are few; what is found does not depend on it.

    Raises:
        InvalidInputError: If the filter, the order or ``start`` cannot be.
    """
    dialect = connection.dialect.name
    conditions = resolve(RUN_FIELDS, search.filter)
    order = resolve_order(RUN_FIELDS, search.order)
    where = _scope(experiments, search)
    few = _few(connection, conditions, order, few_limit)
    if few is None:
        few = _all_when_few(connection, where, order, few_limit)
    if few is not None:
        where.append(_among(few, dialect))
    found: list[Found] = []
    for phase in _phases(order, conditions, dialect, is_small=few is not None):
        if start is not None and phase.number < start.phase:
            continue
        if len(found) > search.page_size:
            break
        rest = [item for item in conditions if item not in phase.taken]
        clauses = [compile_condition(_SOURCE, item, dialect) for item in rest]
        query = _query(phase).where(*where, *clauses).limit(search.page_size + 1 - len(found))
        if start is not None and phase.number == start.phase:
            check_values(start, [key.kind for key in phase.keys])
            query = query.where(after(phase.keys, start.values))
        found += [
            Found(row[0], Mark(phase=phase.number, values=tuple(row[1:])))
            for row in connection.execute(query)
        ]
    return found


def _scope(experiments: Sequence[int] | None, search: Search) -> list[ColumnElement[bool]]:
    """Return where a search looks."""
    where: list[ColumnElement[bool]] = []
    if experiments is not None:
        where.append(within(runs.c.experiment, experiments))
    if search.model:
        where.append(runs.c.model == search.model)
    if search.view is not View.ALL:
        is_kept = search.view is View.ACTIVE_ONLY
        where.append(runs.c.deleted_at.is_(None) if is_kept else runs.c.deleted_at.is_not(None))
    return where


def _few(
    connection: Connection, conditions: Sequence[Condition], order: Sequence[Key], few_limit: int
) -> list[str] | None:
    """Return the runs that a condition on a metric leaves, of the one that leaves fewest.

    ``None`` when none leaves few.  A condition on what is ordered by is not asked: the index
    serves both at once.
    """
    limit = few_limit if len(conditions) == 1 else 3 * few_limit  # the others may leave fewer still
    best: list[str] | None = None
    for item in conditions:
        is_led = bool(order) and item.field == order[0].field
        if item.field.entity is not Entity.METRIC or item.comparison not in _SELECTIVE or is_led:
            continue
        query = select(metric_series.c.run).where(
            metric_series.c.name == item.field.key,
            number_condition(metric_series.c.value, item.comparison, item.value),
        )
        found = list(connection.execute(query.limit(max(limit, 0) + 1)).scalars())
        if len(found) <= limit and (best is None or len(found) < len(best)):
            best = found
    return best


def _all_when_few(
    connection: Connection,
    where: Sequence[ColumnElement[bool]],
    order: Sequence[Key],
    few_limit: int,
) -> list[str] | None:
    """Return all runs that are looked at by a search in the order of a metric, when few."""
    if not order or order[0].field.entity is not Entity.METRIC:
        return None
    query = select(runs.c.id).where(*where).limit(max(few_limit, 0) + 1)
    found = list(connection.execute(query).scalars())
    return found if len(found) <= few_limit else None


def _among(ids: Sequence[str], dialect: str) -> ColumnElement[bool]:
    """Return that a run is one of these; to SQLite a list is one value, so that it is fast."""
    if dialect != "sqlite":
        return runs.c.id.in_(ids)
    listed = func.json_each(json.dumps(ids)).table_valued("value")
    return runs.c.id.in_(select(listed.c.value))


def _query(phase: _Phase) -> Select[tuple[Any, ...]]:
    keys = (key.expression.label(f"key_{index}") for index, key in enumerate(phase.keys))
    query = select(runs.c.id, *keys).select_from(phase.source).where(*phase.conditions)
    return query.order_by(*(direction(key) for key in phase.keys))


def _phases(
    order: Sequence[Key], conditions: Sequence[Condition], dialect: str, *, is_small: bool
) -> Iterator[_Phase]:
    """Yield the parts of an order."""
    if not order or not order[0].field.is_nullable:
        yield _phase(0, runs, order, dialect)
        return
    first, rest = order[0], order[1:]
    entity, key = first.field.entity, first.field.key
    if entity is Entity.ATTRIBUTE:
        column = _SOURCE.columns[key]
        value = SortKey(expression=column, is_ascending=first.is_ascending)
        yield _phase(0, runs, rest, dialect, (column.is_not(None),), (value,))
        yield _phase(1, runs, rest, dialect, (column.is_(None),))
        return
    part = _SOURCE.parts[entity].alias()
    is_its = part_of(_SOURCE, part, entity, key)
    joined = runs.join(part, is_its)
    # The filter's conditions on the same thing are asked of the joined row.
    same = tuple(item for item in conditions if item.field == first.field and _needs(item))
    is_metric = entity is Entity.METRIC
    # An expression is in no index, so that the engine begins with the runs.
    column = part.c.value + 0.0 if is_metric and is_small else part.c.value
    on_same = tuple(value_condition(column, item, dialect) for item in same)
    expression = column if is_metric else as_text(column, dialect)
    value = SortKey(
        expression=expression,
        is_ascending=first.is_ascending,
        kind=_KINDS.get(first.field.kind, str),
    )
    numbers = (*on_same, column.is_not(None)) if is_metric else on_same
    yield _phase(0, joined, rest, dialect, numbers, (value,), same)
    if is_metric and all(_lets_nan(item) for item in same):
        yield _phase(1, joined, rest, dialect, (*on_same, column.is_(None)), (), same)
    if not same:
        yield _phase(2, runs, rest, dialect, (~exists().where(is_its),))


def _needs(condition: Condition) -> bool:
    return condition.comparison is not Comparison.IS_NULL


def _lets_nan(condition: Condition) -> bool:
    return condition.comparison in {Comparison.UNEQUAL, Comparison.IS_NOT_NULL}


def _phase(  # noqa: PLR0913, PLR0917 - one part of an order has so many sides
    number: int,
    source: FromClause,
    order: Sequence[Key],
    dialect: str,
    conditions: tuple[ColumnElement[bool], ...] = (),
    keys: tuple[SortKey, ...] = (),
    taken: tuple[Condition, ...] = (),
) -> _Phase:
    """Return a part of an order whose later keys are ranked, and which ends in a total order."""
    named = {key.field.key for key in order if key.field.entity is Entity.ATTRIBUTE}
    for key in order:
        source, following = _ranked(source, key, dialect)
        keys += following
    if "started_at" not in named:
        keys += (SortKey(expression=runs.c.started_at, is_ascending=False),)
    if "id" not in named:
        keys += (SortKey(expression=runs.c.id),)
    return _Phase(number=number, source=source, conditions=conditions, keys=keys, taken=taken)


def _ranked(source: FromClause, key: Key, dialect: str) -> tuple[FromClause, tuple[SortKey, ...]]:
    """Return a source that has the key, and the key with its rank."""
    entity, name = key.field.entity, key.field.key
    kind = _KINDS.get(key.field.kind, str)
    if entity is Entity.ATTRIBUTE:
        column = _SOURCE.columns[name]
        if key.field.is_nullable:
            return source, nullable(column, is_ascending=key.is_ascending, kind=kind)
        expression = as_text(column, dialect) if key.field.kind is Kind.TEXT else column
        return source, (SortKey(expression=expression, is_ascending=key.is_ascending, kind=kind),)
    part = _SOURCE.parts[entity].alias()
    joined = source.outerjoin(part, part_of(_SOURCE, part, entity, name))
    if entity is not Entity.METRIC:
        expression = as_text(part.c.value, dialect)
        return joined, nullable(expression, is_ascending=key.is_ascending, kind=kind)
    rank = case((part.c.run.is_(None), 2), (part.c.value.is_(None), 1), else_=0)
    return joined, (
        SortKey(expression=rank, kind=int),
        SortKey(expression=part.c.value, is_ascending=key.is_ascending, kind=kind),
    )
