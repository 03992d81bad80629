"""Tracking through the unmodified MLflow client: ``stemma serve`` beside ``mlflow server``.

Both keep SQLite files on the same disk; each row is measured on both in turn, the other server
paused meanwhile, and the median of its rounds is kept.  ``logging`` writes; ``searching``
asks among 10,000 runs; ``growth`` asks ours again among 100,000 runs and 10 million points.
Milliseconds are those of the client's call, with the client's own work, equal on both sides; CPU
is that of the server's processes.

Goals: five times faster on every write, ten times on search, ready in under a second, under
100 MiB when idle.  A part may be asked for: ``python -m benchmarks.scenarios.tracking logging``.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import write_result
from benchmarks.tracking.population import fill
from benchmarks.tracking.servers import (
    Kind,
    Running,
    cpu_seconds,
    make_kinds,
    memory_mib,
    paused,
    started,
)

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
warnings.filterwarnings("ignore")
logging.getLogger("mlflow").setLevel(logging.ERROR)

from mlflow.entities import Metric, Param, RunTag  # noqa: E402 - after its settings
from mlflow.tracking import MlflowClient  # noqa: E402

_RUNS = 10_000
_MANY_RUNS = 100_000
_MANY_POINTS = 10_000_000
_ROUNDS = 5
_CALLS = 20
_THREADS = 8
_THREAD_CALLS = 50
_SMALL_BYTES, _LARGE_BYTES = 1_000, 64 * 2**20

Row = tuple[str, int, Callable[["Client"], object]]


class Client:
    """The MLflow client on one server, and what the rows work on."""

    def __init__(self, name: str, running: Running, scratch: Path) -> None:
        """Connect."""
        self.name = name
        self.running = running
        self.mlflow: Any = MlflowClient(running.address, running.address)
        self.scratch = scratch / name
        self.scratch.mkdir(exist_ok=True)
        self.counter = 0
        self.experiment = ""
        self.run = ""
        self.files = ""

    def prepare(self, experiment: str) -> None:
        """Make or find the experiment, and a run with what a training logs."""
        found = self.mlflow.get_experiment_by_name(experiment)
        self.experiment = (
            found.experiment_id if found else self.mlflow.create_experiment(experiment)
        )
        self.run = self.mlflow.create_run(self.experiment).info.run_id
        # Files of a run that a model version is made of do not change any more.
        self.files = self.mlflow.create_run(self.experiment).info.run_id
        self.mlflow.log_batch(
            self.run,
            metrics=[
                Metric(name, 0.5, 1_700_000_000_000, 0) for name in ("loss", "accuracy", "f1")
            ],
            params=[Param(f"p{number}", str(number)) for number in range(5)],
            tags=[RunTag("team", "search")],
        )

    def next(self) -> int:
        """Return a number not used before."""
        self.counter += 1
        return self.counter


def run(part: str = "") -> dict[str, object]:
    """Measure all parts, or one."""
    parts = {"logging": _logging, "searching": _searching, "growth": _growth}
    figures: dict[str, object] = {}
    for name in [part] if part else list(parts):
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = parts[name](Path(folder))
        print(name, json.dumps(figures[name], indent=2), flush=True)
    return figures


# logging ------------------------------------------------------------------------------------


def _logging(folder: Path) -> dict[str, object]:
    kinds = make_kinds(folder)
    with started(kinds[0]) as ours, started(kinds[1]) as theirs:
        clients = [
            Client(kind.name, running, folder)
            for kind, running in zip(kinds, (ours, theirs), strict=True)
        ]
        time.sleep(3)
        idle = {client.name: round(memory_mib(client.running.pid), 1) for client in clients}
        ready = {client.name: round(client.running.ready_seconds, 2) for client in clients}
        for client in clients:
            client.prepare("bench")
            client.mlflow.create_registered_model("clf")
            (client.scratch / "small.bin").write_bytes(os.urandom(_SMALL_BYTES))
            (client.scratch / "large.bin").write_bytes(os.urandom(_LARGE_BYTES))
        rows = _compare(clients, _LOGGING_ROWS)
        rows[f"log_metric, {_THREADS} threads"] = _compare_threads(clients)
    return {"ready, s": ready, "idle, MiB": idle, **rows}


def _log_batch(client: Client) -> None:
    first = client.next() * 1_000
    client.mlflow.log_batch(
        client.run,
        metrics=[
            Metric("batch", 0.1, 1_700_000_000_000 + step, step)
            for step in range(first, first + 1_000)
        ],
    )


def _put(size: str) -> Callable[[Client], None]:
    def put(client: Client) -> None:
        client.mlflow.log_artifact(
            client.files, str(client.scratch / f"{size}.bin"), f"{size}{client.next()}"
        )

    return put


def _get(size: str) -> Callable[[Client], None]:
    def get(client: Client) -> None:
        [folder] = [
            item.path
            for item in client.mlflow.list_artifacts(client.files)
            if item.path.startswith(size)
        ][:1]
        client.mlflow.download_artifacts(client.files, f"{folder}/{size}.bin", str(client.scratch))

    return get


_LOGGING_ROWS: Sequence[Row] = (
    ("create_run", _CALLS, lambda client: client.mlflow.create_run(client.experiment)),
    (
        "log_metric",
        _CALLS,
        lambda client: client.mlflow.log_metric(client.run, "loss", 0.1, step=client.next()),
    ),
    ("log_batch of 1,000", 3, _log_batch),
    (
        "create model version",
        _CALLS,
        lambda client: client.mlflow.create_model_version(
            "clf", f"mlflow-artifacts:/{client.experiment}/{client.run}/artifacts", client.run
        ),
    ),
    ("get_run", _CALLS, lambda client: client.mlflow.get_run(client.run)),
    ("put artifact, 1 KB", 10, _put("small")),
    ("get artifact, 1 KB", 10, _get("small")),
    ("put artifact, 64 MiB", 1, _put("large")),
    ("get artifact, 64 MiB", 1, _get("large")),
)


def _compare_threads(clients: Sequence[Client]) -> dict[str, object]:
    """Let eight threads log one metric after another, each to a run of its own."""
    found: dict[str, list[float]] = {client.name: [] for client in clients}
    rates: dict[str, float] = {}
    for _ in range(3):
        for client in clients:
            runs = [
                client.mlflow.create_run(client.experiment).info.run_id for _ in range(_THREADS)
            ]
            with _alone(client, clients), ThreadPoolExecutor(_THREADS) as pool:
                began = time.perf_counter()
                for latencies in pool.map(
                    lambda name, client=client: _log_many(client, name), runs
                ):
                    found[client.name] += latencies
                seconds = time.perf_counter() - began
            rate = _THREADS * _THREAD_CALLS / seconds
            rates[client.name] = max(rates.get(client.name, 0), rate)
    row: dict[str, object] = {
        name: {
            "calls/s": round(rates[name]),
            "p50, ms": _milliseconds(statistics.median(values)),
            "p99, ms": _milliseconds(sorted(values)[int(len(values) * 0.99)]),
        }
        for name, values in found.items()
    }
    return {**row, "ratio": round(rates["stemma"] / rates["mlflow"], 2)}


def _log_many(client: Client, run_id: str) -> list[float]:
    latencies = []
    for step in range(_THREAD_CALLS):
        began = time.perf_counter()
        client.mlflow.log_metric(run_id, "loss", 0.1, step=step)
        latencies.append(time.perf_counter() - began)
    return latencies


# searching ----------------------------------------------------------------------------------


def _search(**arguments: Any) -> Callable[[Client], object]:
    return lambda client: client.mlflow.search_runs([client.experiment], **arguments)


_SEARCH_ROWS: Sequence[Row] = (
    ("get_run", _CALLS, lambda client: client.mlflow.get_run(client.run)),
    ("newest 100", 5, _search(max_results=100)),
    ("page of 1,000", 1, _search(max_results=1_000)),
    (
        "metric filter and order",
        3,
        _search(
            filter_string="metrics.accuracy > 0.9",
            order_by=["metrics.accuracy DESC"],
            max_results=100,
        ),
    ),
    ("param filter", 3, _search(filter_string="params.p3 = '3'", max_results=100)),
)


def _searching(folder: Path) -> dict[str, object]:
    kinds = make_kinds(folder)
    for kind in kinds:
        with started(kind) as running:
            client = Client(kind.name, running, folder)
            client.prepare("many")
        fill(kind, client.run, first=1, count=_RUNS)
    with started(kinds[0]) as ours, started(kinds[1]) as theirs:
        clients = [
            Client(kind.name, running, folder)
            for kind, running in zip(kinds, (ours, theirs), strict=True)
        ]
        for client in clients:
            client.prepare("many")
        return _compare(clients, _SEARCH_ROWS)


# growth -------------------------------------------------------------------------------------


def _growth(folder: Path) -> dict[str, object]:
    """Ours alone, among 1,000 runs and among 100,000 with 10 million points."""
    ours = make_kinds(folder)[0]
    with started(ours) as running:
        client = Client(ours.name, running, folder)
        client.prepare("many")
    template = client.run
    found: dict[str, dict[str, float]] = {}
    written = 0
    points = _MANY_POINTS // _MANY_RUNS
    for count in (1_000, _MANY_RUNS):
        fill(ours, template, first=written + 1, count=count - written, points=points)
        written = count
        found[f"{count} runs"] = _grown(ours, folder)
    few, many = found["1000 runs"], found[f"{_MANY_RUNS} runs"]
    growth = {name: round(many[name] / few[name], 2) for name in few if few[name]}
    size = round(ours.database.stat().st_size / 1e6)
    return {**found, "many to few": growth, "database, MB": size}


def _grown(kind: Kind, folder: Path) -> dict[str, float]:
    with started(kind) as running:
        client = Client(kind.name, running, folder)
        client.prepare("many")
        client.mlflow.search_registered_models()
        rows = [*_LOGGING_ROWS[:3], *_SEARCH_ROWS]
        figures = {
            name: _milliseconds(
                statistics.median(_timed(client, calls, action) for _ in range(_ROUNDS))
            )
            for name, calls, action in rows
        }
        return {"ready, ms": _milliseconds(running.ready_seconds), **figures}


# measuring ----------------------------------------------------------------------------------


def _compare(clients: Sequence[Client], rows: Sequence[Row]) -> dict[str, object]:
    """Measure each row on both in turn; milliseconds a call, medians of the rounds."""
    table: dict[str, object] = {}
    for name, calls, action in rows:
        walls: Mapping[str, list[float]] = {client.name: [] for client in clients}
        cpu: dict[str, float] = {client.name: 0.0 for client in clients}
        for _ in range(_ROUNDS):
            for client in clients:
                before = cpu_seconds(client.running.pid)
                with _alone(client, clients):
                    walls[client.name].append(_timed(client, calls, action))
                cpu[client.name] += cpu_seconds(client.running.pid) - before
        medians = {name: statistics.median(values) for name, values in walls.items()}
        table[name] = {
            "ms": {key: _milliseconds(value) for key, value in medians.items()},
            "server CPU ms": {
                key: _milliseconds(value / calls / _ROUNDS) for key, value in cpu.items()
            },
            "ratio": round(medians["mlflow"] / medians["stemma"], 2),
        }
        print(name, table[name], flush=True)
    return table


@contextmanager
def _alone(client: Client, clients: Sequence[Client]) -> Iterator[None]:
    """Pause the servers of the others: idle, they still take a share of two cores."""
    with ExitStack() as stack:
        for other in clients:
            if other is not client:
                stack.enter_context(paused(other.running.pid))
        yield


def _timed(client: Client, calls: int, action: Callable[[Client], object]) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        action(client)
    return (time.perf_counter() - began) / calls


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


if __name__ == "__main__":
    measured = run(*sys.argv[1:2])
    print(write_result("tracking", measured))
