"""Counts of traffic: disjoint stretches add up, and quantiles are close."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.domain.traffic import (
    Interval,
    MetricCounts,
    SideCounts,
    bucket_bound_us,
    latency_bucket,
)


@given(st.floats(0, 1e10))
def test_a_latency_lies_in_its_bucket(duration_us: float) -> None:
    """Quantiles would be wrong by more than a twentieth."""
    bucket = latency_bucket(duration_us)
    assert duration_us <= bucket_bound_us(bucket) * (1 + 1e-6)
    assert bucket == 0 or duration_us >= bucket_bound_us(bucket - 1) * (1 - 1e-6)


def test_stretches_add_up() -> None:
    """Two looks would count other requests than one."""
    first = SideCounts(requests=3, errors=1, rescued=1, latency={4: 2})
    second = SideCounts(requests=2, latency={4: 1, 9: 1})
    metric = MetricCounts(canary_events=1, canary_trials=2, stable_events=3, stable_trials=4)
    total = Interval(canary=first, metrics={"returns": metric}) + Interval(
        canary=second, stable=first, metrics={"returns": metric}
    )
    assert total.canary == SideCounts(requests=5, errors=1, rescued=1, latency={4: 3, 9: 1})
    assert total.stable == first
    assert total.metrics["returns"] == MetricCounts(
        canary_events=2, canary_trials=4, stable_events=6, stable_trials=8
    )


@pytest.mark.parametrize(("share", "bucket"), [(0.5, 10), (0.9, 10), (0.95, 50), (1.0, 50)])
def test_a_quantile_is_the_bound_of_its_bucket(share: float, bucket: int) -> None:
    """The slow tail would be shown as the middle."""
    side = SideCounts(requests=100, latency={50: 10, 10: 90})
    assert side.quantile_us(share) == bucket_bound_us(bucket)


def test_nothing_timed_has_no_quantile() -> None:
    """A canary without answers would be shown as infinitely slow, or crash the table."""
    assert SideCounts().quantile_us(0.99) == 0.0
