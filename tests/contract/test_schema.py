"""Migrations make the very tables that the program works with, on both engines."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, column, create_engine, insert, inspect, select
from sqlalchemy import table as sa_table
from sqlalchemy.engine import make_url

from stemma.db.columns import metadata
from stemma.db.engine import Database
from stemma.db.migrations.upgrade import configuration, upgrade
from stemma.db.rows import check_all, seal
from stemma.db.schema import HEAD, REVISIONS, read_revision
from stemma.db.tables import models, runs
from stemma.db.tracking_tables import experiments
from stemma.domain.run import RunId, RunRecord, RunStart, RunState
from stemma.domain.tracking import Point
from stemma.tracking import metric_queries
from stemma.tracking.queries import insert_run


def describe(connection: Connection) -> dict[str, object]:
    """Return every table as the engine sees it."""
    seen = inspect(connection)

    def columns(table: str) -> list[tuple[object, ...]]:
        return [
            (column["name"], str(column["type"]), column["nullable"])
            for column in seen.get_columns(table)
        ]

    def ordered(items: list[Any]) -> list[str]:
        return sorted(f"{item['name']} {item['column_names']}" for item in items)

    return {
        table: {
            "columns": columns(table),
            "key": (
                seen.get_pk_constraint(table)["name"],
                seen.get_pk_constraint(table)["constrained_columns"],
            ),
            "indexes": ordered(seen.get_indexes(table)),
            "unique": ordered(seen.get_unique_constraints(table)),
        }
        for table in seen.get_table_names()
        if table != "alembic_version"
    }


def test_migrations_from_zero_give_the_same_tables(database_url: str, tmp_path: Any) -> None:
    """An upgraded database would work differently from a new one."""
    url = make_url(database_url)
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    with engine.begin() as connection:
        upgrade(connection)
    with engine.connect() as connection:
        migrated = describe(connection)
        stamp = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    assert stamp == HEAD
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            table.drop(connection)
        metadata.create_all(connection)
    with engine.connect() as connection:
        assert describe(connection) == migrated
        script = ScriptDirectory.from_config(configuration(connection))
        assert [revision.revision for revision in script.walk_revisions()] == list(REVISIONS[::-1])
    engine.dispose()


def test_a_database_of_0_1_is_brought_up_to_date_and_keeps_its_rows(
    database_url: str, make_old: Callable[[Database], None]
) -> None:
    """Whoever upgrades the program would lose their versions, or could not go on."""
    Database.open(database_url, may_create=True).close()
    run = RunRecord(
        id=RunId("r-00000001"),
        start=RunStart(model="digits"),
        state=RunState.FAILED,
        started_at=datetime(2026, 5, 3, tzinfo=UTC),
    )
    with Database.open(database_url, may_create=False) as opened:
        with opened.write() as connection:
            connection.execute(insert(models).values(seal(models, {"name": "digits"})))
            insert_run(connection, run)
        make_old(opened)
    with Database.open(database_url, may_create=False) as opened, opened.read() as connection:
        assert set(describe(connection)) == set(metadata.tables)
        assert [row.name for row in check_all(models, connection.execute(select(models)))] == [
            "digits"
        ]
        [kept] = check_all(runs, connection.execute(select(runs)))
        [experiment] = check_all(experiments, connection.execute(select(experiments)))
        assert (kept.id, kept.experiment) == (run.id, experiment.id)
        assert (experiment.name, experiment.created_at) == ("digits", kept.started_at)
        assert read_revision(connection) == HEAD


def test_curves_of_0_1_become_points(
    database_url: str, make_old: Callable[[Database], None]
) -> None:
    """Whoever upgrades the program would lose their learning curves."""
    steps, values, moments = (1, 2, 2, 3), (0.5, -0.0, -0.0, 0.25), (10, 20, 20, 5)
    names = ("run", "name", "point_count", "points", "row_digest")
    old = sa_table("run_points", *map(column, names))
    with Database.open(database_url, may_create=True) as opened:
        make_old(opened)
        with opened.write() as connection:
            for name, data in (
                ("loss", struct.pack("<4q4d4q", *steps, *values, *moments)),
                ("torn", b"1234567"),
            ):
                row = {"run": "r-1", "name": name, "point_count": 4, "points": data}
                connection.execute(insert(old).values(row | {"row_digest": ""}))
    with Database.open(database_url, may_create=False) as opened, opened.read() as connection:
        found = metric_queries.history(connection, "r-1", "loss", 9)
        assert [point for point, _ in found] == [
            Point("loss", 0.5, 1, 10),
            Point("loss", 0.0, 2, 20),
            Point("loss", 0.25, 3, 5),
        ]
        assert metric_queries.latest_points(connection, ["r-1"]) == {"r-1": [found[-1][0]]}


@pytest.mark.slow
def test_making_a_database_does_not_import_alembic(database_url: str) -> None:
    """Every command would start slower."""
    script = (
        "import sys\n"
        "from stemma.db.engine import Database\n"
        "Database.open(sys.argv[1], may_create=True).close()\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, database_url], check=True)
    with Database.open(database_url, may_create=False) as opened, opened.read() as connection:
        assert set(describe(connection)) == set(metadata.tables)
