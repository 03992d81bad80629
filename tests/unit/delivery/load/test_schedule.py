"""When requests are sent."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean

import pytest

from stemma.delivery.load.schedule import constant, poisson, rate_of, replay
from stemma.domain.errors import InvalidInputError


def test_constant_requests_are_evenly_spaced() -> None:
    """A rate would mean another one."""
    assert constant(4, 1) == (0.0, 0.25, 0.5, 0.75)


def test_poisson_arrivals_keep_the_rate_and_repeat_with_the_seed() -> None:
    """Two trials could not be compared, or would be of another rate than asked."""
    offsets = poisson(100, 50, seed=3)
    assert offsets == poisson(100, 50, seed=3)
    assert len(offsets) == 5000
    assert 0 <= offsets[0] <= offsets[-1] < 50
    gaps = [later - earlier for earlier, later in pairwise(offsets)]
    assert min(gaps) >= 0
    # Exponential gaps: a share of 1 - 1/e is below the mean.
    average = fmean(gaps)
    below = sum(gap < average for gap in gaps) / len(gaps)
    assert below == pytest.approx(0.632, abs=0.02)


def test_a_replay_keeps_bursts_and_takes_the_rate_asked_for() -> None:
    """A version that fails in production's bursts would pass in an even load."""
    bursts = [second * 1000 + step for second in range(10) for step in range(20)]
    offsets = replay(bursts, 200, 5, seed=1)
    assert offsets[0] == 0
    assert offsets[-1] < 5
    assert len(offsets) == pytest.approx(1000, rel=0.1)
    gaps = sorted(later - earlier for earlier, later in pairwise(offsets))
    assert gaps[-1] > 50 * gaps[len(gaps) // 2]


def test_a_replay_repeats_a_log_that_is_too_short() -> None:
    """A young service would be tried with two requests."""
    assert len(replay([0, 10, 20], 10, 10, seed=1)) == pytest.approx(100, abs=10)


def test_the_rate_of_a_log_is_its_mean_rate() -> None:
    """Staging would offer another rate than production has."""
    assert rate_of([0, 100, 200, 1000]) == pytest.approx(3.0)
    assert rate_of([5]) == 0.0


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (1, 0), (-1, 1), (1e9, 1e3)])
def test_a_load_of_nothing_or_of_far_too_much_is_refused(rate: float, seconds: float) -> None:
    """A typing error would pass a version, or fill the memory."""
    with pytest.raises(InvalidInputError):
        constant(rate, seconds)


def test_a_pattern_needs_two_arrivals() -> None:
    """A pattern would be made up from nothing."""
    with pytest.raises(InvalidInputError, match="two arrivals"):
        replay([3], 10, 10, seed=1)
