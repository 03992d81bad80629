"""What runs log, on SQLite and on PostgreSQL: each point once, none when deleted."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from stemma.db.engine import Database
from stemma.db.forgetting import forget_runs
from stemma.db.tables import runs
from stemma.db.tracking_rows import examine_tracking
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.run import RunStart, RunState
from stemma.domain.tracking import Point, RunInput, RunOutput
from stemma.tracking import experiments, run_log

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Return an empty database of each kind."""
    with Database.open(database_url, may_create=True) as opened:
        yield opened


def new_run(database: Database, experiment: int = 0, **fields: str) -> str:
    """Open a run."""
    with database.write() as connection:
        start = RunStart(model="", experiment=experiment, **fields)
        return run_log.create_run(connection, start, started_at=NOW, now=NOW).record.id


def log(database: Database, run: str, *points: Point) -> None:
    """Log points."""
    with database.write() as connection:
        run_log.log_metrics(connection, run, points)


def data(database: Database, run: str) -> run_log.RunData:
    """Return everything of a run."""
    with database.read() as connection:
        return run_log.run_data(connection, run)


def history(database: Database, run: str, name: str) -> list[Point]:
    """Return every point of a metric."""
    with database.read() as connection:
        return run_log.metric_history(connection, run, name)[0]


def test_a_run_comes_back_with_all_it_logged(database: Database) -> None:
    """A client would read less than it wrote."""
    with database.write() as connection:
        number = experiments.create(connection, "churn", NOW).id
        start = RunStart(model="", experiment=number, name="first", created_by="ada")
        made = run_log.create_run(
            connection, start, started_at=NOW, now=NOW, tags={"mlflow.user": "ada"}
        )
        run = made.record.id
        run_log.log_batch(
            connection,
            run,
            points=[Point("loss", 0.5, 1, 10), Point("acc", 0.9, 1, 10)],
            params={"lr": "0.1", "odd": "a\0b\u2028"},
            tags={"team": "growth"},
        )
        dataset = RunInput(
            name="train", digest="d1", source_type="local", tags={"mlflow.data.context": "training"}
        )
        run_log.log_inputs(connection, run, [dataset], ["m-1"])
        run_log.log_outputs(connection, run, [RunOutput(logged_model="m-2", step=3)])
        closed = run_log.update(connection, run, state=RunState.FINISHED, ended_at=LATER)
    found = data(database, run)
    assert found.record == closed
    assert (closed.state, closed.ended_at, closed.start.name) == (RunState.FINISHED, LATER, "first")
    assert found.metrics == (Point("acc", 0.9, 1, 10), Point("loss", 0.5, 1, 10))
    assert found.params == {"lr": "0.1", "odd": "a\\0b\u2028"}
    assert found.tags == {"mlflow.user": "ada", "mlflow.runName": "first", "team": "growth"}
    assert found.inputs == (dataset,)
    assert found.inputs[0].context == "training"
    assert (found.model_inputs, found.outputs) == (
        ("m-1",),
        (RunOutput(logged_model="m-2", step=3),),
    )


def test_many_runs_come_back_in_the_order_asked_for(database: Database) -> None:
    """A page of a search would show the params of another run."""
    made = [new_run(database) for _ in range(3)]
    with database.write() as connection:
        for place, run in enumerate(made):
            run_log.log_params(connection, run, {"place": str(place)})
    with database.read() as connection:
        found = run_log.runs_data(connection, [made[2], "r-00", made[0]])
    assert [(one.record.id, one.params["place"]) for one in found] == [
        (made[2], "2"),
        (made[0], "0"),
    ]


def test_equal_points_are_one_point(database: Database) -> None:
    """A client that sends a batch again would double its curve."""
    run = new_run(database)
    points = [Point("loss", 0.5, 1, 10), Point("loss", math.nan, 2, 11), Point("loss", 0.5, 1, 10)]
    log(database, run, *points)
    log(database, run, *points)
    found = history(database, run, "loss")
    assert [(point.step, point.logged_at_us) for point in found] == [(1, 10), (2, 11)]
    assert found[0].value == 0.5
    assert math.isnan(found[1].value)


