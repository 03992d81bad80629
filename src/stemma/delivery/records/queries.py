"""All the SQL of delivery.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * Deployments, configurations, rollouts, rollbacks and the lines of a rollout's log are
      numbered without gaps; a row that no longer turns up is an ``IntegrityError``.
    * The active rollout of a model is its newest one: another can only begin after it.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, func, insert, select, update

from stemma.catalog.queries import insert_rows, missing_row, plain, refuse_gaps
from stemma.db.rows import Value, check, check_all, check_part, seal
from stemma.db.tables import (
    configurations,
    deployments,
    rollbacks,
    rollout_events,
    rollout_metrics,
    rollouts,
)
from stemma.delivery.records import rows as build
from stemma.delivery.values import Deployment, RollbackReport, RolloutEvent
from stemma.domain.digest import Digest
from stemma.domain.rollout import Rollout, RolloutId
from stemma.domain.traffic import MetricCounts, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """A rollout as stored.

    Attributes:
        rollout: The rollout.
        sequence: Counts the rollouts of its model from 1.
        event_count: Lines its log has.
    """

    rollout: Rollout
    sequence: int
    event_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """A posted metric as stored.

    Attributes:
        metric: Its name.
        counts: What was posted.
        values: The whole row without its digest, by column.
    """

    metric: str
    counts: MetricCounts
    values: dict[str, Value]


# configurations -----------------------------------------------------------------------------


def insert_configuration(connection: Connection, values: dict[str, Value]) -> None:
    """Add a configuration's row."""
    insert_rows(connection, configurations, [values])


def configuration_rows(connection: Connection, model: str) -> list[dict[str, Value]]:
    """Return the rows of a model's configurations, newest first, without gaps."""
    return [plain(configurations, row) for row in _numbered(connection, configurations, model)]


# deployments --------------------------------------------------------------------------------


def insert_deployment(connection: Connection, values: dict[str, Value]) -> None:
    """Add a deployment's row."""
    insert_rows(connection, deployments, [values])


def newest_deployments(connection: Connection, model: str = "") -> list[tuple[Digest, Deployment]]:
    """Return the newest deployment of each model (or of one) with its record, by model."""
    return [
        (Digest.parse(row.record), build.to_deployment(row))
        for row in _newest(connection, deployments, model)
    ]


def deployment_rows(connection: Connection, model: str) -> list[Deployment]:
    """Return every deployment of a model, newest first, without gaps."""
    return [build.to_deployment(row) for row in _numbered(connection, deployments, model)]


# rollouts -----------------------------------------------------------------------------------


def insert_rollout(connection: Connection, stored: RolloutRow) -> None:
    """Add a rollout's row."""
    insert_rows(connection, rollouts, [_rollout_values(stored)])


def update_rollout(connection: Connection, stored: RolloutRow) -> None:
    """Replace a rollout's row."""
    values = seal(rollouts, _rollout_values(stored))
    connection.execute(update(rollouts).where(rollouts.c.id == stored.rollout.id).values(values))


def find_rollout(connection: Connection, rollout: RolloutId) -> RolloutRow | None:
    """Return a rollout by its id."""
    row = connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
    return None if row is None else _rollout_row(check(rollouts, row))


def newest_rollouts(connection: Connection, model: str = "") -> list[RolloutRow]:
    """Return the newest rollout of each model (or of one), by model."""
    return [_rollout_row(row) for row in _newest(connection, rollouts, model)]


def rollout_rows(connection: Connection, model: str) -> list[RolloutRow]:
    """Return every rollout of a model, newest first, without gaps."""
    return [_rollout_row(row) for row in _numbered(connection, rollouts, model)]


def insert_events(
    connection: Connection, rollout: RolloutId, events: Iterable[RolloutEvent]
) -> None:
    """Add lines to a rollout's log."""
    rows = [build.event_values(rollout, event) for event in events]
    insert_rows(connection, rollout_events, rows)


def event_rows(connection: Connection, stored: RolloutRow, after: int) -> list[RolloutEvent]:
    """Return the lines of a rollout's log after one of them, oldest first, without gaps."""
    name = stored.rollout.id
    query = select(rollout_events).where(
        rollout_events.c.rollout == name, rollout_events.c.sequence > after
    )
    found = connection.execute(query.order_by(rollout_events.c.sequence))
    events = [build.to_event(row) for row in check_all(rollout_events, found)]
    expected = list(range(after + 1, stored.event_count + 1))
    if [event.sequence for event in events] != expected:
        raise missing_row(f"rollout_events: {name} has {stored.event_count} lines")
    return events


