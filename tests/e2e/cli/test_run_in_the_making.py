"""What `stemma run` keeps while a command runs, and what a crash leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Stemma = Callable[..., subprocess.CompletedProcess[str]]


def test_a_script_edited_while_it_runs_is_recorded_as_it_ran(
    stemma: Stemma, project: Path, tmp_path: Path
) -> None:
    """A version recorded without code changes would hold a script that never made it."""
    script = project / "train.py"
    ran = script.read_text() + "pathlib.Path(__file__).write_text('edited')\n"
    script.write_text(ran)
    answer = stemma("run", "--model", "model.json", "--", "python", "train.py")
    assert answer.returncode == 0, answer.stderr
    assert "train.py changed during the run: recorded as at its start" in answer.stderr
    assert script.read_text() == "edited"
    assert stemma("release", "toy").returncode == 0
    restored = stemma("checkout", "toy@1.0.0", "--to", "restored")
    assert restored.returncode == 0, restored.stderr
    [found] = (tmp_path / "restored").rglob("train.py")
    assert found.read_text() == ran


def test_a_killed_run_leaves_nothing_after_the_next_one_or_gc(
    stemma: Stemma, project: Path
) -> None:
    """Each crash would keep its copies on the disk for ever."""
    temporary = project / ".stemma" / "tmp"
    for clean in (
        ("run", "--model", "model.json", "--", "python", "train.py"),
        ("gc", "--grace", "0", "--yes"),
    ):
        _kill_a_run(project, temporary)
        assert list(temporary.iterdir())
        answer = stemma(*clean)
        assert answer.returncode == 0, answer.stderr
        assert list(temporary.iterdir()) == []


def _kill_a_run(project: Path, temporary: Path) -> None:
    command = ["-m", "stemma.cli.main", "run", "--model", "model.json", "--", "sleep", "30"]
    process = subprocess.Popen([sys.executable, *command], cwd=project, start_new_session=True)
    deadline = time.monotonic() + 30
    while not any(path.is_dir() for path in temporary.iterdir()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
