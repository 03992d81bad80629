"""Verbs on runs, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import override

from stemma.domain.manifest import Manifest
from stemma.domain.names import check_model_name
from stemma.domain.run import MetricPoint, RunId, RunRecord, RunStart
from stemma.domain.tracking import RunData
from stemma.hub.base import RunVerbs
from stemma.hub.local_parts import LocalParts
from stemma.hub.run_telling import run_facts, tell_runs
from stemma.tracking import experiments

if TYPE_CHECKING:
    from stemma.tracking.search.values import Search


class LocalRuns(RunVerbs):
    """Runs of one project."""

    _parts: LocalParts

    @override
    def start_run(self, start: RunStart) -> RunId:
        check_model_name(start.model)
        # A wrong policy is told before hours of training, not after.
        self._parts.policy(start.model)
        self._parts.runs.reap()
        return self._parts.runs.start(start)

    @override
    def log_points(self, run: RunId, points: Sequence[MetricPoint]) -> None:
        self._parts.runs.log_points(run, points)

    @override
    def finish_run(self, run: RunId, manifest: Manifest) -> RunRecord:
        # The version stands before the run names it: a crash between leaves an unnamed
        # manifest, which garbage collection takes, never a run without its version.
        digest = self._parts.catalog.register(manifest)
        return self._parts.runs.finish(run, digest, run_facts(self._parts, manifest))

    @override
    def fail_run(
        self, run: RunId, failure: str, *, traceback: str = "", is_interrupted: bool = False
    ) -> RunRecord:
        return self._parts.runs.fail(
            run, failure, traceback=traceback, is_interrupted=is_interrupted
        )

    @override
    def get_run(self, run: str) -> RunRecord:
        return self._parts.runs.get(run)

    @override
    def list_runs(
        self, model: str = "", *, invocation: str = "", limit: int = 50
    ) -> list[RunRecord]:
        return self._parts.runs.list(model, invocation=invocation, limit=limit)

    @override
    def search_runs(
        self, search: Search, *, experiment: str | int | None = None
    ) -> Sequence[RunData]:
        # Few commands search, and the language costs each of them its import.
        from stemma.tracking.search.runs import search_runs  # noqa: PLC0415

        with self._parts.database.read() as connection:
            within = None
            if isinstance(experiment, str):
                within = [experiments.get_by_name(connection, experiment).id]
            elif experiment is not None:
                within = [experiments.get(connection, experiment).id]
            return search_runs(connection, within, search).items

    @override
    def curve(self, run: RunId, name: str) -> list[MetricPoint]:
        return self._parts.runs.curve(run, name)

    def restore_curves(self) -> int:
        """Read learning curves back from the journals that are kept; returns how many."""
        count = self._parts.runs.restore_curves()
        tell_runs(self._parts)
        return count
