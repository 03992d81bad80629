"""``stemma serve`` on a port, and client programs that know nothing of it but its address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

_READY_SECONDS = 30
_CLIENT_SECONDS = 240
_FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def tracking_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that a team's server keeps its records in."""
    folder = tmp_path_factory.mktemp("tracking")
    subprocess.run([_command(), "init"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def tracking_address(tracking_project: Path) -> Iterator[str]:
    """The address of the server, which ends with the session."""
    with _served(tracking_project) as address:
        yield address


@pytest.fixture(scope="session")
def postgres_address(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> Iterator[str]:
    """The address of a server whose records are in PostgreSQL."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE tracking")
    url = postgres_server.replace("/postgres?", "/tracking?")
    folder = tmp_path_factory.mktemp("tracking-postgres")
    (folder / "stemma.toml").write_text(f'database = "{url}"\n', encoding="utf-8")
    subprocess.run([_command(), "init"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    assert not (folder / ".stemma" / "stemma.db").exists()
    with _served(folder) as address:
        yield address


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [_command(), "serve", "--port", str(port)],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_READY_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def run_client(tracking_address: str, tmp_path: Path) -> Callable[..., str]:
    """Run a client program of this folder; what it asserts holds when it ends with 0."""
    return partial(_run_client, tracking_address, tmp_path)


@pytest.fixture
def run_client_on_postgres(postgres_address: str, tmp_path: Path) -> Callable[..., str]:
    """Run a client program of this folder on the server with PostgreSQL."""
    return partial(_run_client, postgres_address, tmp_path)


def _run_client(address: str, folder: Path, name: str, *arguments: str) -> str:
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(_FOLDER / f"{name}.py"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-1000:]
    return done.stdout


def _command() -> str:
    return str(Path(sys.executable).parent / "stemma")


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise AssertionError(f"{url} does not answer:\n{log.read_text(encoding='utf-8')}")
