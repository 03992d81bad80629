"""All the SQL of metrics: series with their latest point, and points.

Invariants:
    * Equal points of a series are one row; a series' latest point is the greatest by
      (step, moment, value), whatever order points come in.
    * Every row that is returned matched its check.
    * A function takes the connection of its caller's transaction and opens none.  Numbers of
      series are given here, which only one writer at a time may do: ``Database.write``.

It asks nobody whether a run may be written to; see ``run_log``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import Connection, and_, bindparam, func, select, tuple_

from stemma.db.bulk import Values, insert_many, read_many
from stemma.db.rows import check, check_all, check_part, number_check
from stemma.db.tables import runs
from stemma.db.tracking_tables import metric_points, metric_series
from stemma.domain.tracking import HistoryMark, Point, storable_value
from stemma.tracking import queries
from stemma.tracking.queries import RunRow

_Latest: TypeAlias = tuple[int, int, float]

_ONE_SERIES: Final = select(metric_series).where(
    metric_series.c.run == bindparam("run"), metric_series.c.name == bindparam("name")
)
_RUN_WIDTH: Final = len(runs.columns)
_RUN_AND_SERIES: Final = (
    select(runs, metric_series)
    .outerjoin(
        metric_series,
        and_(metric_series.c.run == runs.c.id, metric_series.c.name == bindparam("name")),
    )
    .where(runs.c.id == bindparam("run"))
)
_MANY: Final = 2**63
_LAST_SERIES: Final = select(func.max(metric_series.c.id))
_NAMES: Final = (
    select(metric_series)
    .where(metric_series.c.run == bindparam("run"))
    .order_by(metric_series.c.name)
)
_PAGE: Final = (
    select(metric_points)
    .where(metric_points.c.series == bindparam("series"))
    .order_by(metric_points.c.step, metric_points.c.logged_at_us, metric_points.c.value_bits)
    .limit(bindparam("limit"))
)
_NEXT_PAGE: Final = _PAGE.where(
    tuple_(metric_points.c.step, metric_points.c.logged_at_us, metric_points.c.value_bits)
    > tuple_(bindparam("step"), bindparam("moment"), bindparam("bits"))
)
_FLOAT: Final = struct.Struct("<d")
_INTEGER: Final = struct.Struct("<q")


class Series(NamedTuple):
    """A metric of a run: its number and its latest point, as points are ordered."""

    id: int
    latest: _Latest


class State(NamedTuple):
    """What must be known before points are added: the run, and its metrics by name."""

    run: RunRow | None
    series: dict[str, Series]


def find_state(connection: Connection, run: str, names: Collection[str]) -> State:
    """Return a run with those of its metrics; one statement for one metric, else two."""
    if len(names) > 1:
        found = read_many(connection, metric_series, "name", list(names), run=run)
        series = {
            name: Series(number, _rank(step, moment, value))
            for number, _, name, step, moment, value, _ in found
        }
        return State(queries.find_row(connection, run), series)
    (name,) = names
    row = connection.execute(_RUN_AND_SERIES, {"run": run, "name": name}).one_or_none()
    if row is None:
        return State(None, {})
    check_part(runs, row, 0)
    part: tuple[Any, ...] = tuple(row)[_RUN_WIDTH:]
    if part[0] is None:
        return State(RunRow(row.deleted_at), {})
    check_part(metric_series, row, _RUN_WIDTH)
    number, _, _, step, moment, value, _ = part
    return State(RunRow(row.deleted_at), {name: Series(number, _rank(step, moment, value))})


def add_points(
    connection: Connection, run: str, points: Sequence[Point], known: Mapping[str, Series]
) -> None:
    """Add points to a run's metrics; those that are there already change nothing.

    Args:
        connection: A write transaction.
        run: The run, which takes them.
        points: The points.
        known: Those of the metrics that are there.
    """
    names = dict.fromkeys(point[0] for point in points)
    ids = {name: series.id for name, series in known.items()}
    if len(ids) < len(names):
        last = connection.execute(_LAST_SERIES).scalar_one() or 0
        ids.update(zip(sorted(names.keys() - ids.keys()), range(last + 1, _MANY), strict=False))
    values = [_kept(point[1]) for point in points]
    latest = {name: series.latest for name, series in known.items()}
    changed: set[str] = set()
    rows: list[Values] = []
    for (name, _, step, moment), value, bits in zip(points, values, _bits(values), strict=True):
        number = ids[name]
        rows.append((number, step, moment, bits, number_check(number, step, moment, bits)))
        rank = (step, moment, value if value == value else -math.inf)  # noqa: PLR0124 - NaN
        if name not in latest or rank > latest[name]:
            latest[name] = rank
            changed.add(name)
    series = [_series_row(ids[name], run, name, latest[name]) for name in sorted(changed)]
    # In the order of the table, each page of it is written once.
    insert_many(connection, metric_series, series, replaces=True, keeps=("run", "name"))
    insert_many(connection, metric_points, sorted(rows))


def log_points(connection: Connection, run: str, points: Sequence[Point]) -> None:
    """Add any number of points to a run that takes them."""
    if points:
        state = find_state(connection, run, {point.name for point in points})
        add_points(connection, run, points, state.series)


def latest_points(connection: Connection, ids: Sequence[str]) -> dict[str, list[Point]]:
    """Return the latest point of every metric of some runs, by run, sorted by name."""
    found: dict[str, list[Point]] = {}
    for _, run, name, step, moment, value, _ in read_many(connection, metric_series, "run", ids):
        point = Point(name, math.nan if value is None else value, step, moment)
        found.setdefault(run, []).append(point)
    for points in found.values():
        points.sort()
    return found


def metric_names(connection: Connection, run: str) -> list[str]:
    """Return the names of a run's metrics, sorted."""
    found = check_all(metric_series, connection.execute(_NAMES, {"run": run}))
    return sorted(row.name for row in found)


def history(
    connection: Connection, run: str, name: str, limit: int, after: HistoryMark | None = None
) -> list[tuple[Point, HistoryMark]]:
    """Return points of a metric by step, then moment, each with the mark that follows it."""
    row = connection.execute(_ONE_SERIES, {"run": run, "name": name}).one_or_none()
    if row is None:
        return []
    values: dict[str, int] = {"series": check(metric_series, row).id, "limit": limit}
    query = _PAGE
    if after is not None:
        query = _NEXT_PAGE
        values |= {"step": after[0], "moment": after[1], "bits": after[2]}
    found = check_all(metric_points, connection.execute(query, values))
    marks = [HistoryMark(row.step, row.logged_at_us, row.value_bits) for row in found]
    return [(Point(name, _value(mark.value_bits), *mark[:2]), mark) for mark in marks]


def _rank(step: int, moment: int, value: float | None) -> _Latest:
    return step, moment, -math.inf if value is None else value


def _series_row(number: int, run: str, name: str, latest: _Latest) -> Values:
    step, moment, ranked = latest
    value = None if ranked == -math.inf else ranked
    return (
        number, run, name, step, moment, value,
        number_check(number, run, name, step, moment, value),
    )  # fmt: skip


def _kept(value: float) -> float:
    """Return a value as both engines keep it: finite or NaN, and zero without a sign."""
    # NaN has many bit patterns and is one value.
    return value + 0.0 if math.isfinite(value) else storable_value(value)


def _bits(values: Sequence[float]) -> Sequence[int]:
    count = len(values)
    return struct.unpack(f"<{count}q", struct.pack(f"<{count}d", *values))


def _value(bits: int) -> float:
    return float(_FLOAT.unpack(_INTEGER.pack(bits))[0])
