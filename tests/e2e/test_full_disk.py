"""A disk that is full; by hand: ``python -m benchmarks full_disk``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


NOT_ALLOWED = 77
"""Exit code of a scenario that may not do here what it needs to."""


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_the_same_command_works_later() -> None:
    """A disk that fills up during a release would leave half of it, or a traceback."""
    trials = subprocess.run(
        [sys.executable, "-m", "benchmarks.scenarios.full_disk", "brief"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if trials.returncode == NOT_ALLOWED:
        pytest.skip(f"mounting is not allowed here: {trials.stdout.strip()}")
    assert trials.returncode == 0, trials.stdout + trials.stderr
    assert "disk-full" in trials.stdout
