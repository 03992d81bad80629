"""A project to try durability on, and what a user does in it.

Every verb runs in a process of its own (see ``forks``), opens the project anew and answers
plain values.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import os
import pkgutil
import runpy
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import sklearn.datasets
import sklearn.linear_model
import skops.io  # noqa: F401 - here, so that no fork has to import it

import stemma.sdk.adapters.sklearn  # noqa: F401 - as above
from benchmarks.durability.forks import Answer
from stemma.catalog.capture.artifact import capture_model_path
from stemma.catalog.recording import Recorder
from stemma.cli import cards, commands, plain, recording, version_cards, versions  # noqa: F401
from stemma.cli.dispatch import dispatch
from stemma.domain.manifest import Provenance
from stemma.domain.run import RunStart, RunState
from stemma.server.wiring import examine_project, init_project, open_hub
from stemma.tracking.process import current_process

for _module in pkgutil.iter_modules(commands.__path__):
    import_module(f"stemma.cli.commands.{_module.name}")

MODEL: Final = "digits"
SCRATCH: Final = "scratch"
"""A model whose unreleased candidates expire at once: food for the collection."""

_SETTINGS: Final = f"[model.{MODEL}]\ninterface = ['predict']\n[model.{SCRATCH}]\nexpiry_days = 1\n"
_TRAIN: Final = """\
import os
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
import stemma

X, y = load_digits(return_X_y=True)
with stemma.run("digits") as run:
    run.data("digits-train", (X[:300], y[:300]))
    for step in range(10):
        run.log(loss=1 / (1 + step), step=step)
    model = LogisticRegression(max_iter=60, C=float(os.environ["TRIAL_C"])).fit(X[:300], y[:300])
    run.model(model, test=(X[300:900], y[300:900]))
"""


def preload() -> None:
    """Do once in the parent what every fork would do again."""
    warnings.simplefilter("ignore")
    sklearn.datasets.load_digits()
    os.environ.update({"STEMMA_USER": "ada", "STEMMA_MAY_USE_NETWORK": "false"})
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        # A project of no importance: loads what is loaded late, and is closed again.
        init_project(Path(name))
        overview(Path(name))
        doctor(Path(name))
    gc.freeze()  # a fork that collects garbage need not look at all this


def make(root: Path) -> Answer:
    """Make the project."""
    root.mkdir(parents=True)
    (root / "stemma.toml").write_text(_SETTINGS, encoding="utf-8")
    (root / "train.py").write_text(_TRAIN, encoding="utf-8")
    return command(root, "init")


def command(root: Path, *arguments: str) -> Answer:
    """Run ``stemma arguments… --json`` in this process."""
    os.chdir(root)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = dispatch([*arguments, "--json"])
    text = out.getvalue()
    return {
        "code": code,
        "payload": json.loads(text) if text.strip() else None,
        "stderr": err.getvalue(),
    }


def train(root: Path, script: str, c: float = 1.0) -> Answer:
    """Run a training script in this process, as ``python script`` does; answers its run."""
    os.chdir(root)
    os.environ["TRIAL_C"] = repr(c)
    sys.argv = [script]
    sys.orig_argv[1:] = [script]
    with contextlib.redirect_stderr(io.StringIO()):
        run = runpy.run_path(script, run_name="__main__")["run"]
    return {"run": run.id}


def release(root: Path, model: str = MODEL, *options: str) -> Answer:
    """Release the newest run and move ``stable`` to it."""
    return command(root, "release", model, "--channel", "stable", *options)


def litter(root: Path) -> Answer:
    """Store what nothing will reach, and a candidate that has expired."""
    long_ago = datetime.now(UTC) - timedelta(days=30)
    weights = root / "weights.bin"
    weights.write_bytes(os.urandom(50_000))
    with closing(open_hub(root)) as hub, hub.writing():
        for _ in range(3):
            hub.objects.put_bytes(os.urandom(20_000))
        hub.objects.put_tree(root, [weights.name])
        weights.write_bytes(os.urandom(50_000))
        run = hub.start_run(RunStart(model=SCRATCH, process=current_process()))
        recorder = Recorder(hub.objects, root, SCRATCH)
        recorder.set_model(capture_model_path(weights))
        manifest = recorder.build(
            Provenance(run=run, started_at=long_ago, ended_at=long_ago, created_by="ada")
        )
        hub.finish_run(run, manifest)
    return {"run": run}


def record_file(root: Path, model: str, data: bytes) -> Answer:
    """Record a model file as a finished run of this process."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as name, closing(open_hub(root)) as hub:
        weights = Path(name) / "weights.bin"
        weights.write_bytes(data)
        run = hub.start_run(RunStart(model=model, process=current_process()))
        recorder = Recorder(hub.objects, root, model)
        recorder.set_model(capture_model_path(weights))
        with hub.writing():
            manifest = recorder.build(
                Provenance(run=run, started_at=now, ended_at=now, created_by="ada")
            )
            hub.finish_run(run, manifest)
    return {"run": run}


