"""Validation of a rollout's version beside the controller's rounds, and the promotion guard.

Invariants:
    * A validation that was cut off by the server's death is run again by the next server.
    * What goes wrong in a validation is a no with its reason, never a rollout without one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import final

from typing_extensions import override

from stemma.delivery.production.controller import PromotionGuard, Validations
from stemma.delivery.production.desired import ModelDesire
from stemma.delivery.records.service import DeliveryService
from stemma.delivery.values import StagingReport
from stemma.domain.errors import StemmaError
from stemma.domain.rollout import Rollout, RolloutId


@final
class BackgroundValidations(Validations):
    """Validates one rollout at a time in a thread of its own."""

    def __init__(self, stage: Callable[[Rollout], StagingReport]) -> None:
        """Validate with ``stage``."""
        self._stage = stage
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="staging")
        self._running: dict[RolloutId, Future[StagingReport]] = {}

    @override
    def result(self, rollout: Rollout) -> tuple[bool, str] | None:
        found = self._running.get(rollout.id)
        if found is None:
            self._running[rollout.id] = self._pool.submit(self._stage, rollout)
            return None
        if not found.done():
            return None
        try:
            report = found.result()
        except StemmaError as error:
            return False, error.message
        failed = [result for result in report.results if not result.has_passed]
        reason = "; ".join(f"{item.gate}: {item.actual}, needs {item.needed}" for item in failed)
        return not failed, reason

    def close(self) -> None:
        """Start no other, and wait for the one under way, which was told to end."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@final
class DrillGuard(PromotionGuard):
    """Forbids a promotion while the last drill failed, or is older than its schedule."""

    def __init__(self, service: DeliveryService, clock: Callable[[], datetime]) -> None:
        """Ask the records of drills."""
        self._service = service
        self._clock = clock

    @override
    def __call__(self, desire: ModelDesire) -> str:
        model = desire.model
        last = self._service.last_drill(model)
        if last is not None and not last.has_passed:
            why = last.failure or "a part took too long"
            return f"the last rollback drill failed ({why}): stemma rollback {model} --drill"
        every = desire.stable_spec.configuration.drill_every_seconds
        if not every:
            return ""
        if last is None:
            return f"no rollback was ever drilled: stemma rollback {model} --drill"
        age_seconds = (self._clock() - last.at).total_seconds()
        if age_seconds > every:
            hours = age_seconds / 3600
            return f"the last drill is {hours:.0f} h old: stemma rollback {model} --drill"
        return ""
