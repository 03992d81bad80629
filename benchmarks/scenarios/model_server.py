"""The model process beside MLServer: the same estimator, the same requests, in turn.

Both serve one logistic regression on 64 pixels over HTTP on a port, one process each, one thread
for the mathematics; MLServer without its worker pool and without debug logs, which is its faster
way. A client with eight connections sends Open Inference Protocol requests as JSON as fast as
they are answered. CPU seconds are those of the server's process tree, from the kernel.

Goal: at least three times the throughput. MLServer is installed into an environment of its own on
first use.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import joblib
import numpy as np
import uvloop
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from stemma.delivery.runtime.golden import write_golden
from stemma.delivery.runtime.spec import ProcessSpec, encode_spec
from stemma.sdk.adapters.base import CaptureRequest
from stemma.sdk.adapters.sklearn import ADAPTER

MLSERVER = "1.7.1"
ENVIRONMENT = Path(sys.prefix) / "bench-mlserver"
ROUNDS = 6
SECONDS = 2.0
CONNECTIONS = 8
ROWS = (1, 32)
_START_SECONDS = 60
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that runs."""

    port: int
    pid: int


def run() -> dict[str, object]:
    """Measure throughput and CPU per request, in turn; the best of the rounds."""
    _install()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features = _train(folder)
        best: dict[str, dict[str, float]] = {}
        with _stemma(folder) as ours, _mlserver(folder) as theirs:
            for rows in ROWS:
                request = _request(features[:rows])
                for server in (ours, theirs):
                    _check(server, request, rows)
                for _ in range(ROUNDS):
                    for label, server in (("stemma", ours), ("mlserver", theirs)):
                        _keep(best, f"{label}_{rows}_rows", _measure(server, request))
    figures: dict[str, object] = dict(best)
    for rows in ROWS:
        ours_found, theirs_found = best[f"stemma_{rows}_rows"], best[f"mlserver_{rows}_rows"]
        figures[f"ratio_{rows}_rows"] = {
            "throughput": ours_found["requests_per_second"] / theirs_found["requests_per_second"],
            "cpu": theirs_found["cpu_ms_per_request"] / ours_found["cpu_ms_per_request"],
        }
    figures["versions"] = {
        "mlserver": MLSERVER,
        "scikit-learn": version("scikit-learn"),
        "uvicorn": version("uvicorn"),
    }
    return figures


def _install() -> None:
    """Install MLServer beside the scikit-learn we use, so that only the servers differ."""
    if (ENVIRONMENT / "installed").is_file():
        return
    subprocess.run(["uv", "venv", "--clear", "--python", sys.executable, ENVIRONMENT], check=True)
    packages = [
        f"mlserver=={MLSERVER}",
        f"mlserver-sklearn=={MLSERVER}",
        *(f"{name}=={version(name)}" for name in ("scikit-learn", "numpy")),
    ]
    python = str(ENVIRONMENT / "bin" / "python")
    subprocess.run(["uv", "pip", "install", "--python", python, *packages], check=True)
    (ENVIRONMENT / "installed").touch()


def _train(folder: Path) -> np.ndarray:
    features, labels = load_digits(return_X_y=True)
    features = features / 16
    model = LogisticRegression(max_iter=300).fit(features, labels)
    joblib.dump(model, folder / "model.joblib")
    captured = ADAPTER.capture(CaptureRequest(model=model, folder=folder))
    write_golden(folder / "golden.npz", {"": features[:8]}, model.predict(features[:8]))
    spec = ProcessSpec(
        model="digits",
        version="1.0.0",
        manifest="sha256:" + "0" * 64,
        loader="sklearn",
        files=tuple(captured.files),
        artifact_folder=str(folder),
        golden=str(folder / "golden.npz"),
        task="classification",
        signature=captured.signature,
        sockets=(str(folder / "0.sock"),),
    )
    (folder / "specification.json").write_bytes(encode_spec(spec))
    return features


def _request(rows: np.ndarray) -> bytes:
    tensor = {
        "name": "X",
        "shape": list(rows.shape),
        "datatype": "FP64",
        "data": rows.ravel().tolist(),
    }
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "predict"}]}).encode()
    head = (
        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextmanager
def _stemma(folder: Path) -> Iterator[Server]:
    port = _free_port()
    command = [sys.executable, "-m", "stemma.sdk.model_process", folder / "specification.json"]
    with _running([*command, "0", "--port", str(port)], port, folder) as server:
        yield server


@contextmanager
def _mlserver(folder: Path) -> Iterator[Server]:
    ports = [_free_port() for _ in range(3)]
    own = folder / "mlserver"
    own.mkdir()
    settings = {
        "http_port": ports[0],
        "grpc_port": ports[1],
        "metrics_port": ports[2],
        "host": "127.0.0.1",
        "parallel_workers": 0,
        "debug": False,
    }
    model = {
        "name": "digits",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(folder / "model.joblib")},
    }
    (own / "settings.json").write_text(json.dumps(settings))
    (own / "model-settings.json").write_text(json.dumps(model))
    command = [ENVIRONMENT / "bin" / "mlserver", "start", own]
    with _running(command, ports[0], own) as server:
        yield server


@contextmanager
def _running(command: list[object], port: int, folder: Path) -> Iterator[Server]:
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=log, env=environment, cwd=folder
        )
        try:
            _await_ready(process, port)
            yield Server(port=port, pid=process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            url = f"http://127.0.0.1:{port}/v2/models/digits/ready"
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise TimeoutError(f"no server on port {port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check(server: Server, request: bytes, rows: int) -> None:
    """Both must answer the same question before their speed means anything."""
    body = request.partition(b"\r\n\r\n")[2]
    url = f"http://127.0.0.1:{server.port}/v2/models/digits/infer"
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as answer:  # noqa: S310 - our own address
        (output,) = json.load(answer)["outputs"]
    assert len(output["data"]) == rows, output


class _Connection(asyncio.Protocol):
    """Sends the same request again as soon as it was answered."""

    def __init__(self, request: bytes, deadline: float, done: asyncio.Future[None]) -> None:
        self.request, self.deadline, self.done = request, deadline, done
        self.count = 0
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        self._held = b""
        self.count += 1
        if time.perf_counter() < self.deadline:
            self.transport.write(self.request)
        elif not self.done.done():
            self.transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def _send(port: int, request: bytes) -> tuple[int, float]:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    waits = [loop.create_future() for _ in range(CONNECTIONS)]
    connections = []
    for done in waits:
        _, made = await loop.create_connection(
            lambda done=done: _Connection(request, started + SECONDS, done), "127.0.0.1", port
        )
        connections.append(made)
    await asyncio.gather(*waits)
    return sum(made.count for made in connections), time.perf_counter() - started


def _measure(server: Server, request: bytes) -> Mapping[str, float]:
    before = _cpu_seconds(server.pid)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        count, seconds = runner.run(_send(server.port, request))
    used = _cpu_seconds(server.pid) - before
    return {"requests_per_second": count / seconds, "cpu_ms_per_request": used * 1000 / count}


def _keep(best: dict[str, dict[str, float]], name: str, found: Mapping[str, float]) -> None:
    kept = best.setdefault(name, dict(found))
    kept["requests_per_second"] = max(kept["requests_per_second"], found["requests_per_second"])
    kept["cpu_ms_per_request"] = min(kept["cpu_ms_per_request"], found["cpu_ms_per_request"])


def _cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = (int(fields[11]) + int(fields[12])) / _TICKS
    return own + sum(_cpu_seconds(int(child)) for child in children)