def _rollout_values(stored: RolloutRow) -> dict[str, Value]:
    return build.rollout_values(
        stored.rollout, sequence=stored.sequence, event_count=stored.event_count
    )


def _rollout_row(row: Row[Any]) -> RolloutRow:
    return RolloutRow(
        rollout=build.to_rollout(row), sequence=row.sequence, event_count=row.event_count
    )


# metrics ------------------------------------------------------------------------------------


def find_metric(connection: Connection, rollout: RolloutId, key: str) -> dict[str, Value] | None:
    """Return what was posted under a key."""
    query = select(rollout_metrics).where(
        rollout_metrics.c.rollout == rollout, rollout_metrics.c.key == key
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else plain(rollout_metrics, check(rollout_metrics, row))


def insert_metric(connection: Connection, values: dict[str, Value]) -> None:
    """Add a posted metric's row."""
    insert_rows(connection, rollout_metrics, [values])


def uncounted_metrics(connection: Connection, rollout: RolloutId) -> list[MetricRow]:
    """Return what was posted and not counted yet, by key."""
    query = select(rollout_metrics).where(
        rollout_metrics.c.rollout == rollout, rollout_metrics.c.is_counted == 0
    )
    found = connection.execute(query.order_by(rollout_metrics.c.key))
    return [_metric_row(row) for row in check_all(rollout_metrics, found)]


def mark_counted(connection: Connection, counted: Iterable[MetricRow]) -> None:
    """Say that these posts were counted."""
    for row in counted:
        values = seal(rollout_metrics, {**row.values, "is_counted": 1})
        connection.execute(
            update(rollout_metrics)
            .where(
                rollout_metrics.c.rollout == row.values["rollout"],
                rollout_metrics.c.key == row.values["key"],
            )
            .values(values)
        )


def _metric_row(row: Row[Any]) -> MetricRow:
    counts = (
        MetricCounts(canary_events=row.events, canary_trials=row.trials)
        if row.side == Side.CANARY.value
        else MetricCounts(stable_events=row.events, stable_trials=row.trials)
    )
    return MetricRow(metric=row.metric, counts=counts, values=plain(rollout_metrics, row))


# rollbacks ----------------------------------------------------------------------------------


def append_rollback(connection: Connection, report: RollbackReport) -> None:
    """Add a report after the model's newest."""
    newest = _newest(connection, rollbacks, report.model)
    sequence = newest[0].sequence + 1 if newest else 1
    values = seal(rollbacks, build.rollback_values(report, sequence))
    connection.execute(insert(rollbacks).values(values))


def rollback_rows(connection: Connection, model: str) -> list[RollbackReport]:
    """Return every rollback and drill of a model, newest first, without gaps."""
    return [build.to_rollback(row) for row in _numbered(connection, rollbacks, model)]


def last_drill(connection: Connection, model: str) -> RollbackReport | None:
    """Return the newest drill of a model.

    Looks at rows from the newest on: a damaged flag must not hide a failed drill.
    """
    query = select(rollbacks).where(rollbacks.c.model == model)
    for row in connection.execute(query.order_by(rollbacks.c.sequence.desc())):
        if check(rollbacks, row).is_drill:
            return build.to_rollback(row)
    return None


# any numbered table ---------------------------------------------------------------------------


def _numbered(connection: Connection, table: Table, model: str) -> list[Row[Any]]:
    """Return the rows of a model, newest first, without gaps."""
    query = select(table).where(table.c.model == model).order_by(table.c.sequence.desc())
    found = check_all(table, connection.execute(query))
    sequences = [row.sequence for row in found]
    refuse_gaps(f"{table.name}: {model}", sequences, before=0, is_whole=True)
    return found


def _newest(connection: Connection, table: Table, model: str) -> list[Row[Any]]:
    """Return the newest row of each model (or of one), by model; refuse when one is missing."""
    counted = select(
        table.c.model,
        func.max(table.c.sequence).label("sequence"),
        func.count().label("row_count"),
    ).group_by(table.c.model)
    if model:
        counted = counted.where(table.c.model == model)
    last = counted.subquery()
    query = select(table, last.c.row_count).join(
        last, and_(table.c.model == last.c.model, table.c.sequence == last.c.sequence)
    )
    found = connection.execute(query.order_by(table.c.model)).all()
    for row in found:
        check_part(table, row, 0)
        if row.row_count != row.sequence:
            raise missing_row(f"{table.name}: {row.model}")
    return list(found)
