"""Drills that come due by themselves, as ``drill_every`` of a model's configuration asks.

Invariants:
    * One drill at a time, in a thread; serving never waits for it.
    * None is started while a rollout of the model is under way: both would measure each other.
    * A drill that could not even begin is tried again later, not at every round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final, final

from stemma.delivery.production.desired import ModelDesire
from stemma.delivery.values import RollbackReport
from stemma.domain.errors import StemmaError

TRY_AGAIN: Final = timedelta(hours=1)
"""How long after a drill that failed the next one begins."""


def is_due(last: RollbackReport | None, every_seconds: int, now: datetime) -> bool:
    """Return whether a model is to be drilled now.  Pure.

    Args:
        last: Its newest drill.
        every_seconds: Its schedule; 0: none.
        now: Aware current time.
    """
    if not every_seconds:
        return False
    if last is None:
        return True
    age = now - last.at
    every = timedelta(seconds=every_seconds)
    return age >= every or (not last.has_passed and age >= min(TRY_AGAIN, every))


@final
class DrillSchedule:
    """Starts what is due."""

    def __init__(
        self,
        last_drill: Callable[[str], RollbackReport | None],
        drill: Callable[[str], RollbackReport],
        clock: Callable[[], datetime],
    ) -> None:
        """Ask ``last_drill`` of a model, and run ``drill`` of one that is due."""
        self._last_drill = last_drill
        self._drill = drill
        self._clock = clock
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drill")
        self._running: Future[RollbackReport] | None = None
        self._refused_at: dict[str, datetime] = {}
        self._model = ""

    def keep(self, desires: Sequence[ModelDesire]) -> str:
        """Start what is due; returns why the last one could not begin, or nothing."""
        problem = self._collect()
        if self._running is None:
            for desire in desires:
                if desire.rollout is None and self._is_due(desire):
                    self._model = desire.model
                    self._running = self._pool.submit(self._drill, desire.model)
                    break
        return problem

    def close(self) -> None:
        """Start no more, and wait for the one under way, so that nothing of it is left."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _is_due(self, desire: ModelDesire) -> bool:
        now = self._clock()
        refused_at = self._refused_at.get(desire.model)
        if refused_at is not None and now - refused_at < TRY_AGAIN:
            return False
        every = desire.stable_spec.configuration.drill_every_seconds
        return is_due(self._last_drill(desire.model), every, now)

    def _collect(self) -> str:
        if self._running is None or not self._running.done():
            return ""
        done, self._running = self._running, None
        try:
            done.result()
        except StemmaError as error:
            self._refused_at[self._model] = self._clock()
            return f"{self._model} could not be drilled: {error.message}"
        return ""
