"""The e-process: its laws, on which every claim about false alarms rests."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.domain.judge_dispersion import Dispersion, dispersion_of
from stemma.domain.judge_evidence import (
    BEGINNING,
    Counts,
    Scale,
    counts_of,
    evidence,
    grow,
    lay_out,
    log_evidence,
    surprise,
)

SCALE = Scale()


def counted(canary_events: int, canary: int, stable_events: int, stable: int) -> Counts:
    return counts_of((canary_events, canary, stable_events, stable))


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize(("canary", "stable"), [(1, 1), (3, 7), (5, 40), (9, 2)])
@pytest.mark.parametrize("events", [1, 4, 9])
def test_the_expected_evidence_of_a_version_no_worse_is_at_most_one(
    canary: int, stable: int, events: int, margin: float
) -> None:
    """False alarms would be more frequent than promised."""
    trials = canary + stable
    events = min(events, trials)
    mean = 0.0
    for seen in range(max(0, events - stable), min(events, canary) + 1):
        chance = (
            math.comb(canary, seen) * math.comb(stable, events - seen) / math.comb(trials, events)
        )
        counts = counted(seen, canary, events - seen, stable)
        mean += chance * evidence(grow(BEGINNING, counts, Scale(margin=margin)))
    assert mean <= 1 + 1e-12


def test_laying_out_the_reserve_neither_makes_nor_loses_evidence() -> None:
    """Evidence would grow by waiting."""
    stakes = grow(BEGINNING, counted(5, 10, 1, 90), SCALE)
    assert log_evidence(lay_out(stakes)) == pytest.approx(log_evidence(stakes), abs=1e-12)


def test_the_beginning_is_no_evidence() -> None:
    """A rollout would start with suspicion or credit."""
    assert evidence(BEGINNING) == pytest.approx(1)


@pytest.mark.parametrize(
    "counts",
    [counted(0, 0, 0, 0), counted(9, 9, 0, 0), counted(0, 0, 9, 9), counted(0, 5, 0, 95)],
)
def test_one_side_alone_or_no_event_changes_nothing(counts: Counts) -> None:
    """A canary would be condemned by comparison with nothing."""
    assert grow(BEGINNING, counts, SCALE) == BEGINNING
    assert surprise(counts, margin=0.0) == 0


def test_more_evidence_than_a_float_holds_stays_finite() -> None:
    """The figure would be stored as null and not be read again."""
    stakes = grow(BEGINNING, counted(10**7, 10**7, 0, 10**7), SCALE)
    assert math.isfinite(evidence(stakes))


def test_dispersion_divides_and_the_cap_bounds_what_is_gained() -> None:
    """A pause would be worth as much as a thousand independent failures."""
    counts = counted(50, 50, 0, 950)
    free = log_evidence(grow(BEGINNING, counts, SCALE))
    divided = log_evidence(grow(BEGINNING, counts, Scale(dispersion=10.0)))
    capped = log_evidence(grow(BEGINNING, counts, Scale(most_nats=1.5)))
    assert 0 < divided < free / 5
    assert capped <= 1.5


def test_surprise_is_zero_unless_the_canary_is_worse() -> None:
    """A canary that fails less would be called a catastrophe."""
    assert surprise(counted(1, 100, 5, 100), margin=0.0) == 0
    assert surprise(counted(10, 100, 5, 100), margin=0.0) > 0
    assert surprise(counted(10, 100, 5, 100), margin=1.0) == pytest.approx(0)
    assert surprise(counted(6, 6, 0, 114), margin=0.0) == pytest.approx(6 * math.log(20))


def test_rates_without_trials_are_zero() -> None:
    """A division by zero would stop the controller."""
    nothing = Counts()
    assert (nothing.canary_rate, nothing.stable_rate, nothing.canary_share) == (0, 0, 0)
    assert counted(1, 4, 1, 8).canary_rate == 0.25
    assert counted(1, 4, 1, 8).stable_rate == 0.125


def test_steady_events_have_no_dispersion_and_bursts_have() -> None:
    """Every pause of a process would count like so many independent failures."""
    steady, bursts = Dispersion(), Dispersion()
    for minute in range(60):
        steady = steady.seen(60, 6000).minute_over(1e9)
        bursts = bursts.seen(600 if minute % 10 == 9 else 0, 6000).minute_over(1e9)
    assert steady.estimate == 1
    assert bursts.estimate > 100


def test_what_one_minute_adds_to_the_dispersion_can_be_bounded() -> None:
    """One outage would blunt the judge for the rest of the rollout."""
    outage = Dispersion()
    for minute in range(60):
        outage = outage.seen(5000 if minute == 30 else 30, 6000).minute_over(10.0)
    assert outage.estimate == 1


def test_a_rate_that_changes_for_good_is_no_dispersion() -> None:
    """Stable getting slower for all would excuse a canary that is slower still."""
    changed = Dispersion()
    for minute in range(60):
        changed = changed.seen(600 if minute > 30 else 60, 6000).minute_over(10.0)
    assert changed.estimate == 1


def test_a_minute_without_trials_teaches_nothing() -> None:
    """A quiet night would be taken for regularity."""
    quiet = Dispersion().seen(3, 100).minute_over(1e9).minute_over(1e9).seen(0, 0).minute_over(1e9)
    assert quiet.minutes == 0
    assert quiet.estimate == 1


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
def test_numbers_give_the_dispersion_back(numbers: list[float]) -> None:
    """What was learnt would be lost with each look."""
    assert dispersion_of(numbers).numbers == tuple(numbers)
