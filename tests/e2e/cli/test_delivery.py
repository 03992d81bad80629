"""The verbs that move traffic, on a real server with the built-in data plane."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Completed = subprocess.CompletedProcess[str]
Stemma = Callable[..., Completed]
pytestmark = pytest.mark.slow

TRAIN = """
import sys
import stemma
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True)
with stemma.run("toy") as run:
    run.data("iris-train", (X, y))
    run.model(LogisticRegression(max_iter=500, C=float(sys.argv[1])).fit(X, y), test=(X, y))
"""
ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}


def _variables(folder: Path) -> dict[str, str]:
    """Return the environment of every command here: packages come from uv's own cache."""
    cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "STEMMA_USER": "ada",
        "STEMMA_MAY_USE_NETWORK": "false",
        "UV_CACHE_DIR": cache,
    }


@pytest.fixture(scope="module")
def released(stemma_in: Stemma, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project with toy 1.0.0 and 1.1.0, for every test here."""
    pytest.importorskip("sklearn", reason="sklearn is an extra; `make test` installs it")
    folder = tmp_path_factory.mktemp("released")
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    commands: list[tuple[str, ...]] = [("init",)]
    for strength in ("1.0", "0.01"):
        commands.append(("run", "-q", "--", sys.executable, "train.py", strength))
        commands.append(("release", "toy", "--bump", "minor", "--reason", "a test"))
    for arguments in commands:
        answer: Completed = stemma_in(folder, *arguments, variables=_variables(folder))
        assert answer.returncode == 0, answer.stderr
    return folder


@pytest.fixture
def stemma(stemma_in: Stemma, released: Path) -> Stemma:
    """Run ``stemma`` in the project with uv's cache."""

    def run(*arguments: str) -> Completed:
        return stemma_in(released, *arguments, variables=_variables(released))

    return run


class Server:
    """``stemma serve`` in the background."""

    def __init__(self, stemma: Stemma, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._stemma = stemma
        self._log = folder / "serve.log"
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> None:
        with self._log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "stemma.cli.main", "serve", *arguments),
                    *("--port", str(self.port), "--plane", "builtin"),
                ],
                cwd=self._log.parent,
                env=_variables(self._log.parent),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.wait_for("✓ http://")
        self._wait_for_the_route()

    def _wait_for_the_route(self) -> None:
        """Wait until the round after the line has put the route in force."""
        end = time.monotonic() + 5
        while True:
            try:
                self.ask()
            except urllib.error.HTTPError:
                assert time.monotonic() < end
                time.sleep(0.1)
            else:
                return

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait_for(self, text: str) -> None:
        assert self.process is not None
        end = time.monotonic() + 60
        while text not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)

    def ask(self) -> tuple[list[int], str]:
        """Return predictions and the version that made them."""
        url = f"http://127.0.0.1:{self.port}/v1/models/toy:predict"
        request = urllib.request.Request(
            url, data=json.dumps(ROWS).encode(), headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            predictions: list[int] = json.load(answer)["predictions"]
            return predictions, answer.headers["x-stemma-version"]

    def end(self) -> None:
        self._stemma("serve", "--stop")
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def server(stemma: Stemma, released: Path) -> Iterator[Server]:
    """Return a server that is not started yet and is ended, with all it left, afterwards."""
    server = Server(stemma, released)
    yield server
    server.end()


def _json(answer: Completed, code: int = 0) -> Any:
    assert answer.returncode == code, answer.stderr + answer.stdout
    return json.loads(answer.stdout)


def test_serve_rollout_rollback_and_drill_from_the_command_line(
    stemma: Stemma, server: Server
) -> None:
    """The way of a version to users and back could not be gone as the pages say."""
    server.start("toy@1.0.0", "--channel", "stable")
    assert "→ stable = 1.0.0" in server.said()
    assert server.ask() == ([0, 2], "1.0.0")
    serving = _json(stemma("status", "--json"))["serving"]
    assert serving["server"]["is_running"]
    assert serving["models"]["toy"]["is_ready"]

    _try_a_second_server(stemma, serving["models"]["toy"]["url"])
    _roll_out(stemma)
    assert server.ask()[1] == "1.1.0"
    _roll_back(stemma)
    assert server.ask()[1] == "1.0.0"

    assert server.process is not None
    server.process.send_signal(signal.SIGINT)
    server.process.wait(timeout=30)
    assert server.said().splitlines()[-1] == "• stopped"
    assert not _json(stemma("status", "--json"))["serving"]["server"]["is_answering"]


def _try_a_second_server(stemma: Stemma, url: str) -> None:
    second: Completed = stemma("serve")
    assert second.returncode == 12
    assert "runs already: pid" in second.stderr
    other: Completed = stemma("serve", "toy@1.1.0", "--json")
    assert json.loads(other.stdout)["name"] == "another-version-serves"
    same: Completed = stemma("serve", "toy@1.0.0", "--format", "human")
    assert same.returncode == 0, same.stderr
    assert same.stdout == f"✓ {url}   → stable = 1.0.0\n"


def _roll_out(stemma: Stemma) -> None:
    staged: Completed = stemma("check", "toy@1.1.0", "--staging", "--seconds", "1", "--json")
    report = json.loads(staged.stdout)
    assert staged.returncode == (0 if report["passed"] else 3)
    assert report["requests"] > 0

    rollout: Completed = stemma(
        *("rollout", "toy@1.1.0", "--steps", "50,100", "--hold", "1s", "--hold-limit", "60s"),
        *("--min-requests", "5", "--demo-traffic", "50", "--json", "--progress", "json"),
    )
    assert _json(rollout)["state"] == "live"
    lines = [json.loads(line) for line in rollout.stderr.splitlines()]
    assert lines[-1]["message_type"] == "summary"
    assert any(line.get("weight_bp") == 5000 for line in lines)
    log: Completed = stemma("rollout", "status", "toy", "--log", "--json")
    assert [item["sequence"] for item in _json(log)] == list(range(1, len(_json(log)) + 1))


def _roll_back(stemma: Stemma) -> None:
    back: Completed = stemma("rollback", "toy", "-m", "a test", "--json")
    assert _json(back)["after"] == "1.0.0"
    assert _json(stemma("rollback", "toy", "--drill", "--json"))["passed"]
    kinds = [item["is_drill"] for item in _json(stemma("rollback", "toy", "--history", "--json"))]
    assert kinds == [True, False]
    assert stemma("log", "toy", "--configuration").stdout.startswith("c1\t")


def test_ctrl_c_while_watching_leaves_the_rollout_running(
    stemma: Stemma, server: Server, released: Path
) -> None:
    """Who closes the laptop would end the rollout, or not know how to find it again."""
    server.start("toy@1.0.0", "--channel", "stable")
    watching = subprocess.Popen(
        [
            *(sys.executable, "-m", "stemma.cli.main", "rollout", "toy@1.1.0"),
            *("--steps", "10,100", "--hold", "1h", "--json", "--progress", "json"),
        ],
        cwd=released,
        env=_variables(released),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stderr is not None
    assert json.loads(watching.stderr.readline())["message_type"] == "status"
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=30)
    assert watching.returncode == 130, err
    assert not json.loads(out)["is_final"]
    second: Completed = stemma("rollout", "toy@1.1.0", "--detach", "--json")
    assert json.loads(second.stdout)["name"] == "rollout-running"
    aborted: Completed = stemma("rollout", "abort", "toy", "-m", "enough", "--json")
    assert "enough" in _json(aborted)["reason"]
    followed: Completed = stemma("rollout", "status", "toy", "-w")
    assert followed.returncode == 3
    assert followed.stdout.split("\t")[0] == "rolled back"
