"""The registry on SQLite and on PostgreSQL: names, numbers, sources, stages, releases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from sqlalchemy import insert

from stemma.db.engine import Connection
from stemma.db.rows import seal
from stemma.db.tracking_tables import logged_models
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.registry import LoggedModelFolder, ModelStage, NewVersion, RunFolder
from stemma.domain.run import RunStart
from stemma.tracking import artifacts, registered_sources, registry, release_numbers
from stemma.tracking import registry_queries as queries
from stemma.tracking import registry_source_queries as sources

Project = Any
ResultT = TypeVar("ResultT")
NOW = datetime(2026, 5, 3, tzinfo=UTC)
MODEL_ID = "m-" + "a" * 32


def write(project: Project, verb: Callable[[Connection], ResultT]) -> ResultT:
    """Carry out a verb."""
    with project.database.write() as connection:
        return verb(connection)


def make_run(project: Project) -> str:
    """Start a run of no model, as MLflow's client does."""
    return str(project.runs.start(RunStart(model="mlflow")))


def make_logged_model(connection: Connection, run: str, name: str = "model") -> None:
    """Add a logged model."""
    values = {
        "id": MODEL_ID,
        "experiment": 0,
        "run": run,
        "name": name,
        "type": "",
        "state": "READY",
        "state_message": "",
        "created_at": "2026-05-03T00:00:00.000000Z",
        "updated_at": "2026-05-03T00:00:00.000000Z",
        "deleted_at": None,
    }
    connection.execute(insert(logged_models), [seal(logged_models, values)])


def new_version(run: str, name: str = "Clf", path: str = "model", **fields: Any) -> NewVersion:
    """Return a registration of files of a run."""
    source = f"mlflow-artifacts:/0/{run}/artifacts/{path}"
    return NewVersion(name=name, source=source, run=run, **fields)


def register(project: Project, run: str, name: str = "Clf", **fields: Any) -> int:
    """Register files of a run; returns the number."""
    new = new_version(run, name, **fields)
    return write(project, lambda c: registry.create_version(c, new, NOW)).number


def test_a_model_is_registered_described_and_forgotten(project: Project) -> None:
    """A registered model would come back without its tags, or twice."""
    tags = {"team": "risk\0"}
    write(project, lambda c: registry.create_model(c, "Clf", NOW, description="d", tags=tags))
    with project.database.read() as connection:
        model = registry.get_model(connection, "Clf")
    assert (model.model, model.description, model.tags) == ("clf", "d", {"team": "risk\\0"})
    with pytest.raises(ConflictError) as exists:
        write(project, lambda c: registry.create_model(c, "Clf", NOW))
    assert exists.value.code == "registered-model-exists"
    with pytest.raises(ConflictError) as taken:
        write(project, lambda c: registry.create_model(c, "CLF", NOW))
    assert taken.value.code == "model-name-taken"
    write(project, lambda c: registry.update_model(c, "Clf", "new", NOW))
    write(project, lambda c: registry.set_model_tag(c, "Clf", "team", "fraud", NOW))
    write(project, lambda c: registry.set_model_tag(c, "Clf", "a", "b", NOW))
    write(project, lambda c: registry.delete_model_tag(c, "Clf", "a", NOW))
    with project.database.read() as connection:
        model = registry.get_model(connection, "Clf")
    assert (model.description, model.tags) == ("new", {"team": "fraud"})
    write(project, lambda c: registry.delete_model(c, "Clf"))
    with project.database.read() as connection, pytest.raises(NotFoundError):
        registry.get_model(connection, "Clf")


def test_versions_count_from_one_and_never_reuse_a_number(project: Project) -> None:
    """A colleague's version 2 would become other files."""
    run = make_run(project)
    write(project, lambda c: registry.create_model(c, "Clf", NOW))
    assert [register(project, run), register(project, run, tags={"a": "b"})] == [1, 2]
    write(project, lambda c: registry.delete_version(c, "Clf", 2, NOW))
    assert register(project, run, description="third") == 3
    with project.database.read() as connection:
        with pytest.raises(NotFoundError):
            registry.get_version(connection, "Clf", 2)
        version = registry.get_version(connection, "Clf", 3)
        assert [found.number for found in queries.all_versions(connection, "Clf")] == [1, 3]
    assert (version.run, version.description) == (run, "third")
    # The experiment is the run's own, whatever the client wrote.
    assert version.source == f"mlflow-artifacts:/1/{run}/artifacts/model"
    with pytest.raises(NotFoundError):
        register(project, run, "Other")


