"""All the SQL of runs.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, exists, select

from stemma.db.bulk import insert_many, select_many
from stemma.db.rows import Value, check, seal_values
from stemma.db.tables import manifests, runs
from stemma.db.tracking_tables import run_tags
from stemma.domain.canonical import timestamp
from stemma.domain.digest import Digest
from stemma.domain.run import RunId, RunRecord, RunStart, RunState
from stemma.domain.tracking import storable


class RunRow(NamedTuple):
    """What decides whether a run may be written to."""

    deleted_at: str | None


_BY_ID: Final = select(runs).where(runs.c.id == bindparam("id"))


def insert_run(connection: Connection, record: RunRecord) -> None:
    """Add a run."""
    insert_many(connection, runs, [seal_values(runs, *run_values(record).values())])


def update_run(connection: Connection, record: RunRecord) -> None:
    """Write a run's new state."""
    update_runs(connection, [record])


def update_runs(connection: Connection, records: Sequence[RunRecord]) -> None:
    """Write new states of runs that are there."""
    rows = [seal_values(runs, *run_values(record).values()) for record in records]
    insert_many(connection, runs, rows, replaces=True)


def find_run(connection: Connection, run: str) -> RunRecord | None:
    """Return the run with exactly that id."""
    row = connection.execute(_BY_ID, {"id": run}).one_or_none()
    return None if row is None else to_record(row)


def find_row(connection: Connection, run: str) -> RunRow | None:
    """Return what decides whether a run may be written to."""
    row = connection.execute(_BY_ID, {"id": run}).one_or_none()
    return None if row is None else RunRow(check(runs, row).deleted_at)


def find_runs(connection: Connection, ids: Sequence[str]) -> dict[str, RunRecord]:
    """Return runs by id."""
    return {row.id: _record_of(row) for row in select_many(connection, runs, "id", ids)}


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
    """Return runs that are not deleted, newest first."""
    query = select(runs).where(runs.c.deleted_at.is_(None))
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


def untold_runs(connection: Connection) -> list[RunRecord]:
    """Return the runs of models that have no tags, which every run gets at its start."""
    is_told = exists(select(1).select_from(run_tags).where(run_tags.c.run == runs.c.id))
    query = select(runs).where(runs.c.model > "", ~is_told).order_by(runs.c.id)
    return _records(connection.execute(query).all())


def has_manifest(connection: Connection, manifest: Digest) -> bool:
    """Whether the manifest is registered."""
    query = select(manifests.c.digest).where(manifests.c.digest == str(manifest))
    return connection.execute(query).first() is not None


def run_values(record: RunRecord) -> dict[str, Value]:
    """Return the row of a run, unsealed."""
    return {
        "id": record.id,
        "model": record.start.model,
        "state": record.state.value,
        "command": json.dumps(record.start.command),
        "invocation": record.start.invocation,
        "reason": storable(record.start.reason),
        "created_by": storable(record.start.created_by),
        "host": storable(record.start.host),
        "process": record.start.process,
        "started_at": timestamp(record.started_at),
        "ended_at": None if record.ended_at is None else timestamp(record.ended_at),
        "manifest": None if record.manifest is None else str(record.manifest),
        "failure": storable(record.failure),
        "traceback": storable(record.traceback),
        "experiment": record.start.experiment,
        "name": storable(record.start.name),
        "deleted_at": None if record.deleted_at is None else timestamp(record.deleted_at),
    }


def to_record(row: Row[Any]) -> RunRecord:
    """Return the run of a row that matches its digest."""
    return _record_of(check(runs, row))


def _record_of(row: Row[Any]) -> RunRecord:
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


def _records(rows: Sequence[Row[Any]]) -> list[RunRecord]:
    return [to_record(row) for row in rows]
