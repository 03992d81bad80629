"""A release that ended before its channel moved is completed by asking for it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Stemma = Callable[..., CompletedProcess[str]]


@pytest.mark.slow
def test_releasing_again_moves_the_channel_that_was_left_behind(
    stemma: Stemma, project: Path
) -> None:
    """A release killed before its channel moved could never be completed: "already is this"."""
    recorded = stemma(
        *("run", "--model", "model.json", "--data", "data.csv", "--", "python", "train.py")
    )
    assert recorded.returncode == 0, recorded.stderr
    assert stemma("release", "toy").returncode == 0
    again = stemma("release", "toy", "--channel", "stable", "--json")
    assert json.loads(again.stdout)["status"] == "unchanged"
    shown = json.loads(stemma("show", "toy@stable", "--json").stdout)
    assert "1.0.0" in json.dumps(shown)
