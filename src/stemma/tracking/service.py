"""``RunService``: opens, logs to, closes and lists runs.

Invariants:
    * What ``start``, ``finish`` and ``fail`` returned survives ``kill -9`` and a power cut.
    * Closing a run and taking its journal into the database is one transaction: after a
      crash the run is either running, its points in the journal, or closed, its points in
      the database; no point is lost or there twice.
    * Equal points (name, step, moment and value) are one point.
    * A run is closed once.  Only ``finish`` gives it a manifest, which is registered before.
    * ``log_points`` refuses a value that is not finite and raises nothing else: a full disk
      does not stop a training.

It does not record components (``stemma.catalog.recording`` does) and runs no commands.

Example:
    >>> run = runs.start(RunStart(model="digits"))  # doctest: +SKIP
    >>> runs.log_points(run, [MetricPoint(name="loss", value=0.3, step=1, logged_at=now)])
    ... # doctest: +SKIP
"""

from __future__ import annotations

import math
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, final

from stemma.db.engine import Connection, Database
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.names import check_model_name
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.run import MetricPoint, RunId, RunRecord, RunStart, RunState
from stemma.domain.run_facts import RunFacts
from stemma.domain.run_names import name_of
from stemma.domain.tracking import Point, rank, to_microseconds, to_moment
from stemma.tracking import experiments, metric_queries, queries, run_log
from stemma.tracking.journal import Journals
from stemma.tracking.process import is_alive

DIED: Final = "process died without finishing"
"""Failure of a run that was reaped."""

_RUN: Final = re.compile(r"r-[0-9a-f]{1,64}")
_ID_SIZE_BYTES: Final = 4
_NAMED_COUNT: Final = 5
_ALL_POINTS: Final = 2**62
_NO_FACTS: Final = RunFacts()


