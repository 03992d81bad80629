"""``kill -9`` during run, release and gc; 200 times: ``python -m benchmarks crashes``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_whatever_is_killed_nothing_acknowledged_is_lost_or_half_made() -> None:
    """A killed process would cost a release, leave half of one, or a lock to remove by hand."""
    trials = subprocess.run(
        [sys.executable, "-m", "benchmarks.scenarios.crashes", "12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert trials.returncode == 0, trials.stdout + trials.stderr
    assert "trials: 12" in trials.stdout
