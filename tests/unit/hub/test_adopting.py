"""What MLflow logged becomes a version like any other: shown, compared, released."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stemma.catalog.capture.mlmodel import read_mlmodel
from stemma.catalog.releasing import ReleaseRequest, ReleaseStatus
from stemma.domain.artifact import Artifact
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.logged_model import LoggedModelState
from stemma.domain.registry import NewVersion
from stemma.domain.run import RunStart, RunState
from stemma.domain.tracking import Point, RunInput
from stemma.hub.exposing import describe, expose
from stemma.hub.local import LocalHub
from stemma.server.registry_wiring import RegistryBridge
from stemma.server.wiring import init_project, open_hub
from stemma.tracking import artifacts, logged_models, registry, run_log
from stemma.tracking.logged_models import NewLoggedModel

MODELS = Path(__file__).parent / "mlflow_models"
NOW = datetime(2026, 5, 3, tzinfo=UTC)
TAGS = {
    "mlflow.source.name": "/home/ada/train.py",
    "mlflow.source.git.commit": "a" * 40,
    "owner": "ada",
}
DATASETS = (
    RunInput(
        name="iris",
        digest="1f",
        source_type="local",
        schema='{"mlflow_colspec": [{"type": "double", "name": "a"}]}',
        profile='{"num_rows": 40}',
        tags={"mlflow.data.context": "train"},
    ),
    RunInput(name="iris", digest="2f", tags={"mlflow.data.context": "eval"}),
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """Return the hub of an empty project."""
    init_project(tmp_path)
    with closing(open_hub(tmp_path)) as opened:
        yield opened


def put_files(hub: LocalHub, owner: str, folder: Path, prefix: str = "") -> None:
    """Store a model's files as artifacts."""
    for file in sorted(folder.iterdir()):
        stored = hub.objects.put_file(file)
        artifact = Artifact(
            owner=owner,
            path=f"{prefix}{file.name}",
            file=stored.digest,
            size_bytes=stored.size_bytes,
        )
        with hub.parts.database.write() as connection:
            artifacts.put(connection, artifact, NOW)


def log(hub: LocalHub, folder: str, *, accuracy: float = 0.9, is_open: bool = False) -> str:
    """Log a model with everything that belongs to it; returns the run."""
    with hub.parts.database.write() as connection:
        run = run_log.create_run(
            connection, RunStart(model="", created_by="ada"), started_at=NOW, now=NOW, tags=TAGS
        ).record.id
        points = [Point("accuracy", accuracy, 0, 1), Point("loss", float("nan"), 0, 1)]
        run_log.log_batch(connection, run, points=points, params={"C": "0.5", "solver": "lbfgs"})
        run_log.log_inputs(connection, run, DATASETS)
        new = NewLoggedModel(experiment=0, run=run, name="model")
        model = logged_models.create(connection, new, NOW).id
    put_files(hub, model, MODELS / folder)
    with hub.parts.database.write() as connection:
        logged_models.finish(connection, model, LoggedModelState.READY, NOW)
        if not is_open:
            run_log.update(connection, run, state=RunState.FINISHED, ended_at=NOW)
    return run


def register(hub: LocalHub, run: str, name: str = "Clf") -> int:
    """Register the model that a run logged."""
    with hub.parts.database.write() as connection:
        if registry.find_model(connection, name, NOW) is None:
            registry.create_model(connection, name, NOW)
        new = NewVersion(name=name, source=f"runs:/{run}/model", run=run)
        return registry.create_version(connection, new, NOW).number


def test_all_five_components_come_from_what_was_logged(hub: LocalHub) -> None:
    """A released model would not say what it was made of."""
    run = log(hub, "xgboost")
    register(hub, run)
    outcome = hub.release(ReleaseRequest(model="clf"))
    assert (outcome.status, outcome.version, outcome.run) == (ReleaseStatus.RELEASED, "1.0.0", run)
    assert outcome.notes == ()
    manifest = hub.resolve("clf@1.0.0").manifest
    assert manifest.architecture.family == "xgboost.sklearn.XGBClassifier"
    assert [spec.name for spec in manifest.architecture.signature.inputs] == ["a", "b", "c"]
    assert [(found.name, found.role.value) for found in manifest.datasets.datasets] == [
        ("iris", "training"),
        ("iris-eval", "validation"),
    ]
    assert manifest.datasets.datasets[0].row_count == 40
    assert manifest.pipeline.command == ("python", "train.py")
    assert manifest.architecture.git is not None
    assert manifest.architecture.git.commit == "a" * 40
    assert manifest.hyperparameters.passed_count == 2
    assert {file.path for file in manifest.artifact.files} >= {"MLmodel", "model.json"}
    assert [package.name for package in manifest.environment.packages] == [
        "mlflow",
        "numpy",
        "xgboost",
    ]
    assert [metric.key for metric in manifest.evidence.metrics] == ["accuracy"]
    assert manifest.metadata == {"owner": "ada", "mlflow_flavors": ["xgboost"]}
    assert hub.doctor().is_healthy


