"""All the SQL of what is deleted and goes for good.

Invariants:
    * What a registered version is made of stays, and so does a run whose candidate is kept, or
      whose process still trains.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, and_, delete, exists, func, or_, select

from stemma.db.forgetting import forget_runs
from stemma.db.tables import manifests, runs
from stemma.db.tracking_tables import (
    artifacts,
    experiments,
    logged_model_metrics,
    logged_model_params,
    logged_model_tags,
    logged_models,
    model_versions,
    trace_metadata,
    trace_tags,
    traces,
)
from stemma.domain.canonical import timestamp
from stemma.domain.registry import ModelStage
from stemma.domain.run import RunState

_BATCH_SIZE: Final = 500
_TRACE_TABLES: Final = (trace_tags, trace_metadata)
_MODEL_TABLES: Final = (logged_model_params, logged_model_tags, logged_model_metrics)


def deleted_runs(connection: Connection, before: datetime) -> list[Row[Any, Any]]:
    """Return id and moment of deletion of each run that may go."""
    is_registered = exists().where(
        model_versions.c.run == runs.c.id, model_versions.c.stage != ModelStage.DELETED.value
    )
    has_candidate = exists().where(manifests.c.digest == runs.c.manifest)
    is_training = and_(runs.c.process != "", runs.c.state == RunState.RUNNING.value)
    query = select(runs.c.id, runs.c.deleted_at).where(
        runs.c.deleted_at < timestamp(before), ~is_registered, ~has_candidate, ~is_training
    )
    return list(connection.execute(query.order_by(runs.c.id)))


def deleted_models(connection: Connection, before: datetime) -> list[Row[Any, Any]]:
    """Return id and moment of deletion of each logged model that may go.

    With an experiment go its models: none of them can be found any more.
    """
    is_registered = exists().where(
        model_versions.c.logged_model == logged_models.c.id,
        model_versions.c.stage != ModelStage.DELETED.value,
    )
    deleted_at = func.coalesce(logged_models.c.deleted_at, experiments.c.deleted_at)
    query = (
        select(logged_models.c.id, deleted_at.label("deleted_at"))
        .join(experiments, experiments.c.id == logged_models.c.experiment, isouter=True)
        .where(
            or_(
                logged_models.c.deleted_at < timestamp(before),
                experiments.c.deleted_at < timestamp(before),
            ),
            ~is_registered,
        )
    )
    return list(connection.execute(query.order_by(logged_models.c.id)))


def deleted_traces(connection: Connection, before: datetime) -> list[Row[Any, Any]]:
    """Return id and moment of deletion of each trace that goes with its experiment."""
    query = (
        select(traces.c.id, experiments.c.deleted_at)
        .join(experiments, experiments.c.id == traces.c.experiment)
        .where(experiments.c.deleted_at < timestamp(before))
    )
    return list(connection.execute(query.order_by(traces.c.id)))


def sizes(connection: Connection, owners: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return how many artifacts owners have, and how many bytes those."""
    found: dict[str, tuple[int, int]] = {}
    for start in range(0, len(owners), _BATCH_SIZE):
        batch = owners[start : start + _BATCH_SIZE]
        query: Select[Any] = (
            select(artifacts.c.owner, func.count(), func.sum(artifacts.c.size_bytes))
            .where(artifacts.c.owner.in_(batch))
            .group_by(artifacts.c.owner)
        )
        for owner, count, size_bytes in connection.execute(query):
            found[owner] = (count, int(size_bytes))
    return found


def forget(connection: Connection, run_ids: Sequence[str], model_ids: Sequence[str]) -> None:
    """Remove runs and logged models with all they logged."""
    for start in range(0, len(run_ids), _BATCH_SIZE):
        batch = run_ids[start : start + _BATCH_SIZE]
        forget_runs(connection, select(runs.c.id).where(runs.c.id.in_(batch)))
    for start in range(0, len(model_ids), _BATCH_SIZE):
        batch = model_ids[start : start + _BATCH_SIZE]
        for table in _MODEL_TABLES:
            connection.execute(delete(table).where(table.c.logged_model.in_(batch)))
        connection.execute(delete(artifacts).where(artifacts.c.owner.in_(batch)))
        connection.execute(delete(logged_models).where(logged_models.c.id.in_(batch)))


def forget_traces(connection: Connection, trace_ids: Sequence[str]) -> None:
    """Remove traces with their tags, metadata and the rows of their files."""
    for start in range(0, len(trace_ids), _BATCH_SIZE):
        batch = trace_ids[start : start + _BATCH_SIZE]
        for table in _TRACE_TABLES:
            connection.execute(delete(table).where(table.c.trace.in_(batch)))
        connection.execute(delete(artifacts).where(artifacts.c.owner.in_(batch)))
        connection.execute(delete(traces).where(traces.c.id.in_(batch)))
