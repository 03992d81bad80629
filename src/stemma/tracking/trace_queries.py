"""All the SQL of traces.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Row, Table, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from stemma.db.rows import Value, check, seal
from stemma.db.tracking_tables import trace_metadata, trace_tags, traces
from stemma.domain.canonical import timestamp
from stemma.domain.trace import Trace, TraceState
from stemma.tracking.removal_queries import forget_traces

_BATCH_SIZE: Final = 500
_WANTED: Final[BindParameter[Any]] = bindparam("wanted", expanding=True)
_FIND: Final = select(traces).where(traces.c.id.in_(_WANTED))
_FIND_LABELS: Final = {
    table.name: select(table).where(table.c.trace.in_(_WANTED))
    for table in (trace_tags, trace_metadata)
}
_REMOVE_TAG: Final = delete(trace_tags).where(
    trace_tags.c.trace == bindparam("of_id"), trace_tags.c.key == bindparam("of_key")
)


def _upserts(table: Table, keys: Sequence[str]) -> dict[str, Any]:
    """Return the statement that writes a row in the place of one with its key, per engine."""
    return {
        name: made.on_conflict_do_update(
            index_elements=list(keys),
            set_={
                column.name: made.excluded[column.name]
                for column in table.columns
                if column.name not in keys
            },
        )
        for name, made in (
            ("sqlite", sqlite.insert(table)),
            ("postgresql", postgresql.insert(table)),
        )
    }


_UPSERT: Final = _upserts(traces, ("id",))
_UPSERT_LABELS: Final = {
    table.name: _upserts(table, ("trace", "key")) for table in (trace_tags, trace_metadata)
}


def put(connection: Connection, trace: Trace) -> None:
    """Write a trace, without its labels, in the place of one with its id."""
    row: dict[str, Value] = {
        "id": trace.id,
        "experiment": trace.experiment,
        "run": trace.run,
        "name": trace.name,
        "state": trace.state.value,
        "requested_at": timestamp(trace.requested_at),
        "duration_ms": trace.duration_ms,
        "client_request": trace.client_request,
        "request_preview": trace.request_preview,
        "response_preview": trace.response_preview,
    }
    connection.execute(_UPSERT[connection.dialect.name], seal(traces, row))


def put_tags(connection: Connection, identity: str, tags: Mapping[str, str]) -> None:
    """Write tags."""
    _put_labels(connection, trace_tags, identity, tags)


def put_metadata(connection: Connection, identity: str, labels: Mapping[str, str]) -> None:
    """Write metadata."""
    _put_labels(connection, trace_metadata, identity, labels)


def remove_tag(connection: Connection, identity: str, key: str) -> int:
    """Remove a tag; returns whether it was there."""
    return connection.execute(_REMOVE_TAG, {"of_id": identity, "of_key": key}).rowcount


def find(connection: Connection, identities: Sequence[str]) -> list[Trace]:
    """Return traces in the order asked for; those not there are left out."""
    found: dict[str, Trace] = {}
    for start in range(0, len(identities), _BATCH_SIZE):
        wanted = {"wanted": list(identities[start : start + _BATCH_SIZE])}
        tags = _labels(connection, trace_tags, wanted)
        labels = _labels(connection, trace_metadata, wanted)
        for row in connection.execute(_FIND, wanted):
            found[row.id] = _trace(check(traces, row), tags, labels)
    return [found[identity] for identity in identities if identity in found]


def ids_before(
    connection: Connection, experiment: int, moment: datetime, limit: int | None
) -> list[str]:
    """Return ids of the oldest traces of an experiment up to a moment."""
    query = (
        select(traces.c.id)
        .where(traces.c.experiment == experiment, traces.c.requested_at <= timestamp(moment))
        .order_by(traces.c.requested_at, traces.c.id)
    )
    return list(connection.execute(query if limit is None else query.limit(limit)).scalars())


def remove(connection: Connection, experiment: int, identities: Sequence[str]) -> int:
    """Remove those of the traces that are of this experiment; returns how many."""
    ours: list[str] = []
    for start in range(0, len(identities), _BATCH_SIZE):
        batch = identities[start : start + _BATCH_SIZE]
        query = select(traces.c.id).where(traces.c.experiment == experiment, traces.c.id.in_(batch))
        ours += connection.execute(query).scalars()
    forget_traces(connection, ours)
    return len(ours)


def _put_labels(
    connection: Connection, table: Table, identity: str, labels: Mapping[str, str]
) -> None:
    if labels:
        rows = [
            seal(table, {"trace": identity, "key": key, "value": value})
            for key, value in labels.items()
        ]
        connection.execute(_UPSERT_LABELS[table.name][connection.dialect.name], rows)


def _labels(
    connection: Connection, table: Table, wanted: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(_FIND_LABELS[table.name], wanted):
        check(table, row)
        found.setdefault(row.trace, {})[row.key] = row.value
    return found


def _trace(
    row: Row[Any], tags: Mapping[str, dict[str, str]], labels: Mapping[str, dict[str, str]]
) -> Trace:
    return Trace(
        id=row.id,
        experiment=row.experiment,
        run=row.run,
        name=row.name,
        state=TraceState(row.state),
        requested_at=datetime.fromisoformat(row.requested_at),
        duration_ms=row.duration_ms,
        client_request=row.client_request,
        request_preview=row.request_preview,
        response_preview=row.response_preview,
        metadata=labels.get(row.id, {}),
        tags=tags.get(row.id, {}),
    )
