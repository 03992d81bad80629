"""Restoring a version's environment, cold and warm, and finding a conflict.

Goals: ≤ 15 s cold (an empty package cache), ≤ 3 s warm; a conflict named in about a quarter
of a second.  The baseline is ``python -m venv`` with ``pip install`` of the same lock.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from benchmarks.digits import ENVIRONMENT, STEMMA, digits_project
from benchmarks.measure import least_seconds
from stemma.catalog.capture.environment import conflict_between
from stemma.server.wiring import open_hub


def run() -> dict[str, object]:
    """Measure in a project with one release of digits; seconds."""
    with digits_project() as folder:
        cold = {**ENVIRONMENT, "UV_CACHE_DIR": str(folder / "empty-cache")}
        figures: dict[str, object] = {
            "restore_cold_seconds": _checkout(folder, "cold", cold),
            "restore_warm_seconds": min(_checkout(folder, f"warm{i}", cold) for i in range(3)),
            "pip_seconds": _pip(folder),
        }
        with closing(open_hub(folder)) as hub:
            digits = hub.resolve("digits@1.0.0").manifest.environment.requirements
        other = ("scikit-learn<1.5", "numpy<2")
        figures["conflict_seconds"] = least_seconds(
            lambda: conflict_between(digits, other), rounds=3
        )
        figures["conflict"] = conflict_between(digits, other)
    return figures


def _checkout(folder: Path, target: str, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(
        [STEMMA, "checkout", "digits@1.0.0", "--to", target, "--env"],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def _pip(folder: Path) -> float:
    with closing(open_hub(folder)) as hub:
        lock = hub.objects.read_bytes(hub.resolve("digits@1.0.0").manifest.environment.lock)
    (folder / "lock.txt").write_bytes(lock)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", str(folder / "pip")], check=True)
    subprocess.run(
        [
            str(folder / "pip" / "bin" / "pip"),
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-cache-dir",
            "--require-hashes",
            "-r",
            str(folder / "lock.txt"),
        ],
        check=True,
    )
    seconds = time.perf_counter() - started
    shutil.rmtree(folder / "pip")
    return seconds
