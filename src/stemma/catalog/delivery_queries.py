"""The SQL on delivery's records that the catalog itself needs.

Invariants:
    * As in ``queries``: rows are sealed and checked, and no transaction is opened here.

Everything else is in ``stemma.delivery.records.queries``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, select

from stemma.catalog.queries import insert_rows
from stemma.db.rows import Value, check_all
from stemma.db.tables import (
    configurations,
    deployments,
    rollbacks,
    rollout_events,
    rollout_metrics,
    rollouts,
)
from stemma.domain.digest import Digest

Rows = Sequence[Mapping[str, Value]]

UNRECORDED = (rollouts, rollout_events, rollout_metrics, rollbacks)
"""Tables whose rows no record states."""


def delivery_records(connection: Connection) -> list[tuple[Digest, str]]:
    """Return the record of every configuration and deployment, with its model."""
    return [
        (Digest.parse(row.record), row.model)
        for table in (configurations, deployments)
        for row in check_all(table, connection.execute(select(table)))
    ]


def insert_records(
    connection: Connection,
    configuration_rows: Iterable[dict[str, Value]],
    deployment_rows: Iterable[dict[str, Value]],
) -> None:
    """Add the rows that records stand for."""
    insert_rows(connection, configurations, configuration_rows)
    insert_rows(connection, deployments, deployment_rows)


def insert_unrecorded(connection: Connection, salvaged: Mapping[str, Rows]) -> int:
    """Add what no record states, as far as it is whole; returns how many rollouts are lost.

    A rollout comes back only with its whole log: a log with a hole would tell another story.
    Numbers are given anew, so that a list without its lost members has no gap.

    Args:
        connection: Of the caller's transaction.
        salvaged: Sound rows of the old database, by table.
    """
    logs: dict[Value, list[Mapping[str, Value]]] = {}
    for event in salvaged.get(rollout_events.name, ()):
        logs.setdefault(event["rollout"], []).append(event)
    found = salvaged.get(rollouts.name, ())
    whole = [row for row in found if _is_whole(row, logs.get(row["id"], []))]
    kept = {row["id"] for row in whole}
    insert_rows(connection, rollouts, _renumbered(whole))
    for table in (rollout_events, rollout_metrics):
        rows = salvaged.get(table.name, ())
        insert_rows(connection, table, (dict(row) for row in rows if row["rollout"] in kept))
    insert_rows(connection, rollbacks, _renumbered(salvaged.get(rollbacks.name, ())))
    return len(found) - len(whole)


def _is_whole(row: Mapping[str, Value], log: Rows) -> bool:
    return {event["sequence"] for event in log} == set(range(1, _number(row, "event_count") + 1))


def _renumbered(rows: Rows) -> list[dict[str, Value]]:
    """Return the rows with sequences that count from 1 in each model, in the same order."""
    counts: dict[Value, int] = {}
    numbered: list[dict[str, Value]] = []
    for row in sorted(rows, key=lambda row: _number(row, "sequence")):
        counts[row["model"]] = counts.get(row["model"], 0) + 1
        numbered.append({**row, "sequence": counts[row["model"]]})
    return numbered


def _number(row: Mapping[str, Value], column: str) -> int:
    return int(str(row[column]))
