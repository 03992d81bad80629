"""What samples say."""

from __future__ import annotations

import pytest

from stemma.delivery.load.result import LoadResult, Sample, quantile_ms


def result(latencies_us: list[int], seconds: float) -> LoadResult:
    rate = len(latencies_us) / seconds
    return LoadResult(
        samples=tuple(
            Sample(scheduled_at=i / rate, latency_us=latency, status=200 if latency else 0)
            for i, latency in enumerate(latencies_us)
        ),
        seconds=seconds,
    )


def test_a_quantile_is_a_latency_that_occurred() -> None:
    """p99 of few requests would be made up between two of them."""
    assert quantile_ms([1000, 2000, 3000, 4000], 0.5) == 2.0
    assert quantile_ms([1000, 2000, 3000, 4000], 0.99) == 4.0
    assert quantile_ms([5000], 0.01) == 5.0
    assert quantile_ms([], 0.5) == 0.0


def test_constant_latency_keeps_up_however_long_it_is() -> None:
    """A slow but steady version would be said to be overloaded."""
    assert result([400_000] * 100, 1.0).keeps_up == pytest.approx(1.0)


def test_growing_latency_does_not_keep_up() -> None:
    """An overloaded version would be said to take the rate."""
    assert result([i * 10_000 for i in range(100)], 1.0).keeps_up < 0.6


def test_a_pause_of_the_machine_is_no_backlog() -> None:
    """A busy machine would have good versions refused: it pauses now and then, and goes on."""
    pause = [100_000 - i * 5_000 for i in range(15)]
    assert result([1_000] * 83 + pause + [1_000] * 2, 1.0).keeps_up > 0.98


def test_unanswered_requests_are_not_achieved() -> None:
    """A version that drops requests would be said to take the rate."""
    assert result([1000, 0] * 50, 1.0).keeps_up == pytest.approx(0.5)
    assert result([0] * 10, 1.0).achieved_per_second == 0.0


def test_nothing_sent_is_all_failed() -> None:
    """No evidence would look like no errors."""
    nothing = LoadResult(samples=(), seconds=1.0)
    assert nothing.error_share == 1.0
    assert (nothing.keeps_up, nothing.mean_ms(), nothing.quantile_ms(0.5)) == (0.0, 0.0, 0.0)


def test_a_summary_names_rates_latencies_and_errors() -> None:
    """A line in a log would not say what failed."""
    found = LoadResult(
        samples=(
            Sample(scheduled_at=0.0, latency_us=1000, status=200, version="1.0.0"),
            Sample(scheduled_at=0.5, latency_us=0, status=0, error="timeout"),
        ),
        seconds=1.0,
    )
    assert found.summary() == (
        "1 of 2 req/s: p50 1 ms, p95 1 ms, p99 1 ms, 1 of 2 failed (1 timeout)"
    )
    assert (found.statuses, found.versions) == ({0: 1, 200: 1}, {"1.0.0": 1})
