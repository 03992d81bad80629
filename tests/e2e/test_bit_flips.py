"""One flipped bit at a time; the full count: ``python -m benchmarks bit_flips``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_flipped_bit_is_found_and_none_is_delivered() -> None:
    """A flipped bit would come back as another model, another number, or not be told."""
    trials = subprocess.run(
        [sys.executable, "-m", "benchmarks.scenarios.bit_flips", "36"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert trials.returncode == 0, trials.stdout + trials.stderr
    assert "failures: []" in trials.stdout
