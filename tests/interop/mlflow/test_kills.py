"""The tracking server is killed while threads log through the unmodified client."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_what_was_acknowledged_before_a_kill_is_there_once() -> None:
    """A crash of the server would take points with it, or count them twice."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.scenarios.tracking_kills", "1"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout[done.stdout.index("{") :])
    assert result["problems"] == []
    assert result["doctor"] == 0
    assert result["sent_again"], "the kill met nobody"
