"""Overdispersion: how much more events cluster than coin tosses would.

A pause of one process makes many requests slow at once: they are one event, not fifty.  The
estimate compares stable with itself: its events of each minute with what its running rate and
with what its last minute foretold, whichever is nearer (Pearson's statistic).  So a rate that
changes for good, or an outage that has passed, is not taken for clustering.

Invariants:
    * The estimate is at least 1 and finite.
    * It is learnt from minutes that were over before it is used.
    * It depends on stable only: a canary that fails in bursts does not excuse itself.

This module does not say which metric needs dividing; see ``stemma.domain.judge_track``.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        last_events: Its events of the minute before.
        last_trials: Its trials of that minute.
        usual_events: Its events of earlier minutes, older ones counting less.
        usual_trials: Its trials of earlier minutes, likewise.
        excess: Sum of Pearson's statistic over the minutes.
        minutes: How many minutes that sum has.
    """

    events: float = 0.0
    trials: float = 0.0
    last_events: float = 0.0
    last_trials: float = 0.0
    usual_events: float = 0.0
    usual_trials: float = 0.0
    excess: float = 0.0
    minutes: float = 0.0

    @property
    def numbers(self) -> tuple[float, ...]:
        """Return it as plain numbers; ``dispersion_of`` turns them back."""
        return (
            self.events,
            self.trials,
            self.last_events,
            self.last_trials,
            self.usual_events,
            self.usual_trials,
            self.excess,
            self.minutes,
        )

    def seen(self, events: float, trials: float) -> Dispersion:
        """Return it with more counted into the minute under way."""
        return replace(self, events=self.events + events, trials=self.trials + trials)

    def minute_over(self, most: float) -> Dispersion:
        """Return it after the minute under way; ``most`` bounds what one minute may add."""
        closed = Dispersion(
            last_events=self.events,
            last_trials=self.trials,
            usual_events=self.usual_events * _MEMORY + self.events,
            usual_trials=self.usual_trials * _MEMORY + self.trials,
            excess=self.excess,
            minutes=self.minutes,
        )
        if not self.trials or not self.last_trials:
            return closed
        rate = min(self.usual_events / self.usual_trials, 1.0)
        variance = rate * (1 - rate) * self.trials
        statistic = min(
            self._distance(self.usual_events, self.usual_trials, variance),
            self._distance(self.last_events, self.last_trials, variance),
            most,
        )
        return replace(closed, excess=self.excess + statistic, minutes=self.minutes + 1)

    def _distance(self, events: float, trials: float, variance: float) -> float:
        """Return how far this minute is from what another stretch foretells, in variances."""
        foretold = events / trials * self.trials
        # One more in the variance: where next to nothing is expected, one event is no cluster.
        return (self.events - foretold) ** 2 / (variance * (1 + self.trials / trials) + 1)

    @property
    def estimate(self) -> float:
        """Variance over that of independent events; near 1 while little is known."""
        return max(1.0, (MINUTES_OF_DOUBT + self.excess) / (MINUTES_OF_DOUBT + self.minutes))


def dispersion_of(numbers: Sequence[float]) -> Dispersion:
    """Return the dispersion that ``Dispersion.numbers`` was taken from."""
    events, trials, last_events, last_trials, usual_events, usual_trials, excess, minutes = numbers
    return Dispersion(
        events=events,
        trials=trials,
        last_events=last_events,
        last_trials=last_trials,
        usual_events=usual_events,
        usual_trials=usual_trials,
        excess=excess,
        minutes=minutes,
    )