def test_infinities_and_zero_are_kept_as_both_engines_can(database: Database) -> None:
    """A value would come back as another one, or as damage."""
    run = new_run(database)
    for step, value in enumerate([math.inf, -math.inf, -0.0, 5e-324]):
        log(database, run, Point("x", value, step, 0))
        log(database, run, Point(f"x{step}", value, step, 0))
    largest = 1.7976931348623157e308
    assert [point.value for point in history(database, run, "x")] == [
        largest,
        -largest,
        0.0,
        5e-324,
    ]
    assert [p.value for p in data(database, run).metrics] == [
        5e-324,
        largest,
        -largest,
        0.0,
        5e-324,
    ]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([Point("m", 1.0, 5, 1), Point("m", 9.0, 4, 9)], 1.0),
        ([Point("m", 9.0, 4, 9), Point("m", 1.0, 5, 1)], 1.0),
        ([Point("m", 1.0, 5, 2), Point("m", 9.0, 5, 1)], 1.0),
        ([Point("m", 1.0, 5, 1), Point("m", 9.0, 5, 1)], 9.0),
        ([Point("m", -1e300, 5, 1), Point("m", math.nan, 5, 1)], -1e300),
        ([Point("m", -3.0, -5, -1), Point("m", -4.0, -6, 0)], -3.0),
    ],
)
def test_the_latest_point_is_the_greatest_by_step_moment_and_value(
    database: Database, points: list[Point], expected: float
) -> None:
    """A run would be found, or sorted, by a value from its middle."""
    run, other = new_run(database), new_run(database)
    log(database, run, *points)
    for point in points:
        log(database, other, point)
    assert data(database, run).metrics[0].value == expected
    assert data(database, other).metrics == data(database, run).metrics


def test_a_metric_that_is_not_a_number_is_the_latest_all_the_same(database: Database) -> None:
    """A diverged training would show its last good value."""
    run = new_run(database)
    log(database, run, Point("loss", 0.5, 1, 1), Point("loss", math.nan, 2, 2))
    assert math.isnan(data(database, run).metrics[0].value)


def test_a_history_is_read_in_pages(database: Database) -> None:
    """A long curve would come back with a hole or a double point at a page's end."""
    run = new_run(database)
    log(
        database,
        run,
        *(Point("loss", float(value), step, 7) for step in range(5) for value in (1, 2)),
    )
    seen: list[Point] = []
    mark = None
    with database.read() as connection:
        while True:
            page, mark = run_log.metric_history(connection, run, "loss", limit=3, after=mark)
            assert len(page) <= 3
            seen += page
            if mark is None:
                break
        assert run_log.metric_history(connection, run, "none") == ([], None)
    assert [(point.step, point.value) for point in seen] == [
        (step, float(value)) for step in range(5) for value in (1, 2)
    ]
    with pytest.raises(NotFoundError), database.read() as connection:
        run_log.metric_history(connection, "r-00", "loss")


def test_a_param_is_written_once(database: Database) -> None:
    """What a model was trained with could be rewritten afterwards."""
    run = new_run(database)
    with database.write() as connection:
        run_log.log_params(connection, run, {"lr": "0.1", "depth": "3"})
        run_log.log_params(connection, run, {"lr": "0.1", "more": "1"})
    with pytest.raises(InvalidInputError) as caught, database.write() as connection:
        run_log.log_params(connection, run, {"lr": "0.2", "new": "1"})
    assert caught.value.code == "param-differs"
    assert data(database, run).params == {"lr": "0.1", "depth": "3", "more": "1"}


def test_a_tag_is_written_over_and_removed(database: Database) -> None:
    """A note could not be corrected."""
    run = new_run(database)
    with database.write() as connection:
        run_log.set_tags(connection, run, {"a": "1", "b": "1"})
        run_log.set_tags(connection, run, {"a": "2"})
        run_log.delete_tag(connection, run, "b")
        with pytest.raises(NotFoundError):
            run_log.delete_tag(connection, run, "b")
    tags = data(database, run).tags
    assert {key: tags[key] for key in tags if not key.startswith("mlflow.")} == {"a": "2"}