def put(root: Path, data: bytes) -> Answer:
    """Store bytes that nothing names."""
    with closing(open_hub(root)) as hub, hub.writing():
        return {"digest": str(hub.objects.put_bytes(data).digest)}


def version(root: Path, ref: str) -> Answer:
    """Read a version whole: its manifest, and every file of its artifact."""
    with closing(open_hub(root)) as hub:
        view = hub.resolve(ref)
        tree = hub.objects.read_tree(view.manifest.artifact.content)
        files = {
            entry.path: hashlib.sha256(hub.objects.read_bytes(entry.digest)).hexdigest()
            for entry in tree.entries
            if entry.digest is not None
        }
        hub.facts(view)
    return {"manifest": str(view.digest), "files": files, "channels": list(view.channels)}


def overview(root: Path, models: Sequence[str] = (MODEL,)) -> Answer:
    """Say everything that is visible: runs, releases, channels."""
    with closing(open_hub(root)) as hub:
        known = {view.name for view in hub.list_models()}
        seen: dict[str, Any] = {"runs": {}, "of model": [], "log": {}, "channels": {}, "moves": {}}
        for run in hub.list_runs(limit=10_000):
            seen["runs"][run.id] = [run.state.value, str(run.manifest)]
            if run.start.model in models:
                seen["of model"].append(run.id)
        for model in models:
            if model not in known:
                seen["log"][model], seen["channels"][model] = [], {}
                continue
            rows = hub.log(model, limit=10_000)
            seen["log"][model] = [[row.sequence, row.version, str(row.digest)] for row in rows]
            channels = {name for row in rows for name in row.channels}
            seen["channels"][model] = {
                name: hub.channel_history(model, name)[0].version for name in sorted(channels)
            }
            seen["moves"][model] = [
                [move.sequence, move.version] for move in hub.channel_history(model, "stable")
            ]
    return seen


def doctor(root: Path) -> Answer:
    """Examine the project."""
    report = examine_project(root)
    return {
        "healthy": report.is_healthy,
        "problems": [
            f"{item.kind} {item.where} {item.detail}"
            for item in report.findings
            if not item.is_harmless
        ],
        "notes": [item.kind for item in report.findings if item.is_harmless],
    }


def half_made(root: Path) -> list[str]:
    """Name what is visible and not whole."""
    found: list[str] = []
    with closing(open_hub(root)) as hub:
        for run in hub.list_runs(limit=10_000):
            if run.state is RunState.FINISHED and run.manifest is None:
                found.append(f"run {run.id} is finished without a version")
            if run.state is RunState.RUNNING:
                found.append(f"run {run.id} is said to be running")
    return found


def survey(root: Path, refs: Sequence[str] = (), models: Sequence[str] = (MODEL,)) -> Answer:
    """Do all of the above at once: forking costs more than looking."""
    return {
        "doctor": doctor(root),
        **overview(root, models),
        "half_made": half_made(root),
        "versions": {ref: version(root, ref) for ref in refs},
    }
