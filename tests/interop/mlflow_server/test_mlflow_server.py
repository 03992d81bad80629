"""A real ``mlflow server`` is imported, also after a kill, and takes a release."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stemma.domain.tracking import RunData
from stemma.hub.base import ReleaseRequest
from stemma.server.wiring import init_project, open_hub
from stemma.tracking import artifacts, logged_models, registry, run_log

pytestmark = [pytest.mark.slow, pytest.mark.interop]

_COMMAND = [sys.executable, "-m", "stemma.cli.main"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, real_server: Any) -> Path:
    """A project into which an import was killed in the middle, and then repeated."""
    root = tmp_path_factory.mktemp("imported")
    init_project(root)
    command = [*_COMMAND, "pull", f"mlflow://{real_server.address}/", "--progress", "none"]
    killed = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL)
    with closing(sqlite3.connect(root / ".stemma" / "stemma.db")) as rows:
        while killed.poll() is None:
            if rows.execute("SELECT 1 FROM runs").fetchone():
                killed.kill()
            time.sleep(0.002)
    assert killed.returncode == -signal.SIGKILL
    outcome = _stemma(root, "pull", f"mlflow://{real_server.address}/")
    assert outcome["left"] == []
    return root


class TestImport:
    def test_runs_come_with_all_they_logged(self, project: Path, real_server: Any) -> None:
        """An import would lose curves, params, inputs or the nesting of runs."""
        logged = real_server.logged
        outer, inner, many = (_run(project, logged[it]) for it in ("outer", "inner", "many"))
        assert outer.params == {"learning_rate": "0.1", "depth": "3"}
        assert outer.record.start.name == "outer"
        assert outer.tags["team"] == "growth"
        assert outer.inputs[0].name == "rows"
        assert outer.inputs[0].context == "training"
        assert outer.outputs[0].logged_model == logged["model"]
        assert inner.tags["mlflow.parentRunId"] == f"r-{logged['outer']}"
        assert len(many.metrics) == 40
        with closing(open_hub(project)) as hub, hub.parts.database.read() as connection:
            points, _ = run_log.metric_history(connection, f"r-{logged['outer']}", "loss")
        assert [(point.step, point.value) for point in points] == [
            (step, 1 / (step + 1)) for step in range(5)
        ]

    def test_the_registry_comes_with_files_and_alias(self, project: Path, real_server: Any) -> None:
        """A version would be here by name, with nothing behind it."""
        identity = real_server.logged["model"]
        with closing(open_hub(project)) as hub:
            with hub.parts.database.read() as connection:
                model = logged_models.get(connection, identity)
                version = registry.get_version(connection, "churn", 1)
                files = [file.path for file in artifacts.list_below(connection, identity)]
                text = artifacts.get(
                    connection, f"r-{real_server.logged['outer']}", "reports/large/text.txt"
                )
            assert model.is_frozen
            assert "MLmodel" in files
            assert version.logged_model == identity
            assert version.tags["why"] == "best"
            assert hub.objects.read_bytes(text.file) == b"hello\n" * 400_000
            assert hub.resolve("churn@champion").manifest.provenance.run.startswith("r-")
            released = hub.release(ReleaseRequest(model="churn"))
            assert released.release is not None
            assert hub.doctor().is_healthy

    def test_a_second_import_copies_nothing(self, project: Path, real_server: Any) -> None:
        """Each import would cost as much as the first, or double what is here."""
        before = _rows(project)
        again = _stemma(project, "pull", f"mlflow://{real_server.address}/")
        assert again["copied"] == {}
        assert again["file_count"] == 0
        assert again["request_count"] < 15
        assert _rows(project) == before


def test_a_release_is_read_by_the_real_client(tmp_path: Path, real_server: Any) -> None:
    """What is pushed would be no run or version that MLflow's client understands."""
    init_project(tmp_path)
    (tmp_path / "train.py").write_text(_TRAINING)
    environment = {**os.environ, "STEMMA_PROJECT": str(tmp_path)}
    subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=environment, check=True, timeout=60
    )
    with closing(open_hub(tmp_path)) as hub:
        hub.release(ReleaseRequest(model="toy"))
        digest = str(hub.resolve("toy@1.0.0").digest)
    first = _stemma(tmp_path, "push", "toy@1.0.0", f"mlflow://{real_server.address}/")
    again = _stemma(tmp_path, "push", "toy@1.0.0", f"mlflow://{real_server.address}/")
    assert first["copied"] == {"run": 1, "registered model": 1, "version": 1}
    assert (again["copied"], again["file_count"]) == ({}, 0)
    read = real_server.read_back("toy")
    assert read["tags"] == {
        "stemma.model": "toy",
        "stemma.version": "1.0.0",
        "stemma.digest": digest,
    }
    assert read["status"] == "FINISHED"
    assert read["params"] == {"weight": "1.5"}
    assert read["metrics"]["accuracy"] == 0.9
    assert read["inputs"] == ["toy-train"]
    assert read["curve"] == [[step, 1 / (step + 1)] for step in range(4)]
    assert read["files"] == {"model.json": '{"weight": 1.5}'}


_TRAINING = """\
import pathlib
import numpy as np
import stemma

with stemma.run("toy") as run:
    pathlib.Path("model.json").write_text('{"weight": 1.5}')
    run.data("toy-train", (np.arange(40.0).reshape(20, 2), np.arange(20) % 2))
    run.params(weight=1.5)
    for step in range(4):
        run.log(step=step, loss=1 / (step + 1))
    run.metric("accuracy", 0.9)
    run.model("model.json")
"""


def _stemma(root: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [*_COMMAND, *arguments, "--json", "--progress", "none"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def _run(root: Path, identity: str) -> RunData:
    with closing(open_hub(root)) as hub, hub.parts.database.read() as connection:
        return run_log.run_data(connection, f"r-{identity}")


def _rows(root: Path) -> dict[str, int]:
    with closing(sqlite3.connect(root / ".stemma" / "stemma.db")) as rows:
        tables = ("runs", "metric_points", "run_tags", "artifacts", "logged_models", "frames")
        return {
            table: rows.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
            for table in tables
            if rows.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        }
