"""Traces on SQLite and PostgreSQL: kept, found, deleted, and gone with their experiment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from stemma.db.engine import Database
from stemma.db.tracking_rows import examine_tracking, tidy
from stemma.domain.artifact import Artifact
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.run import RunStart
from stemma.domain.trace import Trace, TraceState
from stemma.tracking import artifacts, experiments, removal, run_log, traces
from stemma.tracking.search.records import search_traces
from stemma.tracking.search.values import Search

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
FILE = Digest.blake3("0" * 64)


@pytest.fixture
def database(project: Any) -> Database:
    """Return an empty database of each kind."""
    found: Database = project.database
    return found


def make(number: int, **fields: Any) -> Trace:
    """Return a trace that began that many seconds after noon."""
    began = NOW + timedelta(seconds=number)
    wanted = {"state": TraceState.OK, "duration_ms": number, **fields}
    return Trace(id=f"tr-{number:032x}", experiment=0, requested_at=began, **wanted)


def fill(database: Database, *found: Trace) -> None:
    """Keep traces."""
    with database.write() as connection:
        for trace in found:
            traces.put(connection, trace, NOW)


def search(database: Database, asked: str = "", *order: str) -> list[int]:
    """Return the numbers of the traces that are found, page by page of two."""
    token, numbers = "", []
    while True:
        with database.read() as connection:
            wanted = Search(filter=asked, order=order, page_size=2, token=token)
            page = search_traces(connection, [0], wanted)
        numbers += [int(identity[3:], 16) for identity in page.items]
        token = page.next_token
        if not token:
            return numbers


def test_a_trace_comes_back_whole_and_is_told_again(database: Database) -> None:
    """A client would lose what its application was asked, or have it twice."""
    first = make(
        1,
        name="answer",
        client_request="t-7",
        request_preview="é\0",
        metadata={"mlflow.user": "a"},
        tags={"mlflow.traceName": "answer", "mlflow.artifactLocation": "s3://elsewhere"},
    )
    fill(database, replace(first, state=TraceState.IN_PROGRESS, duration_ms=None), first)
    with database.read() as connection:
        found = traces.get(connection, first.id)
    kept = replace(first, request_preview="é\\0", tags={"mlflow.traceName": "answer"})
    assert found == kept
    with database.write() as connection:
        number = experiments.create(connection, "other", NOW).id
        with pytest.raises(ConflictError, match="is of experiment 0"):
            traces.put(connection, replace(first, experiment=number), NOW)


def test_traces_are_found_by_what_they_say(database: Database) -> None:
    """A search would miss calls that failed, or show others."""
    fill(
        database,
        make(1, name="a", tags={"team": "x", "mlflow.traceName": "a"}),
        make(2, state=TraceState.ERROR, metadata={"k": "v"}),
        make(3, duration_ms=None, run="r-1"),
        make(4, client_request="t", metadata={"mlflow.modelId": "m-1"}),
    )
    assert search(database) == [4, 3, 2, 1]
    assert search(database, "", "execution_time_ms DESC") == [4, 2, 1, 3]
    assert search(database, "", "name DESC", "timestamp ASC") == [1, 2, 3, 4]
    milliseconds = int(NOW.timestamp() * 1000) + 2000
    for asked, wanted in (
        ("status = 'ERROR'", [2]),
        ("trace.name LIKE 'a%'", [1]),
        ("tags.team = 'x'", [1]),
        ("metadata.k = 'v' AND request_metadata.k != 'w'", [2]),
        ("attributes.run_id = 'r-1'", [3]),
        (f"timestamp_ms <= {milliseconds}", [2, 1]),
        ("execution_time_ms > 1", [4, 2]),
        ("execution_time_ms IS NULL", [3]),
        ("client_request_id = 't'", [4]),
        ("request_metadata.`mlflow.modelId` = 'm-1'", [4]),
    ):
        assert search(database, asked) == wanted, asked
    with pytest.raises(InvalidInputError):
        search(database, "metrics.loss > 1")


def test_deleted_traces_are_gone_with_their_files(database: Database) -> None:
    """A deleted call would still be found, or another one's be deleted."""
    fill(database, *(make(number) for number in range(1, 6)))
    one = make(1).id
    with database.write() as connection:
        artifacts.put(
            connection, Artifact(owner=one, path="traces.json", file=FILE, size_bytes=7), NOW
        )
        assert [file for file, _ in artifacts.kept_files(connection)] == [FILE]
        assert traces.delete(connection, 7, [one]) == 0
        assert traces.delete(connection, 0, [one, "tr-99"]) == 1
        assert not list(artifacts.kept_files(connection))
        with pytest.raises(NotFoundError):
            artifacts.check_writable(connection, one, "traces.json")
        moment = make(4).requested_at
        assert traces.delete_before(connection, 0, moment, 1) == 1
    assert search(database) == [5, 4, 3]
    with database.write() as connection:
        assert traces.delete_before(connection, 0, moment, None) == 2
    assert search(database) == [5]


