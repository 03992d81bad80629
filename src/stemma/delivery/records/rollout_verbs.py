"""Rollouts in rows: one transaction a step, with everything the step changed.

Invariants:
    * A step sees the newest state.  What it decided, the lines of the log, the position in
      the access log, the counts and the e-values inside the rollout, the posted metrics it
      counted and, when it went live, deployment and channel ``stable`` are committed
      together, so that a process killed at any instant leaves all of it or nothing.
    * A model has one rollout under way at most; one that has ended never changes again.
    * Each posted metric is handed to exactly one step that was committed.
    * A look that changes nothing writes nothing, and holds no lock.

It decides nothing: what follows from what was seen is for the caller's pure function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from stemma.db.engine import Connection
from stemma.delivery.records import queries
from stemma.delivery.records.deployment_verbs import (
    PROMOTE,
    DeploymentVerbs,
    current_deployment,
    refuse_running,
    running,
)
from stemma.delivery.records.queries import MetricRow, RolloutRow
from stemma.delivery.values import RolloutEvent
from stemma.domain.errors import ConflictError, NotFoundError
from stemma.domain.release import STABLE, refuse_prerelease_on_stable
from stemma.domain.rollout import Decision, Rollout, RolloutId, RolloutState, Step
from stemma.domain.traffic import MetricCounts

Make = Callable[[Rollout], Step]
"""Takes the newest state of a rollout, returns what follows; pure, may be called twice."""

Look = Callable[[Rollout, Mapping[str, MetricCounts]], Step]
"""As ``Make``, and takes what users posted since the last look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a step is made of."""

    stored: RolloutRow
    metrics: tuple[MetricRow, ...] = ()

    def totals(self) -> dict[str, MetricCounts]:
        """Return what was posted, by metric."""
        found: dict[str, MetricCounts] = {}
        for row in self.metrics:
            found[row.metric] = found.get(row.metric, MetricCounts()) + row.counts
        return found

    def is_left_by(self, step: Step) -> bool:
        """Return whether a step changes nothing."""
        return step.rollout == self.stored.rollout and not step.decisions


class RolloutVerbs(DeploymentVerbs):
    """Verbs on rollouts."""

    def begin_rollout(self, rollout: Rollout, decisions: Sequence[Decision]) -> Rollout:
        """Store a new rollout with the first lines of its log.

        Raises:
            ConflictError: If one of the model is under way (``rollout-running``), production is
                no longer what the rollout started from (``deployment-changed``), or the canary
                is a pre-release, which could never become stable (``prerelease-on-stable``).
            NotFoundError: If there is no such release or configuration.
        """
        refuse_prerelease_on_stable(rollout.model, STABLE, rollout.canary.version)
        with self._database.write() as connection:
            refuse_running(connection, rollout.model)
            current = current_deployment(connection, rollout.model)
            if current is None or current.deployed != rollout.stable:
                serves = "nothing" if current is None else current.deployed.version
                raise ConflictError(
                    f"{rollout.model} serves {serves} now, and was to be rolled out from"
                    f" {rollout.stable.version}",
                    code="deployment-changed",
                    hint=f"stemma status {rollout.model}",
                )
            self._check_deployed(connection, rollout.model, rollout.canary)
            newest = queries.newest_rollouts(connection, rollout.model)
            events = self._events(decisions, after=0, by=rollout.started_by, since=None)
            stored = RolloutRow(
                rollout=rollout,
                sequence=newest[0].sequence + 1 if newest else 1,
                event_count=len(events),
            )
            queries.insert_rollout(connection, stored)
            queries.insert_events(connection, rollout.id, events)
        return rollout

    def step_rollout(self, rollout: RolloutId, make: Make, *, by: str = "") -> Step:
        """Change a rollout by a pure function of its newest state, in one transaction.

        Nothing is written when ``make`` returns the rollout unchanged without decisions.

        Args:
            rollout: Which one.
            make: Returns what follows; may be called twice, when another process was faster.
            by: User who asked for it; empty for the controller.

        Raises:
            NotFoundError: If there is no such rollout.
            ConflictError: If it has ended and ``make`` would change it (``rollout-ended``).
        """
        return self._step(rollout, lambda newest, _: make(newest), by=by, takes_metrics=False)

    def look_at_rollout(self, rollout: RolloutId, look: Look) -> Step:
        """As ``step_rollout``, and take what users posted: it counts if the step is written.

        Raises:
            NotFoundError: If there is no such rollout.
            ConflictError: If it has ended and ``look`` would change it (``rollout-ended``).
        """
        return self._step(rollout, look, by="", takes_metrics=True)

    def active_rollout(self, model: str) -> Rollout | None:
        """Return the model's rollout under way."""
        newest = self.newest_rollout(model)
        return None if newest is None or newest.state.is_final else newest

    def active_rollouts(self) -> list[Rollout]:
        """Return every rollout under way, by model."""
        with self._database.read() as connection:
            return running(connection)

    def newest_rollout(self, model: str) -> Rollout | None:
        """Return the model's rollout under way, else the one that ended last."""
        with self._database.read() as connection:
            newest = queries.newest_rollouts(connection, model)
        return newest[0].rollout if newest else None

    def rollout(self, rollout: RolloutId) -> Rollout:
        """Return a rollout.

        Raises:
            NotFoundError: If there is no such rollout.
        """
        with self._database.read() as connection:
            return _find(connection, rollout).rollout

    def rollouts(self, model: str) -> list[Rollout]:
        """Return every rollout of the model, newest first."""
        with self._database.read() as connection:
            return [stored.rollout for stored in queries.rollout_rows(connection, model)]

    def events(self, rollout: RolloutId, after: int = 0) -> list[RolloutEvent]:
        """Return the lines of a rollout's log after line ``after``, oldest first.

        Raises:
            NotFoundError: If there is no such rollout.
        """
        with self._database.read() as connection:
            return queries.event_rows(connection, _find(connection, rollout), after)

    def _step(self, rollout: RolloutId, look: Look, *, by: str, takes_metrics: bool) -> Step:
        with self._database.read() as connection:
            seen = _see(connection, rollout, takes_metrics=takes_metrics)
        step = look(seen.stored.rollout, seen.totals())
        if seen.is_left_by(step):
            return step
        with self._database.write() as connection:
            newest = _see(connection, rollout, takes_metrics=takes_metrics)
            if newest != seen:
                step = look(newest.stored.rollout, newest.totals())
            if not newest.is_left_by(step):
                self._store_step(connection, newest, step, by=by)
        return step

    def _store_step(self, connection: Connection, seen: Seen, step: Step, *, by: str) -> None:
        """Write everything that a step changed, inside the caller's transaction."""
        before, after = seen.stored.rollout, step.rollout
        if before.state.is_final:
            raise ConflictError(
                f"rollout {before.id} of {before.model} has ended: {before.state.value}",
                code="rollout-ended",
                hint=f"stemma rollout status {before.model}",
            )
        count = seen.stored.event_count
        last = queries.event_rows(connection, seen.stored, count - 1) if count else []
        events = self._events(
            step.decisions, after=count, by=by, since=last[0].at if last else None
        )
        if after.state is RolloutState.LIVE:
            self._deploy_in(
                connection,
                after.model,
                after.canary,
                why=(PROMOTE, by or after.started_by, f"rollout {after.id}"),
                moves_stable=True,
            )
        queries.update_rollout(
            connection,
            RolloutRow(
                rollout=after, sequence=seen.stored.sequence, event_count=count + len(events)
            ),
        )
        queries.insert_events(connection, after.id, events)
        queries.mark_counted(connection, seen.metrics)

    def _events(
        self, decisions: Sequence[Decision], *, after: int, by: str, since: datetime | None
    ) -> list[RolloutEvent]:
        now = self._clock()
        # A clock that was set back must not put a line before the one it follows.
        at = now if since is None else max(now, since)
        return [
            RolloutEvent(sequence=sequence, at=at, decision=decision, by=by)
            for sequence, decision in enumerate(decisions, after + 1)
        ]


def _see(connection: Connection, rollout: RolloutId, *, takes_metrics: bool) -> Seen:
    stored = _find(connection, rollout)
    metrics = queries.uncounted_metrics(connection, rollout) if takes_metrics else []
    return Seen(stored=stored, metrics=tuple(metrics))


def _find(connection: Connection, rollout: RolloutId) -> RolloutRow:
    stored = queries.find_rollout(connection, rollout)
    if stored is None:
        raise NotFoundError(f"no rollout {rollout}", code="rollout-not-found", hint="stemma status")
    return stored
