"""The four parts of a rollback, cold and ready, for a 1 GB artifact with the network off.

By hand: ``python -m benchmarks.scenarios.rollback_parts 0.1`` (size in GB).

The version to go back to is a classifier that carries a table of a gigabyte.  Everything after
its recording runs in a network namespace of its own, where only loopback works; where that is
not allowed, offline by settings and environment variables alone.

* ready: it is warm; one command moves users back and verifies everything.
* drill: the same way on an idle slot, everything made afresh.
* cold: the server was killed, its process too, and its files and environment are deleted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from benchmarks.digits import ENVIRONMENT, STEMMA
from benchmarks.production import MODEL, Production, free_port, production
from stemma.delivery.values import RollbackReport
from stemma.domain.judge import JudgePolicy
from stemma.domain.rollout import RolloutPlan, RolloutState

_GOALS: Final = {"traffic": 1.0, "configuration": 5.0, "dependencies": 30.0, "artifacts": 60.0}
_READY_ROUNDS: Final = 3
_RATE: Final = 20.0
_PLAN: Final = RolloutPlan(
    steps_bp=(10_000,),
    hold_seconds=0,
    hold_limit_seconds=3600,
    judge=JudgePolicy(minimum_requests=1),
)
_PROBE: Final = "import socket; socket.create_connection(('192.0.2.1', 443), timeout=2)"

_BIG: Final = """
import numpy as np
import pandas  # noqa: F401 - one package more than the other version's environment has
from sklearn.datasets import load_digits
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

import stemma

X, y = load_digits(return_X_y=True)
Xtr, Xte, ytr, yte = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
with stemma.run("digits") as run:
    run.data("digits-train", (Xtr, ytr))
    model = make_pipeline(SimpleImputer(), LogisticRegression(max_iter=3000)).fit(Xtr, ytr)
    # Carried along and loaded; requests do not need it, so that they take no longer for it.
    table = np.random.default_rng(0).random(({rows}, 64), dtype=np.float32)
    model.named_steps["logisticregression"].table_ = table
    run.model(model, test=(Xte, yte))
"""

Figures = dict[str, Any]


def run(gigabytes: float = 1.0) -> Figures:
    """Record, then measure without a network."""
    rows = int(gigabytes * 2**30 / (64 * 4))
    with production(is_serving=False) as made:
        (made.root / "train.py").write_text(_BIG.format(rows=rows), encoding="utf-8")
        (made.root / "stemma.toml").write_text(
            "[model.digits.serve]\nmemory_mib = 8192\nstart_timeout_seconds = 300\n",
            encoding="utf-8",
        )
        began = time.monotonic()
        made.command(STEMMA, "run", "--", "python", "train.py")
        said = made.command(STEMMA, "release", MODEL)
        recorded = time.monotonic() - began
        small = made.release("LogisticRegression(max_iter=500)")
        version = re.search(rf"{MODEL} (\d+\.\d+\.\d+)", said)
        assert version is not None, said
        return {
            "gigabytes": gigabytes,
            "goals_seconds": _GOALS,
            "record_and_release_s": round(recorded, 1),
            **_isolated(made.root, version[1], small),
        }


def _isolated(root: Path, big: str, small: str) -> Figures:
    """Measure in a process that has no network but loopback."""
    words = [sys.executable, "-m", __spec__.name, "measure", str(root), big, small]
    has_namespaces = not subprocess.run(
        ["unshare", "-n", "true"], capture_output=True, check=False
    ).returncode
    if has_namespaces:
        inside = 'ip link set lo up && exec "$@"'
        words = ["unshare", "-n", "sh", "-c", inside, "sh", *words]
    environment = {**ENVIRONMENT, "UV_OFFLINE": "1", "STEMMA_MAY_USE_NETWORK": "false"}
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return {"has_network_namespace": has_namespaces, **figures}


def _measure(root: Path, big: str, small: str) -> Figures:
    reaches = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
    served = Production(root=root, plane="envoy", port=free_port())
    try:
        started = served.serve(f"{MODEL}@{big}", "--channel", "stable")
        ready = [_ready(served, small) for _ in range(_READY_ROUNDS)]
        with served.hub() as hub:
            drill = hub.rollback(MODEL, lambda _: None, is_drill=True)
        return {
            "network": "unreachable" if reaches.returncode else "reachable",
            "first_start_s": round(started, 1),
            "ready": ready,
            "drill": _parts(drill),
            "cold": _cold(served, small, big),
        }
    finally:
        served.end()


def _roll_out(served: Production, version: str) -> None:
    with served.hub() as hub:
        served.roll_out(hub, version, _PLAN)
        served.until_rollout(hub, {RolloutState.LIVE}, 300)


def _ready(served: Production, small: str) -> Figures:
    """Roll the other version out to the end, and back by one command."""
    _roll_out(served, small)
    users = served.send_users(_RATE)
    called_at = time.time()
    with served.hub() as hub:
        report = hub.rollback(MODEL, lambda _: None)
    time.sleep(0.5)
    seen = users.end()
    return {**_parts(report), **_last(served, small, called_at), "failed": seen["failed"]}


def _cold(served: Production, small: str, big: str) -> Figures:
    """Go back without a server, to a version of which nothing is left but the store."""
    _roll_out(served, small)
    users = served.send_users(_RATE)
    served.kill_server()
    for pid in served.pids(big):
        os.kill(pid, signal.SIGKILL)
    with served.hub() as hub:
        manifest = hub.resolve(f"{MODEL}@{big}")
        identity = str(manifest.manifest.environment.identity)
        packages = len(manifest.manifest.environment.packages)
    _delete(served.layout.version(str(manifest.digest)))
    _delete(served.layout.environment(identity))
    called_at = time.time()
    served.command(STEMMA, "rollback", MODEL)
    whole = time.time() - called_at
    time.sleep(0.5)
    seen = users.end()
    with served.hub() as hub:
        report = hub.drills(MODEL)[0]
    return {
        **_parts(report),
        **_last(served, small, called_at),
        "whole_command_s": round(whole, 2),
        "packages": packages,
        "failed": seen["failed"],
    }


def _delete(folder: Path) -> None:
    """Delete what is there, and what is only readable."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.chmod(0o755)
    shutil.rmtree(folder)


def _last(served: Production, version: str, called_at: float) -> Figures:
    late = [line.at_ms - called_at * 1000 for line in served.lines() if line.version == version]
    return {"call_to_last_request_at_bad_version_ms": round(max(0.0, *late), 1)}


def _parts(report: RollbackReport) -> Figures:
    found: Figures = {
        phase.name: {
            "seconds": round(phase.seconds, 3),
            "detail": phase.detail,
            "is_verified": phase.is_verified,
        }
        for phase in report.phases
    }
    if report.failure:
        found["failure"] = report.failure
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(_measure(Path(sys.argv[2]), *sys.argv[3:5])))
    else:
        print(json.dumps(run(float(sys.argv[1]) if sys.argv[1:] else 1.0), indent=2))
