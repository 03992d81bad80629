"""Rows of artifacts and of logged models, on SQLite and PostgreSQL."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stemma.db.engine import Database
from stemma.domain.artifact import Artifact
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.logged_model import LoggedModel, LoggedModelState, ModelMetric
from stemma.domain.registry import NewVersion
from stemma.domain.run import RunStart
from stemma.tracking import artifacts, logged_models, registry, removal, run_log

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
FILES = [Digest.blake3(f"{number:064x}") for number in range(4)]


@pytest.fixture
def database(project: Any) -> Database:
    """Return an empty database of each kind."""
    found: Database = project.database
    return found


@pytest.fixture
def run(database: Database) -> str:
    """Return a run of the default experiment."""
    with database.write() as connection:
        return run_log.create_run(connection, RunStart(model=""), started_at=NOW, now=NOW).record.id


def make_model(database: Database, name: str = "clf", **fields: Any) -> LoggedModel:
    """Make a logged model of the default experiment."""
    new = logged_models.NewLoggedModel(experiment=0, name=name, **fields)
    with database.write() as connection:
        return logged_models.create(connection, new, NOW)


def put(database: Database, owner: str, path: str, file: Digest = FILES[0]) -> None:
    """Put a file that is said to have seven bytes."""
    with database.write() as connection:
        artifact = Artifact(owner=owner, path=path, file=file, size_bytes=7)
        artifacts.put(connection, artifact, NOW)


def names(database: Database, owner: str, folder: str = "") -> list[str]:
    """Return what a folder holds; folders end with a slash."""
    with database.read() as connection:
        found = artifacts.list_folder(connection, owner, folder)
    return [entry.path + "/" * entry.is_folder for entry in found]


def test_folders_hold_what_is_put_into_them(database: Database, run: str) -> None:
    """A download would miss files, or find those of another folder."""
    for path in ("a/x", "a/b/y", "a-b", "a0", "a.txt", "ä/z", "Model/q", "model/q"):
        put(database, run, path)
    assert sorted(names(database, run)) == sorted(
        ["a/", "a-b", "a0", "a.txt", "ä/", "Model/", "model/"]
    )
    assert names(database, run, "a") == ["a/b/", "a/x"]
    assert names(database, run, "a/b") == ["a/b/y"]
    assert names(database, run, "model") == ["model/q"]
    assert names(database, run, "mode") == []
    assert names(database, run, "a0") == []
    with database.read() as connection:
        below = [file.path for file in artifacts.list_below(connection, run, "a")]
    assert below == ["a/b/y", "a/x"]


def test_large_folders_are_stepped_over(database: Database, run: str) -> None:
    """A folder of many files would hide what stands behind it, or show a file twice."""
    with database.write() as connection:
        for number in range(600):
            for folder in ("a", "b"):
                file = Artifact(
                    owner=run, path=f"{folder}/{number:04d}", file=FILES[0], size_bytes=1
                )
                artifacts.put(connection, file, NOW)
        for number in range(520):
            file = Artifact(owner=run, path=f"z{number:04d}", file=FILES[0], size_bytes=1)
            artifacts.put(connection, file, NOW)
    assert names(database, run) == ["a/", "b/", *(f"z{number:04d}" for number in range(520))]
    assert len(names(database, run, "b")) == 600


def test_a_path_is_a_file_or_a_folder(database: Database, run: str) -> None:
    """A client could not download such artifacts into a folder."""
    put(database, run, "a/b")
    for path in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(InvalidInputError) as refused:
            put(database, run, path)
        assert refused.value.code == "artifact-in-the-way"
    put(database, run, "a/bc")


def test_a_run_replaces_its_files_and_removes_them(database: Database, run: str) -> None:
    """A checkpoint could not be written again."""
    put(database, run, "last.ckpt")
    put(database, run, "last.ckpt", FILES[1])
    put(database, run, "logs/1")
    put(database, run, "logs/2")
    with database.write() as connection:
        assert artifacts.get(connection, run, "last.ckpt").file == FILES[1]
        assert artifacts.delete(connection, run, "logs") == 2
        with pytest.raises(NotFoundError):
            artifacts.delete(connection, run, "logs")
        with pytest.raises(NotFoundError):
            artifacts.get(connection, run, "logs/1")
    assert names(database, run) == ["last.ckpt"]


def test_a_ready_model_stays_as_it_is(database: Database) -> None:
    """What was evaluated would not be what is served."""
    model = make_model(database)
    put(database, model.id, "MLmodel")
    with database.write() as connection:
        logged_models.finish(connection, model.id, LoggedModelState.READY, NOW)
        logged_models.finish(connection, model.id, LoggedModelState.READY, NOW)
    put(database, model.id, "MLmodel")  # the same file: an answer was lost, and asked for again
    for path, file in (("MLmodel", FILES[1]), ("more", FILES[0])):
        with pytest.raises(ConflictError) as refused:
            put(database, model.id, path, file)
        assert refused.value.code == "artifact-immutable"
    with database.write() as connection:
        with pytest.raises(ConflictError):
            artifacts.delete(connection, model.id, "MLmodel")
        with pytest.raises(ConflictError):
            logged_models.finish(connection, model.id, LoggedModelState.FAILED, NOW)


def test_nothing_is_put_where_nobody_is(database: Database, run: str) -> None:
    """Files would be kept that no record leads to."""
    for owner in ("r-ffffffff", f"m-{'f' * 32}"):
        with pytest.raises(NotFoundError):
            put(database, owner, "a")
    with database.write() as connection:
        artifact = Artifact(owner=run, path="a", file=FILES[0], size_bytes=1)
        with pytest.raises(NotFoundError):
            artifacts.put(connection, artifact, NOW, experiment=9)
        run_log.delete(connection, run, NOW)
    with pytest.raises(InvalidInputError) as refused:
        put(database, run, "a")
    assert refused.value.code == "run-deleted"


def test_files_of_earlier_models_are_relatives(database: Database) -> None:
    """A fine-tune that is uploaded would be stored whole again."""
    first, second, third = (make_model(database) for _ in range(3))
    put(database, first.id, "data/model.pt", FILES[0])
    put(database, second.id, "data/other.pt", FILES[1])
    with database.read() as connection:
        assert artifacts.relatives(connection, third.id, "data/model.pt") == [FILES[0]]
        assert artifacts.relatives(connection, first.id, "data/model.pt") == []


def test_collection_keeps_every_file_once(database: Database, run: str) -> None:
    """Garbage collection would remove what a run still names."""
    put(database, run, "a")
    put(database, run, "b")
    put(database, run, "c", FILES[1])
    with database.read() as connection:
        kept = dict(artifacts.kept_files(connection))
        assert set(kept) == {FILES[0], FILES[1]}
        assert kept[FILES[1]] == f"artifact c of {run}"
        assert not dict(artifacts.kept_files(connection, without=[run]))


def test_what_was_deleted_long_ago_goes_with_all_it_logged(database: Database, run: str) -> None:
    """Deleted runs would stay for ever, or take with them what a registered version needs."""
    plain, registered = make_model(database), make_model(database, run=run)
    for owner in (run, plain.id, registered.id):
        put(database, owner, "a")
        put(database, owner, "b")
    point = ModelMetric("acc", 0.5, 1, 10, "", "", "")
    with database.write() as connection:
        registry.create_model(connection, "Clf", NOW)
        new = NewVersion(name="Clf", source=f"models:/{registered.id}", logged_model=registered.id)
        registry.create_version(connection, new, NOW)
        logged_models.set_tags(connection, plain.id, {"a": "b"}, NOW)
        logged_models.log_model_metrics(connection, [(plain.id, point)])
        logged_models.delete(connection, plain.id, NOW)
        logged_models.delete(connection, registered.id, NOW)
        run_log.log_params(connection, run, {"lr": "0.1"})
        run_log.delete(connection, run, NOW)
    with database.write() as connection:
        assert removal.find_doomed(connection, NOW).owners == set()
        doomed = removal.find_doomed(connection, NOW + timedelta(seconds=1))
        (found,) = doomed.models
        assert (found.id, found.file_count, found.size_bytes) == (plain.id, 2, 14)
        removal.forget(connection, doomed)
        kept = {owner for owner, _, _ in artifacts.every_artifact(connection)}
    assert plain.id not in kept
    assert registered.id in kept


def test_a_logged_model_comes_back_whole(database: Database, run: str) -> None:
    """A client would load a model without knowing what made it."""
    model = make_model(database, run=run, type="agent", params={"lr": "0.1"}, tags={"a": "b"})
    point = ModelMetric("acc", 0.5, 1, 10, run, "digits", "abc")
    with database.write() as connection:
        logged_models.log_params(connection, model.id, {"lr": "0.1", "depth": "3"}, NOW)
        logged_models.set_tags(connection, model.id, {"a": "c", "d": "e"}, NOW)
        logged_models.delete_tag(connection, model.id, "d", NOW)
        logged_models.log_model_metrics(connection, [(model.id, point)])
        later = point._replace(value=0.75, step=2)
        logged_models.log_model_metrics(connection, [(model.id, later), (model.id, point)])
        nan = ModelMetric("loss", math.nan, 0, 0, run, "", "")
        logged_models.log_model_metrics(connection, [(model.id, nan)])
    with database.read() as connection:
        found = logged_models.get(connection, model.id)
    assert (found.run, found.type, found.state) == (run, "agent", LoggedModelState.PENDING)
    assert found.params == {"lr": "0.1", "depth": "3"}
    assert found.tags == {"a": "c"}
    assert found.metrics[0] == later
    assert math.isnan(found.metrics[1].value)


def test_wrong_logged_models_are_refused(database: Database) -> None:
    """A request that makes no sense would leave a record that makes none."""
    model = make_model(database, params={"lr": "0.1"})
    with database.write() as connection:
        with pytest.raises(InvalidInputError):
            logged_models.log_params(connection, model.id, {"lr": "0.2"}, NOW)
        with pytest.raises(NotFoundError):
            logged_models.delete_tag(connection, model.id, "none", NOW)
        point = ModelMetric("acc", 0.5, 1, 10, "", "", "")
        with pytest.raises(NotFoundError):
            logged_models.log_model_metrics(connection, [(f"m-{'f' * 32}", point)])
        logged_models.delete(connection, model.id, NOW)
        with pytest.raises(NotFoundError):
            logged_models.get(connection, model.id)
        assert logged_models.get(connection, model.id, is_deleted_too=True).deleted_at == NOW
    for name in ("a/b", "a.b", " ", "x" * 501):
        with pytest.raises(InvalidInputError):
            make_model(database, name)
    with pytest.raises(NotFoundError):
        make_model(database, run="r-ffffffff")
