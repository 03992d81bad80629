"""All the SQL of logged models.

Invariants:
    * Every row that is returned matched its digest or check; every row written has one.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    Delete,
    Insert,
    Row,
    Table,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from stemma.db.rows import Value, check, damaged, number_check, seal
from stemma.db.tracking_tables import (
    logged_model_metrics,
    logged_model_params,
    logged_model_tags,
    logged_models,
)
from stemma.domain.canonical import timestamp
from stemma.domain.logged_model import LoggedModel, LoggedModelState, ModelMetric

_BATCH_SIZE: Final = 500
_KEY: Final = ("logged_model", "name", "run", "dataset_name", "dataset_digest")
_MEASURED: Final = ("step", "logged_at_us", "value", "row_check")
_WANTED: Final[BindParameter[Any]] = bindparam("wanted", expanding=True)
_FIND: Final = select(logged_models).where(logged_models.c.id.in_(_WANTED))
_EXISTING: Final = select(logged_models.c.id).where(logged_models.c.id.in_(_WANTED))
_INSERT: Final = insert(logged_models)
_UPDATE: Final = update(logged_models).where(logged_models.c.id == bindparam("of_id"))
_FIND_LABELS: Final = {
    table.name: select(table).where(table.c.logged_model.in_(_WANTED))
    for table in (logged_model_params, logged_model_tags, logged_model_metrics)
}
_REMOVE_TAG: Final[Delete] = delete(logged_model_tags).where(
    logged_model_tags.c.logged_model == bindparam("of_id"),
    logged_model_tags.c.key == bindparam("of_key"),
)


def _upserts(table: Table, keys: Sequence[str], *, is_newest_kept: bool = False) -> dict[str, Any]:
    """Return the statement that writes a row in the place of one with its key, per engine."""
    statements: dict[str, Insert] = {}
    for name, made in (("sqlite", sqlite.insert(table)), ("postgresql", postgresql.insert(table))):
        written = {
            column.name: made.excluded[column.name]
            for column in table.columns
            if column.name not in keys
        }
        newer = None
        if is_newest_kept:
            newer = or_(
                made.excluded.step > table.c.step,
                (made.excluded.step == table.c.step)
                & (made.excluded.logged_at_us >= table.c.logged_at_us),
            )
        statements[name] = made.on_conflict_do_update(
            index_elements=list(keys), set_=written, where=newer
        )
    return statements


_UPSERT_LABELS: Final = {
    table.name: _upserts(table, ("logged_model", "key"))
    for table in (logged_model_params, logged_model_tags)
}
_UPSERT_METRICS: Final = _upserts(logged_model_metrics, _KEY, is_newest_kept=True)


def insert_model(connection: Connection, model: LoggedModel) -> None:
    """Add a logged model, without what it logged."""
    connection.execute(_INSERT, seal(logged_models, model_values(model)))


def update_model(connection: Connection, model: LoggedModel) -> None:
    """Write a logged model's new state."""
    values = seal(logged_models, model_values(model))
    connection.execute(_UPDATE, {**values, "of_id": model.id})


def find_models(connection: Connection, identities: Sequence[str]) -> list[LoggedModel]:
    """Return logged models whole, in the order asked for; those not there are left out."""
    found: dict[str, LoggedModel] = {}
    for start in range(0, len(identities), _BATCH_SIZE):
        wanted = {"wanted": list(identities[start : start + _BATCH_SIZE])}
        params = _labels(connection, logged_model_params, wanted)
        tags = _labels(connection, logged_model_tags, wanted)
        metrics = _metrics(connection, wanted)
        for row in connection.execute(_FIND, wanted):
            found[row.id] = _model(row, params, tags, metrics)
    return [found[identity] for identity in identities if identity in found]


def existing(connection: Connection, identities: Sequence[str]) -> frozenset[str]:
    """Return which of these logged models are there, deleted ones too."""
    found = connection.execute(_EXISTING, {"wanted": list(identities)})
    return frozenset(found.scalars())