def test_a_version_is_described_and_tagged_but_its_files_stay(project: Project) -> None:
    """Tags of one version would appear on another."""
    run = make_run(project)
    write(project, lambda c: registry.create_model(c, "Clf", NOW))
    for _ in range(2):
        register(project, run, tags={"a": "b"})
    write(project, lambda c: registry.set_version_tags(c, "Clf", 1, {"a": "c", "d": "e"}, NOW))
    write(project, lambda c: registry.delete_version_tag(c, "Clf", 2, "a", NOW))
    write(project, lambda c: registry.update_version(c, "Clf", 1, "better", NOW))
    with project.database.read() as connection:
        first, second = (registry.get_version(connection, "Clf", n) for n in (1, 2))
    assert (first.tags, first.description, second.tags) == ({"a": "c", "d": "e"}, "better", {})


def test_only_files_of_the_named_run_or_model_are_registered(project: Project) -> None:
    """A client could register another one's files, or any file of the server."""
    run, other = make_run(project), make_run(project)
    write(project, lambda c: registry.create_model(c, "Clf", NOW))
    write(project, lambda c: make_logged_model(c, run))
    of_run = f"mlflow-artifacts:/0/{run}/artifacts/model"
    of_model = f"models:/{MODEL_ID}"
    for refused in (
        NewVersion(name="Clf", source=of_run),
        NewVersion(name="Clf", source=of_run, run=other),
        NewVersion(name="Clf", source=of_run, run=run, logged_model=MODEL_ID),
        NewVersion(name="Clf", source="mlflow-artifacts:/0/r-0f/artifacts", run="r-0f"),
        NewVersion(name="Clf", source=of_model, logged_model="m-" + "b" * 32),
        NewVersion(name="Clf", source=of_model, run=other),
        NewVersion(name="Clf", source="models:/m-" + "b" * 32),
        NewVersion(name="Clf", source="models:/Clf/7"),
        NewVersion(name="Clf", source="file:///etc/passwd", run=run),
    ):
        with pytest.raises(InvalidInputError):
            write(project, lambda c, new=refused: registry.create_version(c, new, NOW))
    new = NewVersion(name="Clf", source=of_model, logged_model=MODEL_ID)
    version = write(project, lambda c: registry.create_version(c, new, NOW))
    assert (version.number, version.run, version.logged_model) == (1, run, MODEL_ID)
    copy = NewVersion(name="Clf", source="models:/Clf/1", run=run, logged_model=MODEL_ID)
    copied = write(project, lambda c: registry.create_version(c, copy, NOW))
    assert (copied.number, copied.source) == (2, of_model)
    for wrong in ({"run": other}, {"logged_model": "m-1"}):
        new = NewVersion(name="Clf", source="models:/Clf/1", **wrong)
        with pytest.raises(InvalidInputError):
            write(project, lambda c, new=new: registry.create_version(c, new, NOW))


def test_files_named_by_run_and_path_may_be_a_logged_models(project: Project) -> None:
    """A model logged by today's client would have no files by its older address."""
    run = make_run(project)
    write(project, lambda c: registry.create_model(c, "Clf", NOW))
    write(project, lambda c: make_logged_model(c, run))
    for path in ("model", "other"):
        register(project, run, path=path)
    with project.database.read() as connection:
        found = [
            registered_sources.download_source(
                connection, registry.get_version(connection, "Clf", number)
            )
            for number in (1, 2)
        ]
    assert found == [LoggedModelFolder(MODEL_ID), RunFolder("1", run, "other")]


def test_a_stage_holds_one_version_when_asked(project: Project) -> None:
    """Two versions would be in production."""
    run = make_run(project)
    write(project, lambda c: registry.create_model(c, "Clf", NOW))

    def move(number: int, stage: ModelStage, *, should_archive: bool) -> None:
        def verb(connection: Connection) -> None:
            version = registry.get_version(connection, "Clf", number)
            registry.transition(connection, version, stage, NOW, should_archive=should_archive)

        write(project, verb)

    for number in (1, 2, 3):
        register(project, run)
        move(number, ModelStage.STAGING, should_archive=number == 3)
    with project.database.read() as connection:
        latest = queries.latest_versions(connection, ["Clf"])
        archived = queries.in_stage(connection, "Clf", ModelStage.ARCHIVED)
    assert [(version.number, version.stage) for version in latest] == [
        (2, ModelStage.ARCHIVED),
        (3, ModelStage.STAGING),
    ]
    assert {version.number for version in archived} == {1, 2}
    with pytest.raises(InvalidInputError):
        move(1, ModelStage.NONE, should_archive=True)


