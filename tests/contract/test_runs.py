"""Runs on SQLite and on PostgreSQL: opened, journalled, closed once."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stemma.db.tracking_tables import metric_points, metric_series
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.run import MetricPoint, RunId, RunStart, RunState
from stemma.domain.run_names import name_of
from stemma.tracking import run_log
from stemma.tracking.process import current_process

Project = Any
MOMENT = datetime(2026, 5, 3, tzinfo=UTC)
DEAD_PROCESS = current_process().replace(f"{os.getpid()}:", "1:", 1)
"""Process 1 started at another tick than this process did."""


def point(name: str, value: float, step: int) -> MetricPoint:
    """Return a point."""
    return MetricPoint(name=name, value=value, step=step, logged_at=MOMENT)


def test_a_run_is_open_until_it_is_closed(project: Project) -> None:
    """A run would be released before it has finished."""
    start = RunStart(model="digits", command=("python", "train.py", "--lr=0.1"), reason="why not")
    run = project.runs.start(start)
    opened = project.runs.get(run)
    joined = replace(start, experiment=1, name=name_of(run))
    assert (opened.start, opened.state, opened.ended_at) == (joined, RunState.RUNNING, None)


def test_a_finished_run_keeps_its_manifest_and_points(project: Project, make_manifest: Any) -> None:
    """A learning curve would be lost when the run ends."""
    run = project.runs.start(RunStart(model="digits"))
    project.runs.log_points(run, [point("loss", 0.5, 2), point("loss", 0.25, 3)])
    project.runs.log_points(run, [point("loss", 0.75, 1), point("accuracy", 0.9, 1)])
    assert [p.value for p in project.runs.curve(run, "loss")] == [0.75, 0.5, 0.25]
    digest = project.catalog.register(make_manifest("digits", 1))
    record = project.runs.finish(run, digest)
    assert (record.state, record.manifest) == (RunState.FINISHED, digest)
    assert project.runs.get(run) == record
    assert project.runs.curve_names(run) == ["accuracy", "loss"]
    assert [p.step for p in project.runs.curve(run, "loss")] == [1, 2, 3]
    assert project.runs.curve(run, "loss")[0] == point("loss", 0.75, 1)
    assert project.runs.curve(run, "none") == []


def test_a_run_is_closed_once(project: Project, make_manifest: Any) -> None:
    """A crash handler would turn a finished run into a failed one."""
    run = project.runs.start(RunStart(model="digits"))
    digest = project.catalog.register(make_manifest("digits", 1))
    project.runs.finish(run, digest)
    with pytest.raises(ConflictError):
        project.runs.finish(run, digest)
    with pytest.raises(ConflictError):
        project.runs.fail(run, "too late")
    with pytest.raises(ConflictError):
        project.runs.log_points(run, [point("loss", 0.1, 9)])
    assert project.runs.get(run).state is RunState.FINISHED


def test_a_run_cannot_finish_with_a_manifest_that_is_not_there(project: Project) -> None:
    """A run would name a version that does not exist."""
    run = project.runs.start(RunStart(model="digits"))
    with pytest.raises(NotFoundError):
        project.runs.finish(run, Digest.sha256("0" * 64))
    assert project.runs.get(run).state is RunState.RUNNING


def test_a_failed_run_says_why(project: Project) -> None:
    """Nobody could see what went wrong last night."""
    run = project.runs.start(RunStart(model="digits"))
    project.runs.log_points(run, [point("loss", 0.5, 1)])
    project.runs.fail(run, "ValueError: \0 \udcff", traceback="Traceback…")
    record = project.runs.get(run)
    assert record.state is RunState.FAILED
    assert record.failure.startswith("ValueError")
    assert len(project.runs.curve(run, "loss")) == 1
    other = project.runs.start(RunStart(model="digits"))
    assert project.runs.fail(other, "Ctrl-C", is_interrupted=True).state is RunState.INTERRUPTED


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_is_refused(project: Project, value: float) -> None:
    """A curve would break every plot and comparison."""
    run = project.runs.start(RunStart(model="digits"))
    with pytest.raises(InvalidInputError) as caught:
        project.runs.log_points(run, [point("loss", 0.5, 1), point("loss", value, 2)])
    assert caught.value.code == "metric-not-finite"
    assert project.runs.curve(run, "loss") == []


def test_a_name_that_is_not_a_run_writes_no_file(project: Project) -> None:
    """A journal could be written outside of its folder."""
    with pytest.raises(InvalidInputError):
        project.runs.log_points(RunId("../../etc/passwd"), [point("loss", 0.5, 1)])


def test_a_prefix_names_a_run_unless_it_names_several(project: Project) -> None:
    """A short name would pick some run."""
    runs = [project.runs.start(RunStart(model="digits")) for _ in range(20)]
    assert project.runs.get(runs[0][2:]).id == runs[0]
    with pytest.raises(ConflictError):
        project.runs.get("r-")
    with pytest.raises(NotFoundError) as caught:
        project.runs.get(f"{runs[0]}0")
    assert runs[0] in caught.value.message


def test_runs_are_listed_newest_first_by_model_and_invocation(project: Project) -> None:
    """``stemma run`` could not tell which runs it made."""
    one = project.runs.start(RunStart(model="digits", invocation="a"))
    two = project.runs.start(RunStart(model="digits", invocation="b"))
    project.runs.start(RunStart(model="faces", invocation="a"))
    assert [record.id for record in project.runs.list("digits")] == [two, one]
    assert [record.id for record in project.runs.list("digits", invocation="a")] == [one]
    assert len(project.runs.list(limit=2)) == 2
    with project.database.write() as connection:
        run_log.delete(connection, two, MOMENT)
    assert [record.id for record in project.runs.list("digits")] == [one]
    assert project.runs.get(two).deleted_at == MOMENT


def test_a_run_whose_process_died_becomes_failed_with_its_points(project: Project) -> None:
    """A killed training would be running for ever."""
    dead = project.runs.start(RunStart(model="digits", process=DEAD_PROCESS))
    project.runs.log_points(dead, [point("loss", 0.5, 1)])
    alive = project.runs.start(RunStart(model="digits", process=current_process()))
    elsewhere = project.runs.start(
        RunStart(model="digits", process=DEAD_PROCESS, host=f"not-{socket.gethostname()}")
    )
    unnamed = project.runs.start(RunStart(model="digits"))
    (reaped,) = project.runs.reap()
    assert (reaped.id, reaped.state) == (dead, RunState.FAILED)
    assert reaped.failure == "process died without finishing"
    assert len(project.runs.curve(dead, "loss")) == 1
    for run in (alive, elsewhere, unnamed):
        assert project.runs.get(run).state is RunState.RUNNING
    assert project.runs.reap() == []


def test_curves_come_back_from_journals(project: Project, make_manifest: Any) -> None:
    """A rebuilt database would have lost every learning curve."""
    run = project.runs.start(RunStart(model="digits"))
    project.runs.log_points(run, [point("loss", 0.5, 1)])
    project.runs.finish(run, project.catalog.register(make_manifest("digits", 1)))
    with project.database.write() as connection:
        connection.execute(metric_series.delete())
        connection.execute(metric_points.delete())
    assert project.runs.curve(run, "loss") == []
    assert project.runs.restore_curves() == 1
    assert project.runs.curve(run, "loss") == [point("loss", 0.5, 1)]
    assert project.runs.restore_curves() == 1
    assert len(project.runs.curve(run, "loss")) == 1


def test_a_journal_that_cannot_be_written_warns_once_and_loses_nothing(
    project: Project, make_manifest: Any, tmp_path: Path
) -> None:
    """A full disk would stop a training, or cost its curves."""
    (tmp_path / "journal").write_text("a file where the folder should be")
    run = project.runs.start(RunStart(model="digits"))
    project.runs.log_points(run, [point("loss", 0.5, 1)])
    project.runs.log_points(run, [point("loss", 0.25, 2)])
    assert len(project.runs.warnings) == 1
    assert run in project.runs.warnings[0]
    project.runs.finish(run, project.catalog.register(make_manifest("digits", 1)))
    assert [p.value for p in project.runs.curve(run, "loss")] == [0.5, 0.25]


def test_a_bad_model_name_opens_no_run(project: Project) -> None:
    """A model could be called like a path."""
    with pytest.raises(InvalidInputError):
        project.runs.start(replace(RunStart(model="digits"), model="../up"))
