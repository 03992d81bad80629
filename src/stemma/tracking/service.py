"""Runs: opened, logged to, and closed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from stemma.db.engine import Database
from stemma.domain.digest import Digest
from stemma.domain.run import MetricPoint, RunId, RunRecord, RunStart


class RunService:
    """Opens, logs to, closes and lists runs."""

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime], journal_folder: Path
    ) -> None:
        self._database = database
        self._clock = clock
        self._journal_folder = journal_folder

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be journalled, one line per run; never raised into training."""
        raise NotImplementedError

    def start(self, start: RunStart) -> RunId:
        """Open a run and return its id."""
        raise NotImplementedError

    def log_points(self, run: RunId, points: Sequence[MetricPoint]) -> None:
        """Append points of learning curves to the run's journal."""
        raise NotImplementedError

    def finish(self, run: RunId, manifest: Digest) -> RunRecord:
        """Close the run as finished; ``manifest`` must be registered."""
        raise NotImplementedError

    def fail(
        self, run: RunId, failure: str, *, traceback: str = "", is_interrupted: bool = False
    ) -> RunRecord:
        """Close the run as failed or interrupted."""
        raise NotImplementedError

    def get(self, prefix: str) -> RunRecord:
        """Return the run with that id or unique prefix."""
        raise NotImplementedError

    def list(self, model: str = "", *, invocation: str = "", limit: int = 50) -> list[RunRecord]:
        """Return runs, newest first."""
        raise NotImplementedError

    def curve(self, run: RunId, name: str) -> list[MetricPoint]:
        """Return the points of one learning curve in order of step."""
        raise NotImplementedError

    def curve_names(self, run: RunId) -> list[str]:
        """Return the names of the run's learning curves, sorted."""
        raise NotImplementedError

    def reap(self) -> list[RunRecord]:
        """Close as failed every running run whose process is dead; returns them."""
        raise NotImplementedError
