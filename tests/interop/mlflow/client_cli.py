"""MLflow's own command line against the server, its commands called in one process."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import mlflow
from click.testing import CliRunner
from mlflow.cli import cli
from mlflow.tracking import MlflowClient


def said(*arguments: str) -> str:
    """Return what a command prints; it has to end well."""
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.output


client = MlflowClient()
created = said("experiments", "create", "--experiment-name", "by command")
experiment = re.findall(r"\d+", created)[-1]
assert "by command" in said("experiments", "search")
assert "by command" in said("experiments", "get", "--experiment-id", experiment)
said("experiments", "rename", "--experiment-id", experiment, "--new-name", "by command line")
assert client.get_experiment(experiment).name == "by command line"

with mlflow.start_run(experiment_id=experiment, run_name="from a notebook") as run:
    mlflow.log_param("lr", 0.1)
    mlflow.log_metric("loss", 0.5)
number = run.info.run_id
assert number in said("runs", "list", "--experiment-id", experiment)
assert '"lr": "0.1"' in said("runs", "describe", "--run-id", number)
said("runs", "delete", "--run-id", number)
assert number in said("runs", "list", "--experiment-id", experiment, "--view", "deleted_only")
assert number not in said("runs", "list", "--experiment-id", experiment)
said("runs", "restore", "--run-id", number)
made = said(
    *("runs", "create", "--experiment-id", experiment, "--run-name", "made", "--tags", "a=b")
)
assert "made" in made
said("experiments", "csv", "--experiment-id", experiment, "--filename", "runs.csv")
with Path("runs.csv").open(encoding="utf-8") as table:
    assert [row["params.lr"] for row in csv.DictReader(table)].count("0.1") == 1

Path("one.txt").write_text("1", encoding="utf-8")
Path("many").mkdir()
Path("many/two.txt").write_text("2", encoding="utf-8")
said("artifacts", "log-artifact", "--local-file", "one.txt", "--run-id", number)
said(
    *("artifacts", "log-artifacts", "--local-dir", "many", "--run-id", number),
    *("--artifact-path", "below"),
)
listed = said("artifacts", "list", "--run-id", number)
assert '"one.txt"' in listed
assert '"below"' in listed
said("artifacts", "download", "--run-id", number, "--dst-path", "got")
assert Path("got/below/two.txt").read_text(encoding="utf-8") == "2"

said("experiments", "delete", "--experiment-id", experiment)
assert client.get_experiment(experiment).lifecycle_stage == "deleted"
said("experiments", "restore", "--experiment-id", experiment)
sys.stdout.write(f"{number}\n")