def test_a_runs_name_and_its_tag_are_one(database: Database) -> None:
    """A run would have two names, by whom one asks."""
    run = new_run(database)
    given = data(database, run)
    assert given.record.start.name == given.tags["mlflow.runName"] != ""
    with database.write() as connection:
        run_log.set_tags(connection, run, {"mlflow.runName": "by tag"})
    assert data(database, run).record.start.name == "by tag"
    with database.write() as connection:
        run_log.update(connection, run, name="by name")
    assert data(database, run).tags["mlflow.runName"] == "by name"
    start = RunStart(model="", name="one")
    tags = {"mlflow.runName": "two"}
    with pytest.raises(InvalidInputError), database.write() as connection:
        run_log.create_run(connection, start, started_at=NOW, now=NOW, tags=tags)


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        ({"points": [Point("m", 1.0, step, 0) for step in range(1001)]}, "batch-too-large"),
        ({"params": {f"p{number}": "" for number in range(101)}}, "batch-too-large"),
        ({"tags": {f"t{number}": "" for number in range(101)}}, "batch-too-large"),
        (
            {"points": [Point("m", 1.0, n, 0) for n in range(1000)], "tags": {"t": ""}},
            "batch-too-large",
        ),
        ({"params": {"p": "x" * 6001}}, "too-long"),
        ({"tags": {"t": "x" * 8001}}, "too-long"),
        ({"params": {"p" * 251: "x"}}, "too-long"),
        ({"points": [Point("m" * 251, 1.0, 0, 0)]}, "too-long"),
        ({"points": [Point("../m", 1.0, 0, 0)]}, "bad-key"),
        ({"points": [Point("a//m", 1.0, 0, 0)]}, "bad-key"),
        ({"tags": {"": "x"}}, "bad-key"),
        ({"params": {"a\0b": "x"}}, "bad-key"),
        ({"points": [Point("m", 1.0, 2**63, 0)]}, "bad-step"),
        ({"points": [Point("m", 1.0, 0, -(2**63) - 1)]}, "bad-moment"),
    ],
)
def test_what_is_too_much_or_named_badly_is_refused_whole(
    database: Database, batch: dict[str, object], code: str
) -> None:
    """A client would be told that what was cut off is stored."""
    run = new_run(database)
    with pytest.raises(InvalidInputError) as caught, database.write() as connection:
        run_log.log_batch(connection, run, **batch)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert data(database, run).params == {}
    assert data(database, run).metrics == ()


def test_the_largest_batch_is_taken(database: Database) -> None:
    """A client that keeps to the limits would be refused."""
    run = new_run(database)
    with database.write() as connection:
        run_log.log_batch(
            connection,
            run,
            points=[Point(f"m/{number}", 1.0, 0, 2**63 - 1) for number in range(800)],
            params={f"{'p' * 247}{number:3}": "x" * 6000 for number in range(100)},
            tags={f"t{number}": "x" * 8000 for number in range(100)},
        )
    found = data(database, run)
    assert (len(found.metrics), len(found.params), len(found.tags)) == (800, 100, 101)


def test_a_deleted_run_takes_nothing_until_it_is_restored(database: Database) -> None:
    """A deleted run would go on growing."""
    run = new_run(database)
    with database.write() as connection:
        run_log.delete(connection, run, LATER)
        run_log.delete(connection, run, LATER + timedelta(hours=1))
    assert data(database, run).record.deleted_at == LATER
    point = Point("m", 1.0, 0, 0)
    for verb in (
        lambda c: run_log.log_metrics(c, run, [point]),
        lambda c: run_log.log_params(c, run, {"p": "1"}),
        lambda c: run_log.set_tags(c, run, {"t": "1"}),
        lambda c: run_log.delete_tag(c, run, "mlflow.runName"),
        lambda c: run_log.log_inputs(c, run, [RunInput(name="a", digest="b")]),
        lambda c: run_log.log_outputs(c, run, [RunOutput(logged_model="m-1")]),
        lambda c: run_log.update(c, run, name="x"),
    ):
        with pytest.raises(InvalidInputError) as caught, database.write() as connection:
            verb(connection)
        assert caught.value.code == "run-deleted"
    with database.write() as connection:
        run_log.restore(connection, run)
        run_log.log_metrics(connection, run, [point])
    assert data(database, run).metrics == (point,)


