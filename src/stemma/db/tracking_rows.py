"""Checks, carries over and tidies the rows that the database alone holds: all of tracking.

There may be millions of them, so they pass by and are never all in memory.

Invariants:
    * Only rows that match their digest or check are carried over or kept.
    * After ``tidy`` nothing belongs to a run, an experiment, a metric, a logged model, a
      trace or a registered model that is gone; a run whose experiment is lost is in one of
      another name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    case,
    delete,
    exists,
    func,
    select,
    tuple_,
)

from stemma.db.bulk import insert_many
from stemma.db.engine import Database
from stemma.db.forgetting import RUN_TABLES
from stemma.db.rows import is_sound, name_row, seal_values
from stemma.db.salvage import read_rows
from stemma.db.schema import TRACKING_TABLES
from stemma.db.tables import runs
from stemma.db.tracking_tables import (
    artifacts,
    experiment_tags,
    experiments,
    logged_model_metrics,
    logged_model_params,
    logged_model_tags,
    logged_models,
    metric_points,
    metric_series,
    model_version_tags,
    model_versions,
    registered_model_tags,
    registered_models,
    trace_metadata,
    trace_tags,
    traces,
)
from stemma.domain.errors import IntegrityError

_BATCH_SIZE: Final = 1000
_RUN_PREFIX: Final = "r-"
_TRACE_PREFIX: Final = "tr-"
_Columns: TypeAlias = tuple[Column[Any], ...]
_VERSION: Final = (model_versions.c.name, model_versions.c.number)
_OWNED: Final[list[tuple[Table, tuple[_Columns, _Columns]]]] = [
    (metric_series, ((metric_series.c.run,), (runs.c.id,))),
    (metric_points, ((metric_points.c.series,), (metric_series.c.id,))),
    *((table, ((table.c.run,), (runs.c.id,))) for table in RUN_TABLES),
    (experiment_tags, ((experiment_tags.c.experiment,), (experiments.c.id,))),
    *(
        (table, ((table.c.logged_model,), (logged_models.c.id,)))
        for table in (logged_model_params, logged_model_tags, logged_model_metrics)
    ),
    *(
        (table, ((table.c.name,), (registered_models.c.name,)))
        for table in (model_versions, registered_model_tags)
    ),
    *((table, ((table.c.trace,), (traces.c.id,))) for table in (trace_tags, trace_metadata)),
    (model_version_tags, ((model_version_tags.c.name, model_version_tags.c.number), _VERSION)),
]
"""What belongs to what: the columns that name the owner, and the owner's; owners come first."""


@dataclass(frozen=True, slots=True)
class TrackingReport:
    """What was found in the rows of tracking.

    Attributes:
        rows_checked: How many rows are sound.
        damaged: Table and row of those that are not what was written.
        orphaned: Per table how many rows belong to nothing.
        unreadable: Table and message where a page could not be read.
    """

    rows_checked: int
    damaged: tuple[str, ...]
    orphaned: tuple[tuple[str, int], ...]
    unreadable: tuple[tuple[str, str], ...]


def examine_tracking(database: Database) -> TrackingReport:
    """Check every row of tracking, and that what it belongs to is there."""
    count = 0
    damaged: list[str] = []
    unreadable: list[tuple[str, str]] = []
    for table in TRACKING_TABLES:
        try:
            for row in read_rows(database, table):
                if is_sound(table, row):
                    count += 1
                else:
                    damaged.append(f"{table.name} {name_row(table, row)}")
        except IntegrityError as error:
            unreadable.append((table.name, error.message))
    with database.read() as connection:
        counts = [
            (table.name, _count(connection, table, is_orphan)) for table, is_orphan in _orphans()
        ]
        counts.append((runs.name, len(_lost_experiments(connection))))
    orphaned = tuple((name, found) for name, found in counts if found)
    return TrackingReport(count, tuple(damaged), orphaned, tuple(unreadable))


def carry_over(old: Database, connection: Connection) -> None:
    """Copy the sound rows of another database; a page that cannot be read ends its table."""
    for table in TRACKING_TABLES:
        for batch in _sound_batches(old, table):
            insert_many(connection, table, batch)


def drop_damaged(connection: Connection) -> None:
    """Remove the rows that are not what was written."""
    for table in TRACKING_TABLES:
        keys = list(table.primary_key)
        places = [list(table.columns).index(key) for key in keys]
        query = select(table).execution_options(yield_per=_BATCH_SIZE)
        damaged = [
            tuple(row[place] for place in places)
            for row in connection.execute(query)
            if not is_sound(table, row)
        ]
        for start in range(0, len(damaged), _BATCH_SIZE):
            batch = damaged[start : start + _BATCH_SIZE]
            connection.execute(delete(table).where(tuple_(*keys).in_(batch)))


def tidy(connection: Connection) -> None:
    """Remove what belongs to nothing, and give runs an experiment whose own is lost."""
    for number, moment in _lost_experiments(connection):
        name = f"recovered-{number}" if number else "Default"
        row = seal_values(experiments, number, name, moment, moment, None)
        insert_many(connection, experiments, [row])
    for table, is_orphan in _orphans():
        connection.execute(delete(table).where(is_orphan))


def _sound_batches(database: Database, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    try:
        for row in read_rows(database, table):
            if is_sound(table, row):
                batch.append(tuple(row))
            if len(batch) == _BATCH_SIZE:
                yield batch
                batch = []
    except IntegrityError:
        pass  # what came before the page is kept
    if batch:
        yield batch


def _count(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(table).where(condition)
    return int(connection.execute(query).scalar_one())


def _orphans() -> list[tuple[Table, ColumnElement[bool]]]:
    """Return which rows of which tables belong to nothing, owners before what they own."""
    is_lost = case(
        (artifacts.c.owner.startswith(_RUN_PREFIX), _is_lost((artifacts.c.owner,), (runs.c.id,))),
        (
            artifacts.c.owner.startswith(_TRACE_PREFIX),
            _is_lost((artifacts.c.owner,), (traces.c.id,)),
        ),
        else_=_is_lost((artifacts.c.owner,), (logged_models.c.id,)),
    )
    owned = [(table, _is_lost(*columns)) for table, columns in _OWNED]
    return [*owned, (artifacts, is_lost)]


def _is_lost(names: _Columns, owner: _Columns) -> ColumnElement[bool]:
    pairs = zip(owner, names, strict=True)
    return ~exists(select(1).select_from(owner[0].table).where(*(one == two for one, two in pairs)))


def _lost_experiments(connection: Connection) -> list[tuple[int, str]]:
    """Return numbers of experiments that runs name and that are gone, with the first moment."""
    gone = ~exists(select(1).select_from(experiments).where(experiments.c.id == runs.c.experiment))
    query = select(runs.c.experiment, func.min(runs.c.started_at)).where(gone)
    found = connection.execute(query.group_by(runs.c.experiment).order_by(runs.c.experiment))
    return [(int(number), str(moment)) for number, moment in found]
