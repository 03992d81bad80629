"""What went over the wire between two looks, counted per side.

Invariants:
    * Counts of disjoint stretches add up: ``a + b`` is what one look at both would have seen.
    * A latency falls into the bucket whose upper bound is the first that is not below it;
      neighbouring bounds differ by 5 %, so a quantile read from buckets is at most 5 % too high.

This module reads no log; see ``stemma.delivery.access_log``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

_GROWTH: Final = math.log(1.05)
_FIRST_US: Final = 10.0


class Side(Enum):
    """Which version a request was meant for, whoever answered it in the end."""

    STABLE = "stable"
    CANARY = "canary"


def latency_bucket(duration_us: float) -> int:
    """Return the index of the bucket that a latency in microseconds falls into."""
    if duration_us <= _FIRST_US:
        return 0
    return math.ceil(math.log(duration_us / _FIRST_US) / _GROWTH - 1e-9)


def bucket_bound_us(bucket: int) -> float:
    """Return the upper bound of a bucket in microseconds."""
    return _FIRST_US * math.exp(bucket * _GROWTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class SideCounts:
    """Requests of one side in one stretch of time.

    Attributes:
        requests: How many were meant for this side.
        errors: How many this side failed: it answered 5xx, reset, timed out or was not there,
            also when another side answered in its place.
        rescued: How many of ``errors`` the other side answered, so that the user saw no failure.
        latency: Count by latency bucket of the requests this side answered itself.
    """

    requests: int = 0
    errors: int = 0
    rescued: int = 0
    latency: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: SideCounts) -> SideCounts:
        """Return the counts of both stretches."""
        latency = dict(self.latency)
        for bucket, count in other.latency.items():
            latency[bucket] = latency.get(bucket, 0) + count
        return SideCounts(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            rescued=self.rescued + other.rescued,
            latency=latency,
        )

    def quantile_us(self, share: float) -> float:
        """Return the latency in microseconds that ``share`` of the requests stay within; 0 if none.

        At most 5 % above the true value.
        """
        total = sum(self.latency.values())
        wanted = share * total
        seen = 0
        for bucket in sorted(self.latency):
            seen += self.latency[bucket]
            if seen >= wanted:
                return bucket_bound_us(bucket)
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCounts:
    """A metric of the user's own in one stretch: events among trials, per side.

    Attributes:
        canary_events: Bad events seen with the canary (a returned parcel, a thumbs-down).
        canary_trials: Chances of one.
        stable_events: The same for stable.
        stable_trials: The same for stable.
    """

    canary_events: int = 0
    canary_trials: int = 0
    stable_events: int = 0
    stable_trials: int = 0

    def __add__(self, other: MetricCounts) -> MetricCounts:
        """Return the counts of both stretches."""
        return MetricCounts(
            canary_events=self.canary_events + other.canary_events,
            canary_trials=self.canary_trials + other.canary_trials,
            stable_events=self.stable_events + other.stable_events,
            stable_trials=self.stable_trials + other.stable_trials,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Everything seen between two looks.

    Attributes:
        canary: Requests meant for the canary.
        stable: Requests meant for stable.
        metrics: The user's own metrics by name.
    """

    canary: SideCounts = SideCounts()
    stable: SideCounts = SideCounts()
    metrics: Mapping[str, MetricCounts] = field(default_factory=dict)

    def __add__(self, other: Interval) -> Interval:
        """Return what one look at both stretches would have seen."""
        metrics = dict(self.metrics)
        for name, counts in other.metrics.items():
            metrics[name] = metrics.get(name, MetricCounts()) + counts
        return Interval(
            canary=self.canary + other.canary,
            stable=self.stable + other.stable,
            metrics=metrics,
        )
