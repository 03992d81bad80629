"""Runs that stemma recorded itself, read as MLflow's clients read any run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stemma.domain.component import (
    ArchitectureComponent,
    ArtifactComponent,
    DatasetsComponent,
    Environment,
    HyperparametersComponent,
    PipelineComponent,
)
from stemma.domain.digest import Digest
from stemma.domain.manifest import Evidence, Manifest, Provenance
from stemma.domain.run import RunStart

FILES = "/api/2.0/mlflow-artifacts/artifacts"
PART = Digest.blake3("0" * 64)


def record(project: Any, folder: Path) -> str:
    """Record a finished run whose model has two files; returns its id."""
    parts = project.hub.parts
    folder.mkdir()
    (folder / "model.json").write_bytes(b"{}")
    (folder / "data").mkdir()
    (folder / "data" / "w.bin").write_bytes(b"weights")
    tree = parts.objects.put_tree(folder, ["model.json", "data/w.bin"])
    run: str = parts.runs.start(RunStart(model="digits"))
    manifest = Manifest(
        model="digits",
        architecture=ArchitectureComponent(identity=PART, content=PART, family="", summary=""),
        datasets=DatasetsComponent(identity=PART),
        pipeline=PipelineComponent(identity=PART, content=PART, command=("python", "train.py")),
        hyperparameters=HyperparametersComponent(identity=PART, content=PART),
        artifact=ArtifactComponent(identity=PART, content=tree.digest, size_bytes=tree.size_bytes),
        environment=Environment(identity=PART, lock=PART, python="3.11.7", platform="linux"),
        evidence=Evidence(metrics=()),
        provenance=Provenance(
            run=run, started_at=parts.clock(), ended_at=parts.clock(), created_by="ada", parents=()
        ),
        metadata={},
    )
    parts.runs.finish(run, parts.catalog.register(manifest))
    return run


def test_the_model_of_a_recorded_run_is_among_its_artifacts(project: Any, tmp_path: Path) -> None:
    """What `stemma.run` recorded could not be loaded by an MLflow client."""
    run, ask = record(project, tmp_path / "made"), project.ask
    info = ask("GET", f"/api/2.0/mlflow/runs/get?run_id={run}").json["run"]["info"]
    root = info["artifact_uri"].removeprefix("mlflow-artifacts:/")
    assert ask("PUT", f"{FILES}/{root}/notes.txt", b"later").status == 200
    listed = ask("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}").json["files"]
    assert listed == [
        {"path": "model", "is_dir": True},
        {"path": "notes.txt", "is_dir": False, "file_size": 5},
    ]
    listed = ask("GET", f"{FILES}?path={root}/model").json["files"]
    assert [found["path"] for found in listed] == ["data", "model.json"]
    assert ask("GET", f"{FILES}/{root}/model/data/w.bin").body == b"weights"
    assert ask("GET", f"{FILES}/{root}/model/data/w.bin", range="bytes=2-3").body == b"ig"
    assert ask("GET", f"{FILES}/{root}/model/none").status == 404
    assert ask("GET", f"/get-artifact?run_uuid={run}&path=model/model.json").body == b"{}"
    for method in ("PUT", "DELETE"):
        answer = ask(method, f"{FILES}/{root}/model/model.json", b"other")
        assert (answer.status, answer.json["error_code"]) == (409, "RESOURCE_CONFLICT")
