"""Overdispersion: how much more events cluster than coin tosses would.

A pause of one process makes many requests slow at once: they are one event, not fifty.  The
estimate compares stable with itself: its events of each minute with its own running rate
(Pearson's statistic), learnt from minutes that are over before it is used.

Invariants:
    * The estimate is at least 1 and finite.
    * It depends on stable only: a canary that fails in bursts does not excuse itself.

This module does not say which metric needs dividing; see ``stemma.domain.judge_track``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

MINUTES_OF_DOUBT: Final = 5.0
_MEMORY: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispersion:
    """What is known of how stable's events cluster.

    Attributes:
        events: Stable's events in the minute under way.
        trials: Its trials in that minute.
        usual_events: Its events of earlier minutes, older ones counting less.
        usual_trials: Its trials of earlier minutes, likewise.
        excess: Sum of Pearson's statistic over the minutes.
        minutes: How many minutes that sum has.
    """

    events: float = 0.0
    trials: float = 0.0
    usual_events: float = 0.0
    usual_trials: float = 0.0
    excess: float = 0.0
    minutes: float = 0.0

    def seen(self, events: float, trials: float) -> Dispersion:
        """Return it with more counted into the minute under way."""
        return replace(self, events=self.events + events, trials=self.trials + trials)

    def minute_over(self, most: float) -> Dispersion:
        """Return it after the minute under way; ``most`` bounds what one minute may add."""
        closed = Dispersion(
            usual_events=self.usual_events * _MEMORY + self.events,
            usual_trials=self.usual_trials * _MEMORY + self.trials,
            excess=self.excess,
            minutes=self.minutes,
        )
        if not self.trials or not self.usual_trials:
            return closed
        rate = min(self.usual_events / self.usual_trials, 1.0)
        expected = rate * self.trials
        # One more in the variance: where next to nothing is expected, one event is no cluster.
        variance = expected * (1 - rate) * (1 + self.trials / self.usual_trials) + 1
        statistic = min((self.events - expected) ** 2 / variance, most)
        return replace(closed, excess=self.excess + statistic, minutes=self.minutes + 1)

    @property
    def estimate(self) -> float:
        """Variance over that of independent events; near 1 while little is known."""
        return max(1.0, (MINUTES_OF_DOUBT + self.excess) / (MINUTES_OF_DOUBT + self.minutes))
