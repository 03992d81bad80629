"""All the SQL of experiments.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, select

from stemma.db.bulk import insert_many, select_many
from stemma.db.rows import check, check_all, seal_values
from stemma.db.tables import runs
from stemma.db.tracking_tables import experiment_tags, experiments
from stemma.domain.canonical import timestamp
from stemma.domain.run import RunRecord
from stemma.domain.tracking import Experiment
from stemma.tracking.queries import to_record

_BY_ID: Final = select(experiments).where(experiments.c.id == bindparam("id"))
_BY_NAME: Final = select(experiments).where(experiments.c.name == bindparam("name"))
_TAGS: Final = select(experiment_tags).where(experiment_tags.c.experiment == bindparam("id"))


def put(connection: Connection, experiment: Experiment) -> None:
    """Write an experiment, new or changed; its tags are written on their own."""
    row = seal_values(
        experiments,
        experiment.id,
        experiment.name,
        timestamp(experiment.created_at),
        timestamp(experiment.updated_at),
        None if experiment.deleted_at is None else timestamp(experiment.deleted_at),
    )
    insert_many(connection, experiments, [row], replaces=True)


def next_id(connection: Connection) -> int:
    """Return the number after the greatest one; 0 is kept for the default experiment."""
    found = connection.execute(select(func.max(experiments.c.id))).scalar_one()
    return max(0, found or 0) + 1


def find(connection: Connection, experiment: int) -> Experiment | None:
    """Return the experiment of that number."""
    return _with_tags(connection, connection.execute(_BY_ID, {"id": experiment}).one_or_none())


def find_by_name(connection: Connection, name: str) -> Experiment | None:
    """Return the experiment of that name."""
    return _with_tags(connection, connection.execute(_BY_NAME, {"name": name}).one_or_none())


def find_state(connection: Connection, experiment: int) -> Experiment | None:
    """Return the experiment without its tags."""
    row = connection.execute(_BY_ID, {"id": experiment}).one_or_none()
    return None if row is None else _to_experiment(row, {})


def find_many(connection: Connection, ids: Sequence[int]) -> dict[int, Experiment]:
    """Return experiments by number, with their tags."""
    tags: dict[int, dict[str, str]] = {}
    for row in select_many(connection, experiment_tags, "experiment", ids):
        tags.setdefault(row.experiment, {})[row.key] = row.value
    found = select_many(connection, experiments, "id", ids)
    return {row.id: _to_experiment(row, tags.get(row.id, {})) for row in found}


def set_tags(connection: Connection, experiment: int, tags: Mapping[str, str]) -> None:
    """Write tags over what was there."""
    rows = [seal_values(experiment_tags, experiment, *tag) for tag in tags.items()]
    insert_many(connection, experiment_tags, rows, replaces=True)


def delete_tag(connection: Connection, experiment: int, key: str) -> bool:
    """Remove a tag; whether there was one."""
    query = delete(experiment_tags).where(
        experiment_tags.c.experiment == experiment, experiment_tags.c.key == key
    )
    return connection.execute(query).rowcount > 0


def runs_deleted_at(
    connection: Connection, experiment: int, moment: datetime | None
) -> list[RunRecord]:
    """Return the experiment's runs that were deleted at that very moment; ``None``: the living."""
    at = None if moment is None else timestamp(moment)
    is_so = runs.c.deleted_at.is_(None) if at is None else runs.c.deleted_at == at
    query = select(runs).where(runs.c.experiment == experiment, is_so)
    return [to_record(row) for row in connection.execute(query)]


def _with_tags(connection: Connection, row: Row[Any] | None) -> Experiment | None:
    if row is None:
        return None
    found = check_all(experiment_tags, connection.execute(_TAGS, {"id": row.id}))
    return _to_experiment(row, {tag.key: tag.value for tag in found})


def _to_experiment(row: Row[Any], tags: Mapping[str, str]) -> Experiment:
    check(experiments, row)
    return Experiment(
        id=row.id,
        name=row.name,
        created_at=datetime.fromisoformat(row.created_at),
        updated_at=datetime.fromisoformat(row.updated_at),
        deleted_at=None if row.deleted_at is None else datetime.fromisoformat(row.deleted_at),
        tags=tags,
    )
