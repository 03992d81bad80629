"""What came of a load: samples, and what they say.

Invariants:
    * A latency counts from the *scheduled* send, so a server that stalls pays for every request
      that should have been sent meanwhile (no coordinated omission).
    * A request without an answer has no latency and is an error.

This module sends nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

_FIFTH = 5
_QUICK_SHARE = 0.1


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One request.

    Attributes:
        scheduled_at: When it was to be sent, in seconds from the start.
        latency_us: Microseconds from ``scheduled_at`` to the last byte of the answer.
        status: HTTP status; 0 when there was no answer.
        version: What the header ``x-stemma-version`` said; empty when nothing.
        error: Kind of failure (``timeout``, ``connection refused``, ``HTTP 500``); empty: none.
    """

    scheduled_at: float
    latency_us: int
    status: int
    version: str = ""
    error: str = ""


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """Every sample of one load, in order of the schedule.

    Attributes:
        samples: One per request.
        seconds: Length of the schedule.
        sender_late_ms: 99 % of the sends were at most this late: how far to trust the figures.
    """

    samples: tuple[Sample, ...]
    seconds: float
    sender_late_ms: float = 0.0

    @property
    def sent(self) -> int:
        """How many requests were sent."""
        return len(self.samples)

    @property
    def failed(self) -> int:
        """How many failed."""
        return sum(1 for sample in self.samples if sample.error)

    @property
    def error_share(self) -> float:
        """Failed among sent; 1 when nothing was sent."""
        return self.failed / self.sent if self.samples else 1.0

    @property
    def offered_per_second(self) -> float:
        """Requests per second that were scheduled."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def achieved_per_second(self) -> float:
        """Requests per second that were answered.

        A server that cannot keep up answers ever later: it needed as much more time than the
        schedule as its delay grew from the first fifth of the requests to the last.  Of each
        fifth the quick ones count: behind a backlog nobody is quick, after a pause they are.
        """
        answered = [sample.latency_us for sample in self.samples if sample.status]
        if not answered:
            return 0.0
        fifth = max(1, len(answered) // _FIFTH)
        growth_us = max(0.0, _quick(answered[-fifth:]) - _quick(answered[:fifth]))
        # From the beginning of the first fifth to that of the last it is four fifths.
        return len(answered) / (self.seconds + growth_us / 1e6 * _FIFTH / (_FIFTH - 1))

    @property
    def keeps_up(self) -> float:
        """Achieved among offered, 1 being all of it."""
        offered = self.offered_per_second
        return self.achieved_per_second / offered if offered else 0.0

    @property
    def errors(self) -> Mapping[str, int]:
        """How many failed, by kind, most frequent first."""
        return dict(Counter(s.error for s in self.samples if s.error).most_common())

    @property
    def statuses(self) -> Mapping[int, int]:
        """How many got each HTTP status; 0 stands for no answer."""
        return dict(sorted(Counter(sample.status for sample in self.samples).items()))

    @property
    def versions(self) -> Mapping[str, int]:
        """How many each version answered."""
        return dict(sorted(Counter(s.version for s in self.samples if s.version).items()))

    def quantile_ms(self, share: float) -> float:
        """Return the latency in milliseconds that ``share`` of the answers stay within; 0 if none.

        Failed answers count too: a fast error is no fast answer, but a slow one is slow.
        """
        return quantile_ms([sample.latency_us for sample in self.samples if sample.status], share)

    def mean_ms(self) -> float:
        """Return the mean latency in milliseconds; 0 without an answer."""
        answered = [sample.latency_us for sample in self.samples if sample.status]
        return sum(answered) / len(answered) / 1e3 if answered else 0.0

    def summary(self) -> str:
        """Say it in one line."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.errors.items())
        return (
            f"{self.achieved_per_second:.4g} of {self.offered_per_second:.4g} req/s: "
            f"p50 {self.quantile_ms(0.5):.3g} ms, p95 {self.quantile_ms(0.95):.3g} ms, "
            f"p99 {self.quantile_ms(0.99):.3g} ms, "
            f"{self.failed:,} of {self.sent:,} failed{f' ({kinds})' if kinds else ''}"
        )


def _quick(latencies_us: Sequence[int]) -> float:
    return quantile_ms(latencies_us, _QUICK_SHARE) * 1e3


def quantile_ms(latencies_us: Sequence[float], share: float) -> float:
    """Return the smallest latency that at least ``share`` of them do not exceed; 0 if none."""
    if not latencies_us:
        return 0.0
    ordered = sorted(latencies_us)
    rank = math.ceil(share * len(ordered) - 1e-9)
    return ordered[min(max(rank, 1), len(ordered)) - 1] / 1e3