def test_the_same_training_logged_again_is_the_same_version(hub: LocalHub) -> None:
    """Each night's unchanged training would be a new release."""
    for _ in range(2):
        register(hub, log(hub, "sklearn"))
        outcome = hub.release(ReleaseRequest(model="clf"))
    assert (outcome.status, outcome.version) == (ReleaseStatus.UNCHANGED, "1.0.0")


def test_an_adopted_release_is_listed_compared_and_loaded(hub: LocalHub) -> None:
    """log, show and diff would know nothing of what MLflow logged."""
    for folder, accuracy in (("sklearn", 0.9), ("onnx", 0.95)):
        register(hub, log(hub, folder, accuracy=accuracy))
        hub.release(ReleaseRequest(model="clf"))
    assert [row.version for row in hub.log("clf")] == ["2.0.0", "1.0.0"]
    changed = {
        part.component for part in hub.diff("clf@1.0.0", "clf@2.0.0").components if not part.is_same
    }
    assert {"architecture", "artifact", "environment"} <= changed
    loaders = [hub.resolve(f"clf@{v}").manifest.artifact.loader for v in ("1.0.0", "2.0.0")]
    assert loaders == ["sklearn", "onnx"]
    view = hub.resolve("clf@2.0.0")
    assert [spec.name for spec in view.manifest.architecture.signature.inputs] == ["x"]


def test_a_run_is_released_under_a_name_and_registered_on_the_way(hub: LocalHub) -> None:
    """A run nobody registered could not be released."""
    run = log(hub, "xgboost")
    with pytest.raises(NotFoundError) as unnamed:
        hub.resolve(run)
    assert unnamed.value.code == "run-without-version"
    outcome = hub.release(ReleaseRequest(model="churn", run=run[:12]))
    assert outcome.version == "1.0.0"
    with hub.parts.database.read() as connection:
        version = registry.get_version(connection, "churn", 1)
    assert (version.version, version.run, version.manifest) == ("1.0.0", run, outcome.manifest)
    assert hub.resolve(run).label == "churn@1.0.0"


def test_what_was_not_logged_is_named(hub: LocalHub) -> None:
    """Somebody would take an empty component for a recorded one."""
    with hub.parts.database.write() as connection:
        run = run_log.create_run(connection, RunStart(model=""), started_at=NOW, now=NOW).record.id
    (hub.project_root / "plain").mkdir()
    (hub.project_root / "plain" / "weights.txt").write_text("1 2 3", encoding="utf-8")
    put_files(hub, run, hub.project_root / "plain", "model/")
    finish(hub, run)
    with pytest.raises(NotFoundError) as none:
        hub.release(ReleaseRequest(model="clf", run=run))
    assert none.value.code == "run-without-version"
    register(hub, run)
    notes = hub.release(ReleaseRequest(model="clf")).notes
    parts = ["architecture", "datasets", "pipeline", "hyperparameters", "environment"]
    assert [note.partition(":")[0] for note in notes] == parts


def finish(hub: LocalHub, run: str) -> None:
    """End a run."""
    with hub.parts.database.write() as connection:
        run_log.update(connection, run, state=RunState.FINISHED, ended_at=NOW)


def test_a_run_that_has_not_finished_is_not_released(hub: LocalHub) -> None:
    """Half a training would get a number."""
    run = log(hub, "xgboost", is_open=True)
    register(hub, run)
    for request in (ReleaseRequest(model="clf"), ReleaseRequest(model="clf", run=run)):
        with pytest.raises(ConflictError) as refused:
            hub.release(request)
        assert refused.value.code == "run-not-finished"
    finish(hub, run)
    assert hub.release(ReleaseRequest(model="clf", is_dry_run=True)).version == "1.0.0"
    assert hub.log("clf") == []


def test_a_model_that_no_run_logged_is_released(hub: LocalHub) -> None:
    """A model logged outside of any run would have no version."""
    with hub.parts.database.write() as connection:
        new = NewLoggedModel(experiment=0, run="", name="model")
        model = logged_models.create(connection, new, NOW).id
    put_files(hub, model, MODELS / "xgboost")
    with hub.parts.database.write() as connection:
        registry.create_model(connection, "Clf", NOW)
        new_version = NewVersion(name="Clf", source=f"models:/{model}", created_by="ada")
        registry.create_version(connection, new_version, NOW)
    outcome = hub.release(ReleaseRequest(model="clf"))
    assert outcome.run == f"r-{model[2:]}"
    assert hub.get_run(outcome.run).start.model == "clf"
    assert hub.doctor().is_healthy