def test_traces_are_tagged_and_linked(database: Database) -> None:
    """A reviewer's tags would be lost, or a run show calls of another."""
    fill(database, make(1))
    one = make(1).id
    with database.write() as connection:
        run = run_log.create_run(connection, RunStart(model=""), started_at=NOW, now=NOW).record.id
        traces.set_tag(connection, one, "mlflow.traceName", "b")
        traces.set_tag(connection, one, "a", "1")
        traces.set_tag(connection, one, "a", "2")
        traces.link(connection, [one], run)
        found = traces.get(connection, one)
        assert (found.name, found.run, found.tags["a"]) == ("b", run, "2")
        traces.delete_tag(connection, one, "mlflow.traceName")
        assert traces.get(connection, one).name == ""
        with pytest.raises(NotFoundError):
            traces.delete_tag(connection, one, "mlflow.traceName")
        with pytest.raises(InvalidInputError):
            traces.set_tag(connection, one, "mlflow.artifactLocation", "file:///etc")
        with pytest.raises(NotFoundError):
            traces.link(connection, ["tr-99"], run)
        with pytest.raises(InvalidInputError):
            traces.link(connection, ["tr-99"] * 101, run)


def test_traces_go_with_a_deleted_experiment(database: Database) -> None:
    """What nobody can find any more would hold the disk for ever."""
    with database.write() as connection:
        number = experiments.create(connection, "other", NOW).id
    fill(database, make(1), replace(make(2), experiment=number, tags={"a": "b"}))
    with database.write() as connection:
        experiments.delete(connection, number, NOW)
        with pytest.raises(InvalidInputError):
            traces.put(connection, replace(make(3), experiment=number), NOW)
        doomed = removal.find_doomed(connection, NOW + timedelta(seconds=1))
        assert doomed.owners == {make(2).id}
        removal.forget(connection, doomed)
        assert [it.id for it in traces.get_many(connection, [make(1).id, make(2).id])] == [
            make(1).id
        ]


def test_files_of_a_lost_trace_are_found_and_dropped(database: Database) -> None:
    """Doctor would take the spans of every trace for lost, or keep those of lost ones."""
    fill(database, make(1), make(2))
    with database.write() as connection:
        for number in (1, 2):
            spans = Artifact(owner=make(number).id, path="traces.json", file=FILE, size_bytes=7)
            artifacts.put(connection, spans, NOW)
    assert examine_tracking(database).orphaned == ()
    with database.write() as connection:
        connection.execute(text("DELETE FROM traces WHERE duration_ms = 1"))
    assert examine_tracking(database).orphaned == (("artifacts", 1),)
    with database.write() as connection:
        tidy(connection)
        kept = [owner for owner, _, _ in artifacts.every_artifact(connection)]
    assert kept == [make(2).id]


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_preview": "x" * 10_001},
        {"client_request": "x" * 501},
        {"tags": {f"k{number}": "" for number in range(1001)}},
        {"metadata": {"k": "x" * 8001}},
        {"tags": {"../k": ""}},
        {"duration_ms": 2**60},
    ],
)
def test_what_is_too_large_is_refused(project: Any, wrong: dict[str, Any]) -> None:
    """One client could fill the database with one message."""
    with pytest.raises(InvalidInputError):
        fill(project.database, make(1, **wrong))
