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
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Row, bindparam, func, select, tuple_

from stemma.db.bulk import Values, insert_many, select_many
from stemma.db.rows import check, check_all, number_check
from stemma.db.tracking_tables import metric_points, metric_series
from stemma.domain.tracking import HistoryMark, Point, storable_value

_NAN_BITS: Final = struct.unpack("<q", struct.pack("<d", math.nan))[0]
_Latest: TypeAlias = tuple[int, int, float]

_ONE_SERIES: Final = select(metric_series).where(
    metric_series.c.run == bindparam("run"), metric_series.c.name == bindparam("name")
)
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


def add_points(connection: Connection, run: str, points: Sequence[Point]) -> None:
    """Add points to a run's metrics; those that are there already change nothing."""
    if not points:
        return
    names = {point[0] for point in points}
    known = {row.name: row for row in _find_series(connection, run, names)}
    ids = {name: row.id for name, row in known.items()}
    last = 0
    if len(ids) < len(names):
        last = connection.execute(_LAST_SERIES).scalar_one() or 0
        fresh = [name for name in dict.fromkeys(point[0] for point in points) if name not in ids]
        ids.update(zip(fresh, range(last + 1, last + 1 + len(fresh)), strict=True))
    latest: dict[str, _Latest] = {name: _stored_rank(row) for name, row in known.items()}
    changed: set[str] = set()
    rows: list[Values] = []
    for name, raw, step, moment in points:
        value = _kept(raw)
        number, bits = ids[name], _bits(value)
        rows.append((number, step, moment, bits, number_check(number, step, moment, bits)))
        this = (step, moment, -math.inf if bits == _NAN_BITS else value)
        if name not in latest or this > latest[name]:
            latest[name] = this
            changed.add(name)
    insert_many(
        connection,
        metric_series,
        [_series_row(ids[name], run, name, latest[name]) for name in changed],
        replaces=True,
    )
    insert_many(connection, metric_points, rows)


def latest_points(connection: Connection, runs: Sequence[str]) -> dict[str, list[Point]]:
    """Return the latest point of every metric of some runs, by run, sorted by name."""
    found: dict[str, list[Point]] = {}
    for row in select_many(connection, metric_series, "run", runs):
        value = math.nan if row.value is None else row.value
        point = Point(row.name, value, row.step, row.logged_at_us)
        found.setdefault(row.run, []).append(point)
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


def _find_series(connection: Connection, run: str, names: set[str]) -> list[Row[Any]]:
    if len(names) > 1:
        return select_many(connection, metric_series, "name", sorted(names), run=run)
    (name,) = names
    return check_all(metric_series, connection.execute(_ONE_SERIES, {"run": run, "name": name}))


def _stored_rank(row: Row[Any]) -> _Latest:
    return row.step, row.logged_at_us, -math.inf if row.value is None else row.value


def _series_row(number: int, run: str, name: str, latest: _Latest) -> Values:
    step, moment, ranked = latest
    value = None if ranked == -math.inf else ranked
    return (
        number, run, name, step, moment, value,
        number_check(number, run, name, step, moment, value),
    )  # fmt: skip


def _kept(value: float) -> float:
    """Return a value as both engines keep it: finite or NaN, and zero without a sign."""
    return storable_value(float(value)) + 0.0


def _bits(value: float) -> int:
    # NaN has many bit patterns and is one value.
    return _NAN_BITS if math.isnan(value) else int(_INTEGER.unpack(_FLOAT.pack(value))[0])


def _value(bits: int) -> float:
    return float(_FLOAT.unpack(_INTEGER.pack(bits))[0])
