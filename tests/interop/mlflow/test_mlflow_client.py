"""The unmodified MLflow client, with what its users do in a day, against ``stemma serve``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def stemma(project: Path, *arguments: str) -> str:
    """Run a command of stemma in the server's project."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "stemma"), *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_a_training_logs_is_read_back(
    run_client: Callable[..., str], tracking_project: Path
) -> None:
    """A team that moves its training to this server would lose points, params or runs."""
    run = run_client("client_runs").strip().splitlines()[-1]
    rows = json.loads(stemma(tracking_project, "log", "--runs", "--json"))
    assert run in json.dumps(rows)
    assert "(parent)" in stemma(tracking_project, "log", "--runs")
    stemma(tracking_project, "status")


def test_a_scikit_learn_model_is_logged_registered_and_loaded(
    run_client: Callable[..., str], tracking_project: Path
) -> None:
    """The commonest way of MLflow's users, autolog to alias, would break."""
    assert run_client("client_sklearn").strip().splitlines()[-1].startswith("m-")
    assert "1.0.0" in stemma(tracking_project, "release", "digits-clf")
    run_client("client_ranges", "digits-clf")


def test_models_of_other_libraries_come_back_as_they_were(run_client: Callable[..., str]) -> None:
    """LightGBM's, torch's or ONNX's models would come back changed, or not at all."""
    run_client("client_flavors")


def test_the_life_of_a_registered_model(run_client: Callable[..., str]) -> None:
    """Aliases, stages or tags would not be where their users left them."""
    run_client("client_registry")


def test_two_clients_share_a_run_and_a_registered_model(run_client: Callable[..., str]) -> None:
    """Points would be lost, versions numbered twice, when two trainings log at once."""
    run_client("client_two")


def test_mlflows_own_command_line_works(run_client: Callable[..., str]) -> None:
    """Scripts of a team that call ``mlflow experiments`` or ``mlflow runs`` would fail."""
    run_client("client_cli")


def test_what_else_clients_log_is_read_back(run_client: Callable[..., str]) -> None:
    """Figures, tables, asynchronous points or system metrics would be lost."""
    run_client("client_extras")


def test_what_an_application_did_is_read_back(run_client: Callable[..., str]) -> None:
    """Spans of a traced application would be lost, or not be found by what they say."""
    run_client("client_traces")


@pytest.mark.postgres
@pytest.mark.parametrize("client", ["client_runs", "client_registry"])
def test_clients_see_no_difference_on_postgresql(
    run_client_on_postgres: Callable[..., str], client: str
) -> None:
    """A team that outgrows SQLite would find its trainings failing."""
    run_client_on_postgres(client)
