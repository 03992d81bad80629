"""Kill the tracking server while eight threads log: is everything acknowledged there, once?

By hand: ``python -m benchmarks.scenarios.tracking_kills 20``; on PostgreSQL with the address of
an empty database in ``STEMMA_DATABASE``.

Eight threads log through the unmodified MLflow client, each to runs of its own: points one by
one and in batches, params, tags, artifacts.  The server is killed with ``kill -9`` at random
moments and started again on the same port, before what the killed one left has settled.  What a
thread was refused it sends again, the very same, until it is acknowledged.  At the end all of
it is read back: nothing acknowledged is missing or different, and nothing is there twice.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import write_result
from benchmarks.production import quantiles

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"
# An answer that was lost is asked for again here, so that it can be counted.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
warnings.filterwarnings("ignore")
logging.getLogger("mlflow").setLevel(logging.ERROR)

from mlflow.entities import Metric, Param, RunTag  # noqa: E402 - after its settings
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

_THREADS = 8
_RUN_STEPS = 40
_BATCH = 20
_ARTIFACT_EVERY = 10
_READY_SECONDS = 60
_AGAIN_SECONDS = 0.05
_KILL_AFTER_SECONDS = (0.4, 1.5)
_STATUS = re.compile(r"\b([45]\d\d)\b")
_SCRIPTS = Path(sys.executable).parent


@dataclass
class Logged:
    """What the server acknowledged of one run."""

    points: list[tuple[int, int, float]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)


class Server:
    """``stemma serve`` on one port, killed and started again."""

    def __init__(self, folder: Path) -> None:
        """Make a project and take a free port."""
        self.folder = folder
        subprocess.run(
            [_SCRIPTS / "stemma", "init"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it, and return the seconds until it answered."""
        began = time.monotonic()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_SCRIPTS / "stemma", "serve", "--port", str(self._port)],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while time.monotonic() - began < _READY_SECONDS:
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):  # noqa: S310 - loopback
                    return time.monotonic() - began
            except (urllib.error.URLError, OSError):
                time.sleep(0.01)
        raise TimeoutError((self.folder / "server.log").read_text(encoding="utf-8"))

    def kill(self) -> None:
        """Kill it; nothing of it is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it in order, and what a killed one left with it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(_READY_SECONDS)


class Logger:
    """One thread of a training."""

    def __init__(self, address: str, number: int, has_ended: threading.Event) -> None:
        """Connect."""
        self._client: Any = MlflowClient(address, address)
        self._number = number
        self._has_ended = has_ended
        self.runs: dict[str, Logged] = {}
        self.refused: Counter[str] = Counter()

    def log(self) -> None:
        """Log run after run until it is over."""
        while not self._has_ended.is_set():
            made = self._sent("create_run", lambda: self._client.create_run("0"))
            logged = self.runs[made.info.run_id] = Logged()
            for step in range(_RUN_STEPS):
                if self._has_ended.is_set():
                    return
                self._one_step(made.info.run_id, logged, step)

    def _one_step(self, run: str, logged: Logged, step: int) -> None:
        client, value, moment = self._client, step / 7, 1_700_000_000_000 + step
        self._sent("log_metric", lambda: client.log_metric(run, "loss", value, moment, step))
        logged.points.append((step, moment, value))
        name = f"k{step}"
        self._sent("log_param", lambda: client.log_param(run, name, step))
        logged.params[name] = str(step)
        self._sent("set_tag", lambda: client.set_tag(run, "last", step))
        logged.tags["last"] = str(step)
        if step % _ARTIFACT_EVERY == 0:
            text = f"{run} {step} " * 50
            self._sent("log_text", lambda: client.log_text(run, text, f"notes/{step}.txt"))
            logged.artifacts[f"notes/{step}.txt"] = text
            self._batch(run, logged, step)

    def _batch(self, run: str, logged: Logged, step: int) -> None:
        points = [(1000 * (step + 1) + n, 1_700_000_000_000 + n, n / 3) for n in range(_BATCH)]
        metrics = [Metric("loss", value, moment, place) for place, moment, value in points]
        param, tag = Param(f"b{step}", "x"), RunTag(f"b{step}", "y")
        self._sent("log_batch", lambda: self._client.log_batch(run, metrics, [param], [tag]))
        logged.points += points
        logged.params[param.key], logged.tags[tag.key] = "x", "y"

    def _sent(self, name: str, send: Callable[[], Any]) -> Any:
        """Send until it is acknowledged."""
        end = time.monotonic() + _READY_SECONDS
        while True:
            try:
                return send()
            except (MlflowException, OSError) as error:
                status = _STATUS.search(str(error))
                self.refused[f"{name}: {status[1] if status else type(error).__name__}"] += 1
                if time.monotonic() > end:
                    raise
                time.sleep(_AGAIN_SECONDS)


def problems_of(client: Any, run: str, logged: Logged) -> list[str]:
    """Return what is missing, different or there twice."""
    wrong = []
    history = client.get_metric_history(run, "loss") if logged.points else []
    points = Counter((point.step, point.timestamp, point.value) for point in history)
    twice = [point for point, count in points.items() if count > 1]
    lost = [point for point in logged.points if point not in points]
    if twice or lost:
        wrong.append(f"{run}: {len(lost)} points lost, {len(twice)} twice: {(lost + twice)[:3]}")
    data = client.get_run(run).data
    for kind, kept, acknowledged in (
        ("param", data.params, logged.params),
        ("tag", data.tags, logged.tags),
    ):
        wrong += [
            f"{run}: {kind} {name} is {kept.get(name)!r}, not {value!r}"
            for name, value in acknowledged.items()
            if kept.get(name) != value
        ]
    names = [entry.path for entry in client.list_artifacts(run, "notes")] if data.tags else []
    if len(set(names)) != len(names) or set(logged.artifacts) - set(names):
        wrong.append(f"{run}: artifacts {sorted(logged.artifacts)}, found {names}")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in logged.artifacts.items():
            path = Path(client.download_artifacts(run, name, folder))
            if path.read_text(encoding="utf-8") != text:
                wrong.append(f"{run}: {name} is not what was sent")
    return wrong


def run(kills: int = 20, seed: int = 1, threads: int = _THREADS) -> dict[str, object]:
    """Kill so often; figures, and every problem in words."""
    chance, began = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name))
        has_ended = threading.Event()
        first = server.start()
        back = []
        loggers = [Logger(server.address, number, has_ended) for number in range(threads)]
        try:
            with ThreadPoolExecutor(threads) as pool:
                logging_threads = [pool.submit(logger.log) for logger in loggers]
                try:
                    for _ in range(kills):
                        time.sleep(chance.uniform(*_KILL_AFTER_SECONDS))
                        server.kill()
                        back.append(server.start())
                    time.sleep(_KILL_AFTER_SECONDS[0])
                finally:
                    has_ended.set()
                for thread in logging_threads:
                    thread.result()
            figures = _read_back(server, loggers)
        finally:
            server.stop()
        doctor = subprocess.run(
            [_SCRIPTS / "stemma", "doctor"], cwd=name, capture_output=True, text=True, check=False
        )
    return {
        "kills": kills,
        "threads": threads,
        **figures,
        "doctor": doctor.returncode,
        "first_ready_s": round(first, 2),
        "ready_again_s": quantiles(back, 2),
        "seconds": round(time.monotonic() - began, 1),
        "load_average_at_end": [round(value, 2) for value in os.getloadavg()],
    }


def _read_back(server: Server, loggers: list[Logger]) -> dict[str, object]:
    client: Any = MlflowClient(server.address, server.address)
    logged = {run: kept for logger in loggers for run, kept in logger.runs.items()}
    problems = [text for run, kept in logged.items() for text in problems_of(client, run, kept)]
    found, token = [], None
    while True:
        page = client.search_runs(["0"], max_results=500, page_token=token)
        found += [made.info.run_id for made in page]
        token = page.token
        if not token:
            break
    if len(set(found)) != len(found) or set(logged) - set(found):
        problems.append(f"{len(found)} runs found, {len(logged)} acknowledged")
    refused: Counter[str] = Counter()
    for logger in loggers:
        refused += logger.refused
    return {
        "acknowledged": {
            "runs": len(logged),
            "points": sum(len(kept.points) for kept in logged.values()),
            "params": sum(len(kept.params) for kept in logged.values()),
            "artifacts": sum(len(kept.artifacts) for kept in logged.values()),
        },
        "runs_made_without_an_answer": len(set(found) - set(logged)),
        "sent_again": dict(refused),
        "problems": problems,
    }


if __name__ == "__main__":
    result = run(int(sys.argv[1]) if sys.argv[1:] else 20)
    print(json.dumps(result, indent=2))
    if len(sys.argv) == 1:
        kind = "_postgres" if os.environ.get("STEMMA_DATABASE") else ""
        write_result(f"tracking_kills{kind}", result)