def test_releases_are_numbered_in_order_when_somebody_looks(project: Project) -> None:
    """What was released without the registry could not be loaded by its number."""
    run, first = project.record(1)
    project.release("1.0.0", first)
    _, second = project.record(2)
    project.release("1.1.0", second)
    with project.database.read() as connection:
        assert sources.is_behind(connection, "digits")
    model = write(project, lambda c: registry.find_model(c, "digits", NOW))
    assert model is not None
    assert model.model == "digits"
    with project.database.read() as connection:
        assert not sources.is_behind(connection, "digits")
        found = [registry.released_version(connection, "digits", v) for v in ("1.0.0", "1.1.0")]
        with pytest.raises(NotFoundError):
            registry.released_version(connection, "digits", "9.0.0")
    assert [version.number for version in found] == [1, 2]
    assert found[0].source.endswith(f"/{run}/artifacts/model")
    assert (found[0].manifest, found[0].created_by) == (first, "ada")
    assert register(project, make_run(project), "digits") == 3
    _, third = project.record(3)
    project.release("1.2.0", third)
    assert write(project, lambda c: release_numbers.number_all_releases(c, NOW)) == 1
    assert register(project, make_run(project), "digits") == 5
    for refused in (
        lambda c: registry.delete_version(c, "digits", 1, NOW),
        lambda c: registry.delete_model(c, "digits"),
        lambda c: registry.rename_model(c, "digits", "others", NOW),
        lambda c: registry.adopted(c, "digits", 1, third),
    ):
        with pytest.raises(ConflictError):
            write(project, refused)


def test_a_released_version_keeps_the_number_it_was_registered_by(project: Project) -> None:
    """Version 1 of the registry would be version 2 after its release."""
    write(project, lambda c: registry.create_model(c, "Digits", NOW))
    run, manifest = project.record(1)
    number = register(project, run, "Digits")
    write(project, lambda c: registry.adopted(c, "Digits", number, manifest))
    project.release("1.0.0-pre.1", manifest)
    write(project, lambda c: release_numbers.number_releases(c, "digits", NOW))
    project.release("1.0.0", manifest)
    write(project, lambda c: release_numbers.number_releases(c, "digits", NOW))
    with project.database.read() as connection:
        found = queries.all_versions(connection, "Digits")
        assert queries.newest_unreleased(connection, "Digits") is None
    assert [(v.number, v.version) for v in found] == [(1, "1.0.0-pre.1"), (2, "1.0.0")]
    assert found[0].source == found[1].source


def test_a_registered_model_without_release_is_renamed(project: Project) -> None:
    """Versions or tags would stay behind under the old name."""
    run, manifest = project.record(1, "clf")
    write(project, lambda c: registry.create_model(c, "Clf", NOW, tags={"a": "b"}))
    register(project, run, tags={"c": "d"})
    write(project, lambda c: registry.adopted(c, "Clf", 1, manifest))
    renamed = write(project, lambda c: registry.rename_model(c, "Clf", "Churn", NOW))
    assert (renamed.name, renamed.model, renamed.tags) == ("Churn", "churn", {"a": "b"})
    with project.database.read() as connection:
        version = registry.get_version(connection, "Churn", 1)
        assert registry.get_model(connection, "Churn").tags == {"a": "b"}
        with pytest.raises(NotFoundError):
            registry.get_model(connection, "Clf")
    assert (version.tags, version.manifest) == ({"c": "d"}, None)
    write(project, lambda c: registry.create_model(c, "Clf", NOW))
    with pytest.raises(ConflictError):
        write(project, lambda c: registry.rename_model(c, "Clf", "Churn", NOW))
    same = write(project, lambda c: registry.rename_model(c, "Clf", "CLF", NOW))
    assert (same.name, same.model) == ("CLF", "clf")


def test_files_of_a_registered_version_are_not_replaced(project: Project) -> None:
    """The version that everybody loads would become another model."""
    run = make_run(project)
    write(project, lambda c: registry.create_model(c, "Clf", NOW))
    register(project, run, path="models/a")
    with project.database.read() as connection:
        for path in ("models/a", "models/a/MLmodel", "models"):
            with pytest.raises(ConflictError):
                artifacts.check_writable(connection, run, path)
        for path in ("models/ab", "notes.txt", "models/b/MLmodel"):
            artifacts.check_writable(connection, run, path)
    write(project, lambda c: registry.delete_version(c, "Clf", 1, NOW))
    with project.database.read() as connection:
        artifacts.check_writable(connection, run, "models/a")
