"""Several processes in one project; by hand: ``python -m benchmarks at_once``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_eight_writers_and_a_collection_lose_and_double_nothing() -> None:
    """Two releases would share a number, or a collection would take what was being named."""
    trials = subprocess.run(
        [sys.executable, "-m", "benchmarks.scenarios.at_once", "8", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert trials.returncode == 0, trials.stdout + trials.stderr
    assert "acknowledged releases: 24" in trials.stdout
