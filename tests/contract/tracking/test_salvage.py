"""What clients logged survives a rebuild, row by row, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from stemma.catalog.doctor import examine
from stemma.catalog.rebuild import rebuild
from stemma.db.schema import TRACKING_TABLES
from stemma.domain.run import MetricPoint, RunStart
from stemma.domain.trace import Trace
from stemma.domain.tracking import Point, RunData, RunInput, RunOutput
from stemma.tracking import experiments, run_log, traces

Project = Any
NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)


def fill(project: Project) -> str:
    """Log two runs of a client and one of our own; returns the client's first."""
    with project.database.write() as connection:
        number = experiments.create(connection, "churn", NOW, {"team": "growth"}).id
        start = RunStart(model="", experiment=number)
        runs = []
        for _ in range(2):
            run = run_log.create_run(connection, start, started_at=NOW, now=NOW).record.id
            points = [Point("loss", step / 7, step, step) for step in range(1, 5)]
            run_log.log_batch(
                connection,
                run,
                points=[*points, Point("acc", float("nan"), 1, 1)],
                params={"lr": "0.1"},
                tags={"a": "1"},
            )
            run_log.log_inputs(connection, run, [RunInput(name="train", digest="d")], ["m-1"])
            run_log.log_outputs(connection, run, [RunOutput(logged_model="m-2")])
            runs.append(run)
        labels = {"a": "b"}
        trace = Trace(id="tr-1", experiment=number, requested_at=NOW, tags=labels, metadata=labels)
        traces.put(connection, trace, NOW)
    own, _ = project.record(1)
    failed = project.runs.start(RunStart(model="digits"))
    point = MetricPoint(name="loss", value=0.5, step=1, logged_at=NOW)
    project.runs.log_points(failed, [point])
    project.runs.fail(failed, "stopped")
    assert own != failed
    return runs[0]


def rows(project: Project) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of tracking."""
    with project.database.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(table.select())), key=repr)
            for table in TRACKING_TABLES
        }


def remake(project: Project) -> None:
    """Rebuild the database."""
    project.close()
    rebuild(project.url, project.backend)
    project.open()


def problems(project: Project) -> list[str]:
    """Return what doctor finds."""
    return [problem.kind for problem in examine(project.database, project.objects).problems]


def data(project: Project, run: str) -> RunData:
    """Return everything of a run."""
    with project.database.read() as connection:
        return run_log.run_data(connection, run)


def test_a_sound_database_keeps_all_that_clients_logged(project: Project) -> None:
    """A rebuild would cost every run that an MLflow client ever logged."""
    fill(project)
    before = rows(project)
    assert before["metric_points"]
    assert before["trace_tags"]
    assert before["trace_metadata"]
    assert problems(project) == []
    remake(project)
    assert rows(project) == before
    assert problems(project) == []


@pytest.mark.parametrize(
    ("statement", "kind", "lost"),
    [
        (
            "UPDATE metric_points SET value_bits = value_bits + 1 WHERE step = 2",
            "row-damaged",
            "loss 2",
        ),
        ("UPDATE metric_series SET step = 3 WHERE name = 'loss'", "row-damaged", "loss"),
        ("UPDATE run_tags SET value = '2' WHERE key = 'a'", "row-damaged", "tag"),
        ("DELETE FROM experiments WHERE name = 'churn'", "row-missing", "experiment"),
        ("UPDATE run_params SET value = '0.2'", "row-damaged", "param"),
        ("UPDATE run_inputs SET body = '{ }'", "row-damaged", "input"),
        ("UPDATE traces SET state = 'OK'", "row-damaged", "trace"),
        ("DELETE FROM traces", "row-missing", "trace"),
        ("DELETE FROM runs WHERE model = ''", "row-missing", "run"),
    ],
)
def test_what_is_damaged_is_found_and_only_that_is_lost(
    project: Project, statement: str, kind: str, lost: str
) -> None:
    """A flipped bit would be served as a value, or take a whole run with it."""
    run = fill(project)
    before = data(project, run)
    with project.database.write() as connection:
        connection.execute(text(statement))
    assert kind in problems(project)
    remake(project)
    assert problems(project) == []
    if lost == "run":
        return
    after = data(project, run)
    with project.database.read() as connection:
        history, _ = run_log.metric_history(connection, run, "loss")
        named = experiments.get(connection, after.record.start.experiment).name
    expected = {"loss 2": [1, 3, 4], "loss": []}.get(lost, [1, 2, 3, 4])
    assert [point.step for point in history] == expected
    assert bool(rows(project)["traces"]) == bool(rows(project)["trace_tags"]) == (lost != "trace")
    assert named == ("recovered-1" if lost == "experiment" else "churn")
    assert ("a" in after.tags) == (lost != "tag")
    assert after.params == ({} if lost == "param" else before.params)
    assert after.inputs == (() if lost == "input" else before.inputs)
    assert (after.record, after.outputs) == (before.record, before.outputs)
    assert len(after.metrics) == (1 if lost == "loss" else 2)


def test_the_latest_value_and_its_curve_come_back_from_the_journal(project: Project) -> None:
    """A damaged curve of our own run would stay lost although its journal is there."""
    fill(project)
    own = next(run for run in project.runs.list("digits") if run.failure == "stopped")
    with project.database.write() as connection:
        connection.execute(text("UPDATE metric_series SET step = 7"))
        connection.execute(text("UPDATE metric_points SET step = 7 WHERE step = 1"))
    remake(project)
    assert data(project, own.id).metrics == ()
    assert project.runs.restore_curves() == 1
    assert [point.value for point in project.runs.curve(own.id, "loss")] == [0.5]
    assert [point.value for point in data(project, own.id).metrics] == [0.5]
    assert problems(project) == []
