"""The server is killed in the middle of a rollout; the whole measurement is a benchmark.

By hand, with fifty kills: ``python -m benchmarks controller_crashes``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_server_killed_during_a_rollout_fails_no_user_and_counts_each_request_once() -> None:
    """A crash of the controller would fail users, or have requests counted twice."""
    trial = subprocess.run(
        [sys.executable, "-m", "benchmarks.scenarios.controller_crashes", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert trial.returncode == 0, trial.stdout + trial.stderr
    found = json.loads(trial.stdout.splitlines()[-1])
    assert found["kills"] == 3
    assert found["requests"] > 0
    assert (found["failed"], found["problems"], found["left_running"]) == (0, [], []), found
