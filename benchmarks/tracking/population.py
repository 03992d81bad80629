"""Fills a server's database with many runs, each a copy of one that the client logged.

The rows go straight into the tables, for a hundred thousand runs through HTTP would take hours
on one of the two; the template they copy was written by the server itself.  The server must not
run meanwhile.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from benchmarks.tracking.servers import Kind
from stemma.db.engine import Connection, Database
from stemma.db.rows import number_check, seal
from stemma.db.tables import runs
from stemma.db.tracking_tables import metric_points, metric_series, run_params, run_tags
from stemma.domain.canonical import timestamp

_BATCH = 2_000
Row = dict[str, Any]


def fill(kind: Kind, template: str, *, first: int, count: int, points: int = 1) -> None:
    """Copy the template run ``count`` times; metric ``loss`` gets ``points`` points in each."""
    if kind.name == "stemma":
        _fill_ours(kind.database, template, range(first, first + count), points)
    else:
        _fill_theirs(kind.database, template, range(first, first + count), points)


def value_of(number: int) -> float:
    """Return a run's accuracy: spread over 0 to 1 without order."""
    return (number * 7919 % 100_003) / 100_003


def _batches(numbers: range) -> Iterator[range]:
    for start in range(numbers.start, numbers.stop, _BATCH):
        yield range(start, min(start + _BATCH, numbers.stop))


def _fill_theirs(path: Path, template: str, numbers: range, points: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row

        def rows(table: str) -> list[Row]:
            query = f"SELECT * FROM {table} WHERE run_uuid = ?"  # noqa: S608 - names of ours
            return [dict(row) for row in connection.execute(query, (template,))]

        shapes = {name: rows(name) for name in ("runs", "params", "tags", "latest_metrics")}
        point = rows("metrics")[0]
        for batch in _batches(numbers):
            for table, found in shapes.items():
                _copy_theirs(connection, table, found, batch)
            _insert(connection, "metrics", _points_of(point, batch, points))
            connection.commit()


def _copy_theirs(
    connection: sqlite3.Connection, table: str, found: list[Row], batch: range
) -> None:
    def copies() -> Iterator[Row]:
        for number in batch:
            for row in found:
                copy = {**row, "run_uuid": f"{number:032x}"}
                if table == "runs":
                    copy["start_time"] = row["start_time"] + number
                    copy["name"] = f"run-{number}"
                if table == "latest_metrics" and row["key"] == "accuracy":
                    copy["value"] = value_of(number)
                yield copy

    _insert(connection, table, copies())


def _points_of(point: Row, batch: range, points: int) -> Iterator[Row]:
    for number in batch:
        for step in range(points):
            yield {
                **point,
                "run_uuid": f"{number:032x}",
                "key": "loss",
                "step": step,
                "value": 1 / (step + 1),
            }


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    iterator = iter(rows)
    head = next(iterator, None)
    if head is None:
        return
    names = list(head)
    marks = ", ".join(f":{name}" for name in names)
    quoted = ", ".join(f'"{name}"' for name in names)
    statement = f"INSERT INTO {table} ({quoted}) VALUES ({marks})"  # noqa: S608 - names of ours
    connection.execute(statement, head)
    connection.executemany(statement, iterator)


def _fill_ours(path: Path, template: str, numbers: range, points: int) -> None:
    with Database.open(f"sqlite:///{path}", may_create=False) as database:
        with database.read() as connection:
            shape = _our_template(connection, template)
        for batch in _batches(numbers):
            with database.write() as connection:
                _copy_ours(connection, shape, batch, points)


def _our_template(connection: Connection, template: str) -> dict[str, list[Row]]:
    tables = {"runs": runs, "params": run_params, "tags": run_tags, "series": metric_series}
    return {
        name: [
            dict(row)
            for row in connection.execute(
                select(table).where((table.c.id if name == "runs" else table.c.run) == template)
            ).mappings()
        ]
        for name, table in tables.items()
    }


def _copy_ours(
    connection: Connection, shape: dict[str, list[Row]], batch: range, points: int
) -> None:
    def copies(name: str, change: Callable[[Row, int], Row]) -> list[Row]:
        return [change(row, number) for number in batch for row in shape[name]]

    [run] = shape["runs"]
    moment = run["started_at"]
    connection.execute(
        insert(runs), copies("runs", lambda row, number: seal(runs, _later(row, number, moment)))
    )
    for name, table in (("params", run_params), ("tags", run_tags)):
        if shape[name]:
            connection.execute(
                insert(table),
                copies(
                    name, lambda row, number, table=table: seal(table, {**row, "run": _id(number)})
                ),
            )
    series = copies("series", _series)
    connection.execute(insert(metric_series), series)
    losses = [row for row in series if row["name"] == "loss"]
    connection.execute(
        insert(metric_points),
        [_point(row, step) for row in losses for step in range(points)],
    )


def _id(number: int) -> str:
    return f"r-{number:016x}"


def _later(row: Row, number: int, moment: str) -> Row:
    started = datetime.fromisoformat(moment) + timedelta(milliseconds=number)
    return {**row, "id": _id(number), "name": f"run-{number}", "started_at": timestamp(started)}


def _series(row: Row, number: int) -> Row:
    value = value_of(number) if row["name"] == "accuracy" else row["value"]
    copy = {**row, "id": number * 100 + row["id"], "run": _id(number), "value": value}
    columns = [column.name for column in metric_series.columns]
    values = (copy[name] for name in columns if name != "row_check")
    return {**copy, "row_check": number_check(*values)}


def _point(series: Row, step: int) -> Row:
    (bits,) = struct.unpack("<q", struct.pack("<d", 1 / (step + 1)))
    values = (series["id"], step, series["logged_at_us"], bits)
    return {
        "series": values[0],
        "step": step,
        "logged_at_us": values[2],
        "value_bits": bits,
        "row_check": number_check(*values),
    }