@final
class RunService:
    """Runs, in rows and journals.

    Attributes:
        warnings: What could not be journalled, one line per run.
    """

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime], journal_folder: Path
    ) -> None:
        self._database = database
        self._clock = clock
        self._journals = Journals(journal_folder)
        self._closed: set[RunId] = set()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be journalled, one line per run; never raised into training."""
        return self._journals.warnings

    def start(self, start: RunStart) -> RunId:
        """Open a run and return its id.

        Raises:
            InvalidInputError: If the model's name is not allowed.
        """
        check_model_name(start.model)
        with self._database.write() as connection:
            run = _new_id()
            while queries.find_run(connection, run) is not None:
                run = _new_id()
            now = self._clock()
            number = start.experiment or experiments.of_model(connection, start.model, now)
            record = RunRecord(
                id=run,
                start=replace(start, experiment=number, name=start.name or name_of(run)),
                state=RunState.RUNNING,
                started_at=now,
            )
            queries.insert_run(connection, record)
            run_log.tell(connection, record, _NO_FACTS)
        return run

    def log_points(self, run: RunId, points: Sequence[MetricPoint]) -> None:
        """Append points of learning curves to the run's journal.

        Raises:
            InvalidInputError: If a value is not finite; none of the points is logged then.
            ConflictError: If this service has closed the run.
        """
        _check_id(run)
        for point in points:
            if not math.isfinite(point.value):
                raise InvalidInputError(
                    f"metric {point.name} is {point.value} at step {point.step} of run {run}; "
                    "a metric must be finite",
                    code="metric-not-finite",
                    hint="look for a division by zero or a learning rate that is too high",
                )
        if run in self._closed:
            raise _closed(run)
        self._journals.append(run, points)

    def finish(self, run: RunId, manifest: Digest, facts: RunFacts = _NO_FACTS) -> RunRecord:
        """Close the run as finished, with its registered candidate manifest.

        Args:
            run: The run.
            manifest: The version it made.
            facts: What tracking clients see of it.

        Raises:
            NotFoundError: If there is no such run, or the manifest is not registered.
            ConflictError: If the run is closed already.
        """
        return self._close(run, RunState.FINISHED, manifest=manifest, facts=facts)

    def fail(
        self, run: RunId, failure: str, *, traceback: str = "", is_interrupted: bool = False
    ) -> RunRecord:
        """Close the run as failed or interrupted; it can never be released.

        Raises:
            NotFoundError: If there is no such run.
            ConflictError: If the run is closed already.
        """
        state = RunState.INTERRUPTED if is_interrupted else RunState.FAILED
        return self._close(run, state, failure=failure, traceback=traceback)

    def get(self, prefix: str) -> RunRecord:
        """Return the run with that id or unique prefix.

        Raises:
            NotFoundError: If there is none; the hint names near ones.
            ConflictError: If there are several.
        """
        wanted = prefix if prefix.startswith("r-") else f"r-{prefix}"
        with self._database.read() as connection:
            found = queries.find_runs_by_prefix(connection, wanted, _NAMED_COUNT)
            exact = [record for record in found if record.id == wanted]
            names = [] if found else queries.all_run_ids(connection)
        if len(found) == 1 or exact:
            return (exact or found)[0]
        if found:
            raise ConflictError(
                f"{prefix} may mean {', '.join(record.id for record in found)}",
                code="ambiguous-run",
                hint="stemma log --runs",
            )
        near = suggest(wanted, names)
        raise NotFoundError(
            f"no run {prefix}{did_you_mean(near)}",
            code="run-not-found",
            hint="stemma log --runs",
        )

    def curve(self, run: RunId, name: str) -> list[MetricPoint]:
        """Return the points of one learning curve in order of step; of a running run so far.

        Raises:
            NotFoundError: If there is no such run.
        """
        with self._database.read() as connection:
            record = _existing(connection, run)
            found = [
                point for point, _ in metric_queries.history(connection, run, name, _ALL_POINTS)
            ]
        if record.state is RunState.RUNNING:
            found += [point for point in _points(self._journals.read(run)) if point.name == name]
        return [
            MetricPoint(
                name=name,
                value=point.value,
                step=point.step,
                logged_at=to_moment(point.logged_at_us),
            )
            for point in sorted(dict.fromkeys(found), key=rank)
        ]

    def curve_names(self, run: RunId) -> list[str]:
        """Return the names of the run's learning curves, sorted.

        Raises:
            NotFoundError: If there is no such run.
        """
        with self._database.read() as connection:
            record = _existing(connection, run)
            names = set(metric_queries.metric_names(connection, run))
        if record.state is RunState.RUNNING:
            names |= {point.name for point in self._journals.read(run)}
        return sorted(names)

    def reap(self) -> list[RunRecord]:
        """Close as failed every running run of this host whose process is dead; returns them."""
        host = socket.gethostname()
        with self._database.read() as connection:
            candidates = queries.running_runs(connection)
        dead = [
            record.id
            for record in candidates
            if record.start.process
            and record.start.host in {"", host}
            and not is_alive(record.start.process)
        ]
        reaped: list[RunRecord] = []
        for run in dead:
            # Two commands may reap at once; the second finds the run closed.
            with suppress(ConflictError):
                reaped.append(self.fail(run, DIED))
        return reaped

    def restore_curves(self) -> int:
        """Take journals of closed runs into the database again, after it was rebuilt.

        Returns how many runs got their curves back.
        """
        count = 0
        for run in self._journals.runs():
            points = self._journals.read(run)
            with self._database.write() as connection:
                record = queries.find_run(connection, run)
                if record is None or record.state is RunState.RUNNING or not points:
                    continue
                metric_queries.log_points(connection, run, _points(points))
            count += 1
        return count

    def untold(self) -> list[RunRecord]:
        """Return the runs of which tracking clients see nothing, for rows were lost or are old."""
        with self._database.read() as connection:
            return queries.untold_runs(connection)

    def tell(self, told: Sequence[tuple[RunRecord, RunFacts]]) -> None:
        """Let tracking clients see what runs recorded."""
        if not told:
            return
        with self._database.write() as connection:
            for record, facts in told:
                run_log.tell(connection, record, facts)

    def list(self, model: str = "", *, invocation: str = "", limit: int = 50) -> list[RunRecord]:
        """Return runs that are not deleted, newest first."""
        with self._database.read() as connection:
            return queries.list_runs(connection, model=model, invocation=invocation, limit=limit)

    def _close(
        self,
        run: RunId,
        state: RunState,
        *,
        manifest: Digest | None = None,
        failure: str = "",
        traceback: str = "",
        facts: RunFacts = _NO_FACTS,
    ) -> RunRecord:
        """Change the state and take the journal in, in one transaction."""
        _check_id(run)
        self._journals.close(run)
        with self._database.write() as connection:
            record = _existing(connection, run)
            if record.state is not RunState.RUNNING:
                raise _closed(run, record)
            if manifest is not None and not queries.has_manifest(connection, manifest):
                raise NotFoundError(
                    f"manifest {manifest} is not registered", code="manifest-not-found"
                )
            closed = replace(
                record,
                state=state,
                # A clock that was set back must not make a run end before it started.
                ended_at=max(self._clock(), record.started_at),
                manifest=manifest,
                failure=failure,
                traceback=traceback,
            )
            queries.update_run(connection, closed)
            metric_queries.log_points(connection, run, _points(self._journals.read(run)))
            run_log.tell(connection, closed, facts)
        self._closed.add(run)
        self._journals.forget(run)
        return closed


def _new_id() -> RunId:
    return RunId(f"r-{secrets.token_hex(_ID_SIZE_BYTES)}")


def _check_id(run: RunId) -> None:
    """Refuse what is not a run's id: it becomes a file name."""
    if not _RUN.fullmatch(run):
        raise InvalidInputError(
            f"not a run: {run[:80]!r}", code="bad-run", hint="a run reads like r-7f3c2a90"
        )


def _existing(connection: Connection, run: RunId) -> RunRecord:
    record = queries.find_run(connection, run)
    if record is None:
        raise NotFoundError(f"no run {run}", code="run-not-found", hint="stemma status")
    return record


def _closed(run: RunId, record: RunRecord | None = None) -> ConflictError:
    state = "closed" if record is None else record.state.value
    return ConflictError(
        f"run {run} is {state} already", code="run-closed", hint="start another run"
    )


def _points(points: Sequence[MetricPoint]) -> list[Point]:
    return [Point(p.name, p.value, p.step, to_microseconds(p.logged_at)) for p in points]
