"""Rollbacks and drills in rows.

Invariants:
    * A rollback ends the rollout under way, appends the deployment and moves ``stable`` in
      one transaction: nobody sees the one without the others.
    * Reports are append-only.

It times and verifies nothing; see ``stemma.delivery.recovery.rollback``.
"""

from __future__ import annotations

from stemma.db.engine import Connection
from stemma.delivery.records import queries
from stemma.delivery.records.deployment_verbs import ROLLBACK, rollout_running
from stemma.delivery.records.metric_verbs import MetricVerbs
from stemma.delivery.records.rollout_verbs import Make, Seen
from stemma.delivery.values import Deployment, RollbackReport
from stemma.domain.rollout import Deployed, RolloutId


class RollbackVerbs(MetricVerbs):
    """Verbs on rollbacks and drills."""

    def roll_back_to(
        self,
        model: str,
        deployed: Deployed,
        *,
        by: str,
        reason: str,
        abort: RolloutId | None,
        make: Make,
    ) -> Deployment:
        """Let production be ``deployed`` again, and ``stable`` point there.

        Args:
            model: Name of the model.
            deployed: What was proven before.
            by: User name.
            reason: Why.
            abort: Rollout to end; one that has ended meanwhile is left as it is.
            make: Aborts it; pure.

        Raises:
            NotFoundError: If there is no such release or configuration.
            ConflictError: If another rollout than ``abort`` is under way (``rollout-running``).
        """
        with self._database.write() as connection:
            self._check_deployed(connection, model, deployed)
            self._abort_in(connection, model, abort, make, by=by)
            return self._deploy_in(
                connection, model, deployed, why=(ROLLBACK, by, reason), moves_stable=True
            )

    def record_rollback(self, report: RollbackReport) -> None:
        """Keep the report of a rollback or drill."""
        with self._database.write() as connection:
            queries.append_rollback(connection, report)

    def rollbacks(self, model: str) -> list[RollbackReport]:
        """Return the model's rollbacks and drills, newest first."""
        with self._database.read() as connection:
            return queries.rollback_rows(connection, model)

    def last_drill(self, model: str) -> RollbackReport | None:
        """Return the model's newest drill."""
        with self._database.read() as connection:
            return queries.last_drill(connection, model)

    def _abort_in(
        self, connection: Connection, model: str, abort: RolloutId | None, make: Make, *, by: str
    ) -> None:
        newest = queries.newest_rollouts(connection, model)
        if not newest or newest[0].rollout.state.is_final:
            return
        if newest[0].rollout.id != abort:
            raise rollout_running(newest[0].rollout)
        seen = Seen(stored=newest[0])
        step = make(newest[0].rollout)
        if not seen.is_left_by(step):
            self._store_step(connection, seen, step, by=by)
