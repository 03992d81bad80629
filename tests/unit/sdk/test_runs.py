"""``stemma.runs``: what was logged, as a table."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import stemma
from stemma.db.engine import Database
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.run import RunStart
from stemma.domain.tracking import Point
from stemma.tracking import experiments, run_log

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.fixture
def ids(project: Path) -> list[str]:
    """Write two runs, as a tracking client would; return their ids."""
    made = []
    database = Database.open(f"sqlite:///{project}/.stemma/stemma.db", may_create=False)
    with database, database.write() as connection:
        number = experiments.create(connection, "churn", NOW).id
        for index, accuracy in enumerate((0.9, 0.8)):
            moment = NOW + timedelta(minutes=index)
            start = RunStart(model="", experiment=number, created_by="ada")
            run = run_log.create_run(connection, start, started_at=moment, now=moment).record.id
            run_log.log_metrics(connection, run, [Point("accuracy", accuracy, 1, 1_000)])
            if index:
                run_log.log_params(connection, run, {"lr": "0.1"})
                run_log.set_tags(connection, run, {"team": "a"})
            made.append(run)
    return made


def test_runs_are_searched_and_ordered(ids: list[str]) -> None:
    """A script would compare other runs than it asked for."""
    assert [data.record.id for data in stemma.runs()] == ids[::-1]
    assert [data.record.id for data in stemma.runs(order_by="metrics.accuracy DESC")] == ids
    (found,) = stemma.runs("metrics.accuracy < 0.85 and params.lr = '0.1'", experiment="churn")
    assert (found.record.id, found.params) == (ids[1], {"lr": "0.1"})
    assert len(stemma.runs(limit=1)) == 1
    assert len(stemma.runs(model="digits")) == 0
    assert [data.record.id for data in stemma.runs()[1:]] == ids[:1]
    assert repr(stemma.runs()) == f"<2 runs: {ids[1]}, {ids[0]}>"


def test_a_wrong_search_is_told(ids: list[str]) -> None:
    """A mistyped filter would give an empty table."""
    with pytest.raises(InvalidInputError, match="at character 1"):
        stemma.runs("accuracy > 0.9")
    with pytest.raises(NotFoundError):
        stemma.runs(experiment="nothing")
    with pytest.raises(InvalidInputError, match="page"):
        stemma.runs(limit=0)


def test_a_table_has_a_column_for_all_that_was_logged(ids: list[str]) -> None:
    """A notebook would have to collect params and metrics run by run."""
    runs = stemma.runs(order_by=["start_time"])
    columns = runs.columns()
    assert list(columns)[:6] == [
        "run",
        "model",
        "state",
        "started_at",
        "metrics.accuracy",
        "params.lr",
    ]
    assert columns["run"] == ids
    assert columns["params.lr"] == [None, "0.1"]
    assert columns["tags.team"] == [None, "a"]
    frame = runs.to_pandas()
    assert list(frame.columns) == list(columns)
    assert frame["metrics.accuracy"].max() == 0.9
    assert frame["started_at"].iloc[0] == NOW
    assert not math.isnan(frame["metrics.accuracy"].min())