def upsert_params(connection: Connection, identity: str, params: Mapping[str, str]) -> None:
    """Write params."""
    _upsert_labels(connection, logged_model_params, identity, params)


def upsert_tags(connection: Connection, identity: str, tags: Mapping[str, str]) -> None:
    """Write tags."""
    _upsert_labels(connection, logged_model_tags, identity, tags)


def remove_tag(connection: Connection, identity: str, key: str) -> None:
    """Remove a tag."""
    connection.execute(_REMOVE_TAG, {"of_id": identity, "of_key": key})


def upsert_metrics(connection: Connection, points: Iterable[tuple[str, ModelMetric]]) -> None:
    """Write points of metrics, unless a later one is there."""
    rows = [_metric_values(identity, point) for identity, point in points]
    if rows:
        connection.execute(_UPSERT_METRICS[connection.dialect.name], rows)


def model_values(model: LoggedModel) -> dict[str, Value]:
    """Return the row of a logged model, unsealed."""
    return {
        "id": model.id,
        "experiment": model.experiment,
        "run": model.run,
        "name": model.name,
        "type": model.type,
        "state": model.state.value,
        "state_message": model.state_message,
        "created_at": timestamp(model.created_at),
        "updated_at": timestamp(model.updated_at),
        "deleted_at": None if model.deleted_at is None else timestamp(model.deleted_at),
    }


def _upsert_labels(
    connection: Connection, table: Table, identity: str, labels: Mapping[str, str]
) -> None:
    if not labels:
        return
    rows = [
        seal(table, {"logged_model": identity, "key": key, "value": value})
        for key, value in labels.items()
    ]
    connection.execute(_UPSERT_LABELS[table.name][connection.dialect.name], rows)


def _labels(
    connection: Connection, table: Table, wanted: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(_FIND_LABELS[table.name], wanted):
        check(table, row)
        found.setdefault(row.logged_model, {})[row.key] = row.value
    return found


def _metrics(
    connection: Connection, wanted: Mapping[str, Sequence[str]]
) -> dict[str, list[ModelMetric]]:
    found: dict[str, list[ModelMetric]] = {}
    for row in connection.execute(_FIND_LABELS[logged_model_metrics.name], wanted):
        *values, checked = row
        if number_check(*values) != checked:
            raise damaged(logged_model_metrics, row)
        point = ModelMetric(
            name=row.name,
            value=math.nan if row.value is None else row.value,
            step=row.step,
            logged_at_us=row.logged_at_us,
            run=row.run,
            dataset_name=row.dataset_name,
            dataset_digest=row.dataset_digest,
        )
        found.setdefault(row.logged_model, []).append(point)
    return found


def _metric_values(identity: str, point: ModelMetric) -> dict[str, Any]:
    value = None if math.isnan(point.value) else float(point.value)
    key = (identity, point.name, point.run, point.dataset_name, point.dataset_digest)
    measured = (point.step, point.logged_at_us, value)
    checked = number_check(*key, *measured)
    return dict(zip((*_KEY, *_MEASURED), (*key, *measured, checked), strict=True))


def _model(
    row: Row[Any],
    params: Mapping[str, dict[str, str]],
    tags: Mapping[str, dict[str, str]],
    metrics: Mapping[str, list[ModelMetric]],
) -> LoggedModel:
    check(logged_models, row)
    return LoggedModel(
        id=row.id,
        experiment=row.experiment,
        run=row.run,
        name=row.name,
        type=row.type,
        state=LoggedModelState(row.state),
        state_message=row.state_message,
        created_at=datetime.fromisoformat(row.created_at),
        updated_at=datetime.fromisoformat(row.updated_at),
        deleted_at=None if row.deleted_at is None else datetime.fromisoformat(row.deleted_at),
        params=params.get(row.id, {}),
        tags=tags.get(row.id, {}),
        metrics=tuple(sorted(metrics.get(row.id, ()))),
    )
