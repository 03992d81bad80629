"""A real ``mlflow server``, filled by its own client; started once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_CLIENT = Path(__file__).with_name("real_client.py")


@dataclass(frozen=True, kw_only=True)
class RealServer:
    """A server, its client, and what that logged.

    Attributes:
        address: ``127.0.0.1:PORT``.
        logged: Ids of the runs and the logged model, there.
        client: The client's process.
    """

    address: str
    logged: dict[str, str]
    client: subprocess.Popen[str]

    def read_back(self, name: str) -> dict[str, Any]:
        """Return what the client reads of a registered model."""
        assert self.client.stdin is not None
        self.client.stdin.write(f"{name}\n")
        self.client.stdin.flush()
        return dict(_line(self.client))


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """``mlflow server`` of the environment, with its rows and files in a folder."""
    program = Path(sys.executable).with_name("mlflow")
    if not program.exists():
        pytest.skip("mlflow is not installed")
    folder = tmp_path_factory.mktemp("mlflow-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: it for key, it in os.environ.items() if not key.startswith("MLFLOW_")}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder / 'rows.db'}"),
                *("--artifacts-destination", str(folder / "files")),
            ],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        client = subprocess.Popen(
            [sys.executable, str(_CLIENT), f"http://127.0.0.1:{port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
            env=environment,
        )
    try:
        logged = _line(client)
        yield RealServer(address=f"127.0.0.1:{port}", logged=logged, client=client)
    finally:
        client.kill()
        client.communicate()
        os.killpg(server.pid, 9)
        server.wait(timeout=10)


def _line(client: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the client's next answer, passing over what it says to people."""
    assert client.stdout is not None
    for line in client.stdout:
        if line.startswith("{"):
            return dict(json.loads(line))
    raise AssertionError("the client ended")