def test_a_candidate_that_expires_leaves_the_run_that_was_logged(hub: LocalHub) -> None:
    """Asking for a dry release would delete a run, with all it logged, a month later."""
    run = log(hub, "xgboost")
    register(hub, run)
    outcome = hub.release(ReleaseRequest(model="clf", is_dry_run=True))
    catalog = hub.parts.catalog
    later = hub.parts.clock() + timedelta(days=400)
    assert catalog.forget_expired(later, lambda _: timedelta(days=1)) == [outcome.manifest]
    with hub.parts.database.read() as connection:
        data = run_log.run_data(connection, run)
        version = registry.get_version(connection, "Clf", 1)
    assert (data.record.start.model, data.params["C"], version.manifest) == ("", "0.5", None)
    assert catalog.remember([outcome.manifest]) == [outcome.manifest]
    assert hub.doctor().is_healthy
    assert hub.release(ReleaseRequest(model="clf")).version == "1.0.0"


def test_one_run_may_be_a_version_of_several_models(hub: LocalHub) -> None:
    """The second model's release would be refused, or doctor would find fault with it."""
    run = log(hub, "xgboost")
    for name in ("A", "B"):
        register(hub, run, name)
        assert hub.release(ReleaseRequest(model=name.lower())).version == "1.0.0"
    assert hub.resolve("b@1.0.0").manifest.provenance.run == run
    assert hub.doctor().is_healthy


def test_an_alias_follows_what_is_logged_after_it(hub: LocalHub) -> None:
    """A challenger named during its run would lose its name with its last metric."""
    run = log(hub, "xgboost", is_open=True)
    register(hub, run)
    bridge = RegistryBridge(hub.parts)
    with hub.parts.database.read() as connection:
        model = registry.get_model(connection, "Clf")
        version = registry.get_version(connection, "Clf", 1)
    bridge.point(model, "challenger", version, "ada")
    first = hub.resolve("clf@challenger")
    assert (first.version, first.manifest.provenance.run) == ("", run)
    with hub.parts.database.write() as connection:
        run_log.log_batch(connection, run, points=[Point("f1", 0.8, 0, 1)])
    finish(hub, run)
    hub.release(ReleaseRequest(model="clf"))
    assert hub.resolve("clf@challenger").label == "clf@1.0.0"
    assert {"accuracy", "f1"} == {m.key for m in hub.resolve("clf").manifest.evidence.metrics}
    bridge.drop(model, "challenger", "ada")
    bridge.drop(model, "challenger", "ada")
    assert hub.doctor().is_healthy


@pytest.mark.parametrize("folder", ["sklearn", "onnx", "xgboost"])
def test_what_stemma_recorded_is_described_for_mlflow(hub: LocalHub, folder: str) -> None:
    """mlflow.pyfunc.load_model would find no MLmodel file in a native release."""
    run = log(hub, folder)
    register(hub, run)
    hub.release(ReleaseRequest(model="clf"))
    logged = hub.resolve("clf").manifest
    assert describe(logged) == {}
    files = tuple(file for file in logged.artifact.files if file.path != "MLmodel")
    recorded = replace(logged, artifact=replace(logged.artifact, files=files))
    digest = hub.parts.catalog.register(recorded)
    with hub.parts.database.read() as connection:
        version = registry.get_version(connection, "Clf", 1)
    for _ in range(2):
        expose(hub.parts, replace(version, manifest=digest, logged_model=""))
    with hub.parts.database.read() as connection:
        found = {file.path: file.file for file in artifacts.list_below(connection, run, "model")}
    if folder == "xgboost":
        assert found == {}
        return
    assert set(found) == {"model/MLmodel", "model/python_env.yaml", "model/requirements.txt"}
    facts = read_mlmodel(hub.objects.read_bytes(found["model/MLmodel"]))
    assert (facts.flavors, facts.loader_module) == ((folder,), f"mlflow.{folder}")
    assert b"==" in hub.objects.read_bytes(found["model/requirements.txt"])


def test_a_version_without_files_has_aliases_but_no_release(hub: LocalHub) -> None:
    """A client that registers first and logs later would be refused its alias."""
    with hub.parts.database.write() as connection:
        run = run_log.create_run(connection, RunStart(model=""), started_at=NOW, now=NOW).record.id
    finish(hub, run)
    register(hub, run)
    with hub.parts.database.read() as connection:
        model = registry.get_model(connection, "Clf")
        version = registry.get_version(connection, "Clf", 1)
    RegistryBridge(hub.parts).point(model, "challenger", version, "ada")
    assert hub.resolve("clf@challenger").manifest.artifact.files == ()
    with pytest.raises(InvalidInputError) as empty:
        hub.release(ReleaseRequest(model="clf"))
    assert empty.value.code == "empty-model"
