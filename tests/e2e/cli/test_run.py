"""``stemma run`` around a command: signals, repeats, wrappers; and what ``gc`` takes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stemma.hub.local import LocalHub
from stemma.server.wiring import open_hub

Completed = subprocess.CompletedProcess[str]
Stemma = Callable[..., Completed]
pytestmark = pytest.mark.slow

STEMMA = (sys.executable, "-m", "stemma.cli.main")
WAITING = (
    "import signal, sys, time\n"
    "def end(*_):\n"
    "    print('saved', flush=True)\n"
    "    sys.exit(0 if sys.argv[1:] == ['well'] else 9)\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "signal.signal(signal.SIGINT, end)\n"
    "print('up', flush=True)\n"
    "time.sleep(60)\n"
)


def _read_until(handle: int, word: bytes) -> bytes:
    """Read a terminal until a word appears."""
    seen = b""
    deadline = time.monotonic() + 60
    while word not in seen:
        assert time.monotonic() < deadline, seen
        seen += os.read(handle, 4096)
    return seen


def test_sigterm_reaches_the_command_which_ends_in_its_own_way(project: Path) -> None:
    """A scheduler's SIGTERM would kill a training before it saves its checkpoint."""
    (project / "wait.py").write_text(WAITING)
    process = subprocess.Popen(
        [*STEMMA, "run", "--name", "toy", "--", sys.executable, "wait.py"],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert out.startswith("saved\n"), err
    assert "interrupted" in out
    assert process.returncode == 130


def test_ctrl_c_on_a_terminal_is_sent_once(stemma: Stemma, project: Path) -> None:
    """The command would get Ctrl-C twice and die while it saves."""
    (project / "wait.py").write_text(WAITING.replace("print('saved'", "print('saved once'"))
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*STEMMA, "run", "--name", "toy", "--", sys.executable, "wait.py"],
        cwd=project,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - nothing else runs here
    )
    os.close(slave)
    _read_until(master, b"up")
    os.write(master, b"\x03")
    seen = _read_until(master, b"nothing to release")
    assert process.wait(timeout=60) == 130
    os.close(master)
    assert seen.count(b"saved once") == 1
    runs = json.loads(stemma("log", "toy", "--runs", "--json").stdout)
    assert [run["state"] for run in runs] == ["interrupted"]


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_repeat_records_each_and_stops_at_the_first_failure(stemma: Stemma, project: Path) -> None:
    """Three seeds would end as one run, or go on after a crash."""
    run = ["--model", "model.json", "--json", "--", sys.executable, "train.py"]
    answer = json.loads(stemma("run", "--repeat", "3", *run).stdout)
    assert [one["state"] for one in answer["runs"]] == ["finished"] * 3
    assert len({one["id"] for one in answer["runs"]}) == 3
    (project / "train.py").write_text(
        "import pathlib\n"
        "if pathlib.Path('once').exists(): raise SystemExit(3)\n"
        "pathlib.Path('once').touch()\n"
        "pathlib.Path('model.json').write_text('{}')\n"
    )
    failed: Completed = stemma("run", "--repeat", "3", *run)
    assert failed.returncode == 1
    states = [one["state"] for one in json.loads(failed.stdout)["runs"]]
    assert states == ["finished", "failed"]


def test_gc_asks_a_person_first(stemma: Stemma, project: Path) -> None:
    """Data would vanish unasked."""
    assert stemma("add", "data.csv").returncode == 0
    (project / "data.csv").write_text("other\n")
    assert stemma("add", "data.csv").returncode == 0
    dry: Completed = stemma("gc", "--dry-run", "--grace", "0", "--format", "human")
    assert dry.stdout.startswith("• would move to the trash: "), dry.stderr
    refused: Completed = stemma("gc", "--grace", "0")
    assert refused.returncode == 2
    assert "hint: stemma gc --yes" in refused.stderr
    master, slave = pty.openpty()
    for word, code, is_left in ((b"n\n", 130, True), (b"y\n", 0, False)):
        process = subprocess.Popen(
            [*STEMMA, "gc", "--grace", "0"],
            cwd=project,
            stdin=slave,
            stdout=subprocess.DEVNULL,
            stderr=slave,
        )
        _read_until(master, b"go on?")
        os.write(master, word)
        assert process.wait(timeout=60) == code
        left = json.loads(stemma("gc", "--dry-run", "--grace", "0", "--json").stdout)["removed"]
        assert bool(left) == is_left
    os.close(master)
    os.close(slave)
    assert stemma("doctor").returncode == 0


def test_gc_takes_an_expired_candidate_and_keeps_the_release(stemma: Stemma, project: Path) -> None:
    """Unreleased runs would fill the disk for ever."""
    train = ["run", "--model", "model.json", "--", sys.executable, "train.py"]
    assert stemma(*train).returncode == 0
    assert stemma("release", "toy").returncode == 0
    (project / "train.py").write_text(
        "import pathlib\npathlib.Path('model.json').write_text('[2, 3]')\n"
    )
    assert stemma(*train).returncode == 0
    with closing(open_hub(project)) as hub:
        for days, is_removed in ((13, False), (15, True)):
            then = datetime.now(UTC) + timedelta(days=days)
            later = LocalHub(replace(hub._parts, clock=lambda then=then: then))
            report = later.collect_garbage(is_dry_run=False, grace_seconds=0)
            assert bool(report.removed) == is_removed
        assert [run.state.value for run in hub.list_runs("toy")] == ["finished"]
        assert hub.resolve("toy@1.0.0").version == "1.0.0"
        assert hub.doctor().is_healthy


def test_checkout_builds_the_environment(stemma: Stemma, project: Path) -> None:
    """A version could be restored but not run."""
    train = ["run", "--model", "model.json", "--", sys.executable, "train.py"]
    assert stemma(*train).returncode == 0
    assert stemma("release", "toy").returncode == 0
    answer = json.loads(stemma("checkout", "toy@1.0.0", "--env", "--json").stdout)
    python = project / answer["python"]
    assert python.is_file()
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout
    assert version.split()[1] == ".".join(map(str, sys.version_info[:3]))