def test_a_deleted_experiment_takes_its_living_runs_with_it_and_back(database: Database) -> None:
    """Restoring an experiment would bring back runs that were deleted one by one."""
    with database.write() as connection:
        number = experiments.create(connection, "churn", NOW).id
    kept, gone = new_run(database, number), new_run(database, number)
    with database.write() as connection:
        run_log.delete(connection, gone, NOW)
        experiments.delete(connection, number, LATER)
        with pytest.raises(InvalidInputError):
            run_log.log_metrics(connection, kept, [Point("m", 1.0, 0, 0)])
        with pytest.raises(InvalidInputError):
            run_log.restore(connection, gone)
        with pytest.raises(InvalidInputError) as caught:
            run_log.create_run(
                connection, RunStart(model="", experiment=number), started_at=NOW, now=NOW
            )
        assert caught.value.code == "experiment-deleted"
        experiments.restore(connection, number, LATER)
    assert data(database, kept).record.deleted_at is None
    assert data(database, gone).record.deleted_at == NOW


def test_a_run_that_is_forgotten_takes_all_it_logged_with_it(database: Database) -> None:
    """A run that is gone would take up room for ever, or take a living one's points with it."""
    gone, kept = new_run(database), new_run(database)
    for run in (gone, kept):
        log(database, run, Point("m", 1.0, 0, 0), Point("n", 1.0, 0, 0))
    with database.write() as connection:
        run_log.log_batch(connection, gone, params={"p": "1"}, tags={"t": "1"})
        run_log.log_inputs(connection, gone, [RunInput(name="a", digest="b")], ["m-1"])
        forget_runs(connection, select(runs.c.id).where(runs.c.id == gone))
    with pytest.raises(NotFoundError):
        data(database, gone)
    again = new_run(database)
    assert len(history(database, kept, "m")) == 1
    log(database, again, Point("m", 2.0, 0, 0))
    assert [point.value for point in history(database, again, "m")] == [2.0]
    report = examine_tracking(database)
    assert (report.damaged, report.orphaned, report.unreadable) == ((), (), ())


def test_an_unknown_run_takes_nothing(database: Database) -> None:
    """Points of a mistyped run would lie about without an owner."""
    with database.write() as connection:
        for verb in (run_log.log_metrics, run_log.log_inputs, run_log.log_outputs):
            with pytest.raises(NotFoundError):
                verb(connection, "r-00", [])
        with pytest.raises(NotFoundError):
            run_log.get(connection, "r-00")
        with pytest.raises(NotFoundError):
            run_log.create_run(
                connection, RunStart(model="", experiment=77), started_at=NOW, now=NOW
            )


def test_an_imported_run_keeps_its_id(database: Database) -> None:
    """A run would be imported twice."""
    foreign = "0123456789abcdef" * 2
    with database.write() as connection:
        start = RunStart(model="")
        made = run_log.create_run(connection, start, started_at=NOW, now=NOW, run=foreign)
        assert made.record.id == f"r-{foreign}"
        with pytest.raises(ConflictError):
            run_log.create_run(connection, start, started_at=NOW, now=NOW, run=foreign)


def test_the_first_of_two_equal_datasets_counts(database: Database) -> None:
    """What a run was trained on could be rewritten afterwards."""
    run = new_run(database)
    first = RunInput(name="train", digest="d", source="a")
    with database.write() as connection:
        run_log.log_inputs(connection, run, [first, RunInput(name="train", digest="d", source="b")])
        run_log.log_inputs(connection, run, [RunInput(name="train", digest="d", source="c")])
        with pytest.raises(InvalidInputError):
            run_log.log_inputs(connection, run, [RunInput(name="", digest="d")])
    assert data(database, run).inputs == (first,)


def test_two_clients_write_the_same_run(database: Database) -> None:
    """A second client would take the first one's points, or fail."""
    run = new_run(database)

    def work(offset: int) -> None:
        for step in range(offset, offset + 12):
            log(database, run, Point("loss", 1.0, step, 0), Point(f"own{offset}", 1.0, step, 0))

    threads = [threading.Thread(target=work, args=(offset,)) for offset in (0, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [point.step for point in history(database, run, "loss")] == list(range(18))
    assert [(p.name, p.step) for p in data(database, run).metrics] == [
        ("loss", 17),
        ("own0", 11),
        ("own6", 17),
    ]
