"""``DeliveryService``: deployments, configurations, rollouts, rollbacks, as records and rows.

Invariants:
    * What production is to be stands here and nowhere else; whoever routes reads it from here.
    * Configurations and deployments are records in the store first, then rows; a record
      without row was never acknowledged.  Rollouts, their logs and reports are rows only.
    * Every verb is one transaction: killed at any instant, it happened whole or not at all.

It starts no process, moves no traffic, reads no log and decides nothing.

Example:
    >>> service = DeliveryService(database, objects, catalog, clock=now)  # doctest: +SKIP
    >>> service.step_rollout(rollout.id, lambda newest: ...)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import final

from stemma.delivery.records.rollback_verbs import RollbackVerbs

__all__ = ["DeliveryService"]


@final
class DeliveryService(RollbackVerbs):
    """The records of delivery.

    Its verbs stand by subject in ``configuration_verbs``, ``deployment_verbs``,
    ``rollout_verbs``, ``metric_verbs`` and ``rollback_verbs``.
    """
