"""Latency as events: a request that took longer than most of stable's requests lately did.

Invariants:
    * Thresholds are fixed from what was seen before the interval they are applied to; until 100
      of stable's requests were timed there are none.
    * The canary's threshold lies above stable's by a quarter, and by a millisecond at least: a
      process that gets a twentieth of the traffic is a little colder, and that is no defect.

This module weighs no evidence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

from stemma.domain.judge_evidence import Counts
from stemma.domain.traffic import Interval, bucket_bound_us, latency_bucket

SHARES: Final = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}
"""The judged quantiles of stable's latency, by metric."""

_FEWEST_TIMED: Final = 100
_TOLERATED_RISE: Final = 1.25
_TOLERATED_US: Final = 1000.0
_LAST_BUCKET: Final = 400
_MEMORY: Final = 0.9


def learnt(
    seen: Sequence[float], latency: Mapping[int, int], *, is_minute_over: bool
) -> tuple[float, ...]:
    """Return the counts per bucket after more was timed; each minute the old ones fade."""
    counts = list(seen)
    for bucket, count in latency.items():
        index = max(0, min(bucket, _LAST_BUCKET))
        counts.extend([0.0] * (index + 1 - len(counts)))
        counts[index] += count
    if is_minute_over:
        counts = [round(count * _MEMORY, 2) if count else 0.0 for count in counts]
    return tuple(counts)


def thresholds(seen: Sequence[float]) -> tuple[float, ...]:
    """Return the bucket of each of ``SHARES``; nothing while too little was timed."""
    passed = list(accumulate(seen))
    if not passed or passed[-1] < _FEWEST_TIMED:
        return ()
    return tuple(float(bisect_left(passed, share * passed[-1])) for share in SHARES.values())


def tolerated_us(bucket: float) -> float:
    """Return how long a canary's request may take where stable's threshold is ``bucket``."""
    bound = bucket_bound_us(int(bucket))
    return max(bound * _TOLERATED_RISE, bound + _TOLERATED_US)


def slow_requests(interval: Interval, bucket: float) -> Counts:
    """Return the requests of both sides above their thresholds."""
    return Counts(
        canary_events=_above(interval.canary.latency, latency_bucket(tolerated_us(bucket))),
        canary_trials=sum(interval.canary.latency.values()),
        stable_events=_above(interval.stable.latency, int(bucket)),
        stable_trials=sum(interval.stable.latency.values()),
    )


def _above(latency: Mapping[int, int], bucket: int) -> int:
    return sum(count for index, count in latency.items() if index > bucket)
