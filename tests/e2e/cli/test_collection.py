"""Collection keeps what the project's files stand for, whatever became of the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Stemma = Callable[..., CompletedProcess[str]]


@pytest.mark.slow
def test_collection_after_a_lost_database_keeps_tracked_data(stemma: Stemma, project: Path) -> None:
    """Rows of tracked files have no record: rebuilt without them, gc would delete the data."""
    assert stemma("add", "data.csv").returncode == 0
    for file in project.glob(".stemma/stemma.db*"):
        file.unlink()
    assert stemma("doctor", "--rebuild").returncode == 0
    collected = stemma("gc", "--grace", "0", "--yes", "--json")
    assert json.loads(collected.stdout)["removed"] == []
    assert stemma("doctor").returncode == 0


@pytest.mark.slow
def test_a_damaged_pointer_stops_collection(stemma: Stemma, project: Path) -> None:
    """The data that it stands for would be taken for litter."""
    assert stemma("add", "data.csv").returncode == 0
    pointer = project / "data.csv.stemma"
    pointer.write_bytes(pointer.read_bytes().replace(b"file", b"fjle"))
    refused = stemma("gc", "--grace", "0", "--yes")
    assert refused.returncode == 1
    assert "data.csv.stemma" in refused.stderr
