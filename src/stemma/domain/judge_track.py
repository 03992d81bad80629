"""The evidence on one metric, from look to look.

Three things are remembered: the stakes of the e-process, how stable's events cluster, and a
fading picture of the last seconds, by which a catastrophe is seen.

Which metric's evidence is divided, and why:
    * **Errors**: requests are assigned at random, so a shared outage hits both sides alike and
      needs no division.  Bursts of one process do; the dispersion counts, but at most 10 per
      minute, so that an outage of both does not blunt the judge for the rest of the rollout.
    * **Latency**: a pause makes a whole stretch of one process's requests slow, however many they
      are.  Never divided by less than 10, and ten seconds together never weigh more than a
      sixth of what an abort takes.
    * **The user's own metrics**: how they cluster is unknown; by 10 at least for half an hour.

Invariants:
    * What an increment is divided by is known before the increment is.
    * A catastrophe on errors is seen within seconds whatever the dispersion says; one on latency
      must last longer than any pause.

This module knows no requests, only events among trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from stemma.domain.judge_dispersion import Dispersion, dispersion_of
from stemma.domain.judge_evidence import (
    BEGINNING,
    Counts,
    Scale,
    Stakes,
    counts_of,
    grow,
    lay_out,
    surprise,
)

_HALF_HOUR_SECONDS: Final = 1800.0
_FEWEST_TRIALS: Final = 5
"""Per side in one increment: below, the binomial is much wider than what can happen."""
_CATASTROPHE_NATS: Final = 18.0
_CATASTROPHE_TIMES: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """How the events of a metric come about.

    Attributes:
        most_per_minute: What one minute may add to the dispersion.
        floor: Least dispersion for good.
        early_floor: Least dispersion during the first half hour.
        stretch_seconds: How long counts are gathered before they are weighed.
        most_nats: Most that one stretch may add to the logarithm of the evidence.
        half_life_seconds: How fast the picture of the last seconds fades.
        catastrophe_rate: Recent rate of the canary from which it is a catastrophe.
        catastrophe_seconds: How much of the fading picture must be filled before it counts.
    """

    most_per_minute: float
    floor: float
    early_floor: float
    stretch_seconds: float
    most_nats: float
    half_life_seconds: float
    catastrophe_rate: float
    catastrophe_seconds: float


ERRORS: Final = Nature(
    most_per_minute=10.0,
    floor=1.0,
    early_floor=1.0,
    stretch_seconds=0.0,
    most_nats=math.inf,
    half_life_seconds=5.0,
    catastrophe_rate=0.2,
    catastrophe_seconds=0.0,
)
LATENCY: Final = Nature(
    most_per_minute=1e9,
    floor=10.0,
    early_floor=10.0,
    stretch_seconds=10.0,
    most_nats=1.5,
    half_life_seconds=30.0,
    catastrophe_rate=0.5,
    catastrophe_seconds=20.0,
)
OWN: Final = Nature(
    most_per_minute=1e9,
    floor=1.0,
    early_floor=10.0,
    stretch_seconds=0.0,
    most_nats=math.inf,
    half_life_seconds=30.0,
    catastrophe_rate=math.inf,
    catastrophe_seconds=0.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is remembered of one metric.

    Attributes:
        total: Everything counted.
        pending: Counted, but not weighed yet.
        pending_seconds: How long that took.
        recent: The last seconds, fading.
        recent_seconds: How many seconds that picture holds, faded alike.
        dispersion: How stable's events cluster.
        stakes: The e-process.
    """

    total: Counts = field(default_factory=Counts)
    pending: Counts = field(default_factory=Counts)
    pending_seconds: float = 0.0
    recent: Counts = field(default_factory=Counts)
    recent_seconds: float = 0.0
    dispersion: Dispersion = field(default_factory=Dispersion)
    stakes: Stakes = BEGINNING

    @property
    def numbers(self) -> tuple[float, ...]:
        """Return it as plain numbers; ``track_of`` turns them back."""
        return (
            *self.total.numbers,
            *self.pending.numbers,
            *self.recent.numbers,
            *self.dispersion.numbers,
            self.pending_seconds,
            self.recent_seconds,
            *self.stakes,
        )


def track_of(numbers: Sequence[float]) -> Track:
    """Return the track that ``Track.numbers`` was taken from; a fresh one of nothing."""
    if not numbers:
        return Track()
    return Track(
        total=counts_of(numbers[0:4]),
        pending=counts_of(numbers[4:8]),
        recent=counts_of(numbers[8:12]),
        dispersion=dispersion_of(numbers[12:20]),
        pending_seconds=numbers[20],
        recent_seconds=numbers[21],
        stakes=tuple(numbers[22:]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a look knows besides the counts.

    Attributes:
        seconds: Since the last look.
        age_seconds: Since the rollout's first look.
        is_minute_over: Whether a minute ends with this look.
        margin: Relative rise of a rate that is tolerated.
    """

    seconds: float
    age_seconds: float
    is_minute_over: bool
    margin: float


def divisor(track: Track, nature: Nature, age_seconds: float) -> float:
    """Return what the next increment is divided by, at least 1."""
    floor = nature.early_floor if age_seconds < _HALF_HOUR_SECONDS else nature.floor
    return max(floor, track.dispersion.estimate)


def followed(track: Track, counts: Counts, nature: Nature, moment: Moment) -> Track:
    """Return the track after one more stretch."""
    fading = 0.5 ** (moment.seconds / nature.half_life_seconds)
    track = _weighed(
        replace(
            track,
            total=track.total + counts,
            pending=track.pending + counts,
            pending_seconds=track.pending_seconds + moment.seconds,
            recent=track.recent * fading + counts,
            recent_seconds=track.recent_seconds * fading + moment.seconds,
        ),
        nature,
        moment,
    )
    dispersion = track.dispersion.seen(counts.stable_events, counts.stable_trials)
    if not moment.is_minute_over:
        return replace(track, dispersion=dispersion)
    return replace(
        track,
        dispersion=dispersion.minute_over(nature.most_per_minute),
        stakes=lay_out(track.stakes),
    )


def _weighed(track: Track, nature: Nature, moment: Moment) -> Track:
    """Return the track with what is pending weighed, once it is enough and gathered long enough."""
    pending = track.pending
    if (
        min(pending.canary_trials, pending.stable_trials) < _FEWEST_TRIALS
        or track.pending_seconds < nature.stretch_seconds
    ):
        return track
    scale = Scale(
        margin=moment.margin,
        dispersion=divisor(track, nature, moment.age_seconds),
        most_nats=nature.most_nats,
    )
    return replace(
        track, stakes=grow(track.stakes, pending, scale), pending=Counts(), pending_seconds=0.0
    )


def is_catastrophe(track: Track, nature: Nature, margin: float) -> bool:
    """Return whether the last seconds alone leave no doubt that the canary is broken.

    It fails much in absolute terms, several times as much as stable, and in numbers that no
    chance explains.
    """
    recent = track.recent
    return (
        recent.canary_rate >= nature.catastrophe_rate
        and recent.canary_rate >= _CATASTROPHE_TIMES * recent.stable_rate
        and track.recent_seconds >= nature.catastrophe_seconds
        and surprise(recent, margin=margin) >= _CATASTROPHE_NATS
    )
