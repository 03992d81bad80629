"""All the SQL of runs.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from stemma.db.rows import Value, check, check_all, seal
from stemma.db.tables import manifests, run_points, runs
from stemma.domain.canonical import timestamp
from stemma.domain.digest import Digest
from stemma.domain.run import MetricPoint, RunId, RunRecord, RunStart, RunState
from stemma.tracking import curves


def insert_run(connection: Connection, record: RunRecord) -> None:
    """Add a run."""
    connection.execute(insert(runs).values(seal(runs, run_values(record))))


def update_run(connection: Connection, record: RunRecord) -> None:
    """Write a run's new state."""
    values = seal(runs, run_values(record))
    connection.execute(update(runs).where(runs.c.id == record.id).values(values))


def find_run(connection: Connection, run: str) -> RunRecord | None:
    """Return the run with exactly that id."""
    row = connection.execute(select(runs).where(runs.c.id == run)).one_or_none()
    return None if row is None else to_record(row)


def find_runs_by_prefix(connection: Connection, prefix: str, limit: int) -> list[RunRecord]:
    """Return runs whose id begins with ``prefix``."""
    query = select(runs).where(runs.c.id.startswith(prefix, autoescape=True))
    return _records(connection.execute(query.order_by(runs.c.id).limit(limit)).all())


def all_run_ids(connection: Connection) -> list[str]:
    """Return every run's id, for suggestions."""
    return [str(run) for run in connection.execute(select(runs.c.id)).scalars()]


def list_runs(
    connection: Connection, *, model: str, invocation: str, limit: int
) -> list[RunRecord]:
    """Return runs, newest first."""
    query = select(runs)
    if model:
        query = query.where(runs.c.model == model)
    if invocation:
        query = query.where(runs.c.invocation == invocation)
    query = query.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(limit)
    return _records(connection.execute(query).all())


def running_runs(connection: Connection) -> list[RunRecord]:
    """Return every run that has not been closed."""
    query = select(runs).where(runs.c.state == RunState.RUNNING.value).order_by(runs.c.id)
    return _records(connection.execute(query).all())


def has_manifest(connection: Connection, manifest: Digest) -> bool:
    """Whether the manifest is registered."""
    query = select(manifests.c.digest).where(manifests.c.digest == str(manifest))
    return connection.execute(query).first() is not None


def replace_curves(
    connection: Connection, run: RunId, points_by_name: Mapping[str, Sequence[MetricPoint]]
) -> None:
    """Write all of a run's curves; what was there is replaced, so twice is once."""
    connection.execute(delete(run_points).where(run_points.c.run == run))
    rows = [
        seal(
            run_points,
            {
                "run": run,
                "name": name,
                "point_count": len(points),
                "points": curves.pack(points),
            },
        )
        for name, points in sorted(points_by_name.items())
    ]
    if rows:
        connection.execute(insert(run_points), rows)


def find_curve(connection: Connection, run: RunId, name: str) -> list[MetricPoint]:
    """Return a curve's points; none when it was never logged."""
    query = select(run_points).where(run_points.c.run == run, run_points.c.name == name)
    row = connection.execute(query).one_or_none()
    return [] if row is None else curves.unpack(name, bytes(check(run_points, row).points))


def curve_names(connection: Connection, run: RunId) -> list[str]:
    """Return the names of a run's curves, sorted."""
    query = select(run_points).where(run_points.c.run == run)
    return sorted(row.name for row in check_all(run_points, connection.execute(query)))


def run_values(record: RunRecord) -> dict[str, Value]:
    """Return the row of a run, unsealed."""
    return {
        "id": record.id,
        "model": record.start.model,
        "state": record.state.value,
        "command": json.dumps(record.start.command),
        "invocation": record.start.invocation,
        "reason": _storable(record.start.reason),
        "created_by": _storable(record.start.created_by),
        "host": _storable(record.start.host),
        "process": record.start.process,
        "started_at": timestamp(record.started_at),
        "ended_at": None if record.ended_at is None else timestamp(record.ended_at),
        "manifest": None if record.manifest is None else str(record.manifest),
        "failure": _storable(record.failure),
        "traceback": _storable(record.traceback),
        "experiment": record.start.experiment,
        "name": _storable(record.start.name),
        "deleted_at": None if record.deleted_at is None else timestamp(record.deleted_at),
    }


def to_record(row: Row[Any]) -> RunRecord:
    """Return the run of a row that matches its digest."""
    check(runs, row)
    return RunRecord(
        id=RunId(row.id),
        start=RunStart(
            model=row.model,
            command=tuple(json.loads(row.command)),
            invocation=row.invocation,
            reason=row.reason,
            created_by=row.created_by,
            host=row.host,
            process=row.process,
            experiment=row.experiment,
            name=row.name,
        ),
        state=RunState(row.state),
        started_at=datetime.fromisoformat(row.started_at),
        ended_at=None if row.ended_at is None else datetime.fromisoformat(row.ended_at),
        manifest=None if row.manifest is None else Digest.parse(row.manifest),
        failure=row.failure,
        traceback=row.traceback,
        deleted_at=None if row.deleted_at is None else datetime.fromisoformat(row.deleted_at),
    )


def _storable(text: str) -> str:
    """Return text that both engines can hold: no NUL, no half characters from a command line."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def _records(rows: Sequence[Row[Any]]) -> list[RunRecord]:
    return [to_record(row) for row in rows]
