"""Interleaved rounds, minimum kept, with machine facts: read the figures as ratios."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    return {
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": {
            name: version(name) for name in ("numpy", "sqlalchemy", "click", "uv", "blake3")
        },
    }


def commands(
    table: Mapping[str, Sequence[str]], *, rounds: int, cwd: Path, environment: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Run each command once per round, in turn; return least wall and CPU milliseconds."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, command in table.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            started = time.perf_counter()
            subprocess.run(
                command, cwd=cwd, env=dict(environment), check=True, stdout=subprocess.DEVNULL
            )
            wall = time.perf_counter() - started
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            kept = best.setdefault(name, {"wall_ms": wall * 1000, "cpu_ms": cpu * 1000})
            kept["wall_ms"] = min(kept["wall_ms"], wall * 1000)
            kept["cpu_ms"] = min(kept["cpu_ms"], cpu * 1000)
    return best


def least_seconds(action: Callable[[], object], *, rounds: int) -> float:
    """Return the least wall time of ``rounds`` calls."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - started)
    return best


def write_result(name: str, figures: Mapping[str, object]) -> Path:
    """Write ``results/NAME.json`` with machine facts, and return where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"scenario": name, "machine": machine(), "figures": figures}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path
