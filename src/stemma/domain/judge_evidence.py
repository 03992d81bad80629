"""The e-process: how much the events of both sides say that the canary's rate is higher.

Given ``E`` events of both sides, the canary's share of them is binomial with

    θ₀ = w(1+δ) / (w(1+δ) + 1 − w)

when its rate is at most 1+δ times stable's and ``w`` is its share of the trials.  The evidence
is a mixture of likelihood ratios over 24 rate ratios, so that both a rate that doubles and one
that explodes are found.

Invariants:
    * The expected evidence of a version that is no worse never exceeds 1, at whatever moment one
      looks (Ville): evidence of 400 turns up in at most 1 of 400 such rollouts.
    * Trials are assigned at random, so given the counts of an interval the events are spread
      hypergeometrically; the binomial is wider, and the bound holds in intervals of any size.
    * Half of the initial stake lies in a reserve that is laid out bit by bit, so that a version
      that was well for twenty hours and then breaks is found about as soon as a fresh one.
    * No input leads to NaN or infinity; an interval with one side only changes nothing.

This module knows neither metrics nor time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_RATIOS: Final = tuple(1.05 * (60 / 1.05) ** (index / 23) for index in range(24))
_RESERVE: Final = math.log(0.5)
_STAKE: Final = math.log(0.5 / len(_RATIOS))
_LAID_OUT_EACH_TIME: Final = 1 / 1000
_MOST_LOG: Final = 700.0

Stakes = tuple[float, ...]
"""Logarithms: the reserve first, then the stake on each rate ratio."""

BEGINNING: Final[Stakes] = (_RESERVE, *(_STAKE for _ in _RATIOS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Events among trials of both sides.

    Attributes:
        canary_events: Bad events of the canary.
        canary_trials: Chances of one.
        stable_events: Bad events of stable.
        stable_trials: Chances of one.
    """

    canary_events: float = 0.0
    canary_trials: float = 0.0
    stable_events: float = 0.0
    stable_trials: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both."""
        return Counts(
            canary_events=self.canary_events + other.canary_events,
            canary_trials=self.canary_trials + other.canary_trials,
            stable_events=self.stable_events + other.stable_events,
            stable_trials=self.stable_trials + other.stable_trials,
        )

    def __mul__(self, factor: float) -> Counts:
        """Return the counts shrunk or grown by a factor."""
        return Counts(
            canary_events=self.canary_events * factor,
            canary_trials=self.canary_trials * factor,
            stable_events=self.stable_events * factor,
            stable_trials=self.stable_trials * factor,
        )

    @property
    def numbers(self) -> tuple[float, ...]:
        """Return the counts as plain numbers; ``counts_of`` turns them back."""
        return self.canary_events, self.canary_trials, self.stable_events, self.stable_trials

    @property
    def canary_rate(self) -> float:
        """Events per trial of the canary; 0 without trials."""
        return self.canary_events / self.canary_trials if self.canary_trials else 0.0

    @property
    def stable_rate(self) -> float:
        """Events per trial of stable; 0 without trials."""
        return self.stable_events / self.stable_trials if self.stable_trials else 0.0

    @property
    def canary_share(self) -> float:
        """The canary's share of the trials; 0 without trials."""
        trials = self.canary_trials + self.stable_trials
        return self.canary_trials / trials if trials else 0.0


def counts_of(numbers: Sequence[float]) -> Counts:
    """Return the counts that ``Counts.numbers`` was taken from."""
    canary_events, canary_trials, stable_events, stable_trials = numbers
    return Counts(
        canary_events=canary_events,
        canary_trials=canary_trials,
        stable_events=stable_events,
        stable_trials=stable_trials,
    )


def canary_odds(share: float, ratio: float) -> float:
    """Return the canary's expected share of the events at ``ratio`` times stable's rate."""
    return share * ratio / (share * ratio + 1 - share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How counts are weighed.

    Attributes:
        margin: Relative rise of a rate that is tolerated.
        dispersion: Divides the logarithms; at least 1.
        most_nats: Most that is added to the logarithm of a stake.
    """

    margin: float = 0.0
    dispersion: float = 1.0
    most_nats: float = math.inf


def grow(stakes: Stakes, counts: Counts, scale: Scale) -> Stakes:
    """Return the stakes after what was counted."""
    share = counts.canary_share
    if not 0 < share < 1 or counts.canary_events + counts.stable_events == 0:
        return stakes
    expected = canary_odds(share, 1 + scale.margin)
    grown = [stakes[0]]
    for stake, ratio in zip(stakes[1:], _RATIOS, strict=True):
        supposed = canary_odds(share, ratio * (1 + scale.margin))
        gain = counts.canary_events * math.log(supposed / expected) + (
            counts.stable_events * math.log((1 - supposed) / (1 - expected))
        )
        grown.append(stake + min(gain / scale.dispersion, scale.most_nats))
    return tuple(grown)


def lay_out(stakes: Stakes) -> Stakes:
    """Return the stakes after a little of the reserve was spread over the rate ratios."""
    laid_out = stakes[0] + math.log(_LAID_OUT_EACH_TIME / len(_RATIOS))
    reserve = stakes[0] + math.log1p(-_LAID_OUT_EACH_TIME)
    return (reserve, *(_log_sum((stake, laid_out)) for stake in stakes[1:]))


def log_evidence(stakes: Stakes) -> float:
    """Return the logarithm of the evidence, 0 at the beginning."""
    return _log_sum(stakes)


def evidence(stakes: Stakes) -> float:
    """Return the evidence, 1 at the beginning; finite always."""
    return math.exp(min(_log_sum(stakes), _MOST_LOG))


def surprise(counts: Counts, *, margin: float) -> float:
    """Return how far the canary's share of the events lies above the expected one, in nats.

    The events times their Kullback–Leibler divergence; 0 when the canary is no worse.  No
    e-value: it is only asked of a short stretch, next to absolute bounds.
    """
    share = counts.canary_share
    events = counts.canary_events + counts.stable_events
    if not 0 < share < 1 or events <= 0:
        return 0.0
    expected = canary_odds(share, 1 + margin)
    seen = min(counts.canary_events / events, 1.0)
    if seen <= expected:
        return 0.0
    rest = (1 - seen) * math.log((1 - seen) / (1 - expected)) if seen < 1 else 0.0
    return events * (seen * math.log(seen / expected) + rest)


def _log_sum(logs: tuple[float, ...]) -> float:
    greatest = max(logs)
    return greatest + math.log(sum(math.exp(value - greatest) for value in logs))
