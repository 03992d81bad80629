"""The evidence on one metric, from look to look.

Three things are remembered: the stakes of the e-process, how stable's events cluster, and a
fading picture of the last seconds, by which a catastrophe is seen.

Which metric's evidence is divided, and why:
    * **Errors**: requests are assigned at random, so a shared outage hits both sides alike and
      needs no division.  Bursts of one process do; the dispersion counts, but at most 10 per
      minute, so that an outage of both does not blunt the judge for the rest of the rollout.
    * **Latency**: a pause makes a whole stretch of one process's requests slow.  Never divided by
      less than 10, nor by less than what makes one pause of ``_PAUSE_SECONDS`` no evidence.
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
from dataclasses import astuple, dataclass, field, replace
from typing import Final

from stemma.domain.judge_dispersion import Dispersion
from stemma.domain.judge_evidence import BEGINNING, Counts, Stakes, grow, lay_out, surprise

_HALF_HOUR_SECONDS: Final = 1800.0
_PAUSE_SECONDS: Final = 5.0
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
        pause_seconds: A pause of one process up to this long is no evidence by itself.
        half_life_seconds: How fast the picture of the last seconds fades.
        catastrophe_rate: Recent rate of the canary from which it is a catastrophe.
        catastrophe_seconds: How much of the fading picture must be filled before it counts.
    """

    most_per_minute: float
    floor: float
    early_floor: float
    pause_seconds: float
    half_life_seconds: float
    catastrophe_rate: float
    catastrophe_seconds: float


ERRORS: Final = Nature(
    most_per_minute=10.0,
    floor=1.0,
    early_floor=1.0,
    pause_seconds=0.0,
    half_life_seconds=5.0,
    catastrophe_rate=0.2,
    catastrophe_seconds=0.0,
)
LATENCY: Final = Nature(
    most_per_minute=1e9,
    floor=10.0,
    early_floor=10.0,
    pause_seconds=_PAUSE_SECONDS,
    half_life_seconds=30.0,
    catastrophe_rate=0.5,
    catastrophe_seconds=20.0,
)
OWN: Final = Nature(
    most_per_minute=1e9,
    floor=1.0,
    early_floor=10.0,
    pause_seconds=0.0,
    half_life_seconds=30.0,
    catastrophe_rate=math.inf,
    catastrophe_seconds=0.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is remembered of one metric.

    Attributes:
        total: Everything counted.
        pending: Counted, but too little for an increment yet.
        recent: The last seconds, fading.
        recent_seconds: How many seconds that picture holds, faded alike.
        dispersion: How stable's events cluster.
        stakes: The e-process.
    """

    total: Counts = field(default_factory=Counts)
    pending: Counts = field(default_factory=Counts)
    recent: Counts = field(default_factory=Counts)
    recent_seconds: float = 0.0
    dispersion: Dispersion = field(default_factory=Dispersion)
    stakes: Stakes = BEGINNING

    @property
    def numbers(self) -> tuple[float, ...]:
        """Return it as plain numbers; ``track_of`` turns them back."""
        parts = (self.total, self.pending, self.recent, self.dispersion)
        flat: list[float] = [number for part in parts for number in astuple(part)]
        return (*flat, self.recent_seconds, *self.stakes)


def track_of(numbers: Sequence[float]) -> Track:
    """Return the track that ``Track.numbers`` was taken from; a fresh one of nothing."""
    if not numbers:
        return Track()

    def counts(first: int) -> Counts:
        return Counts(
            canary_events=numbers[first],
            canary_trials=numbers[first + 1],
            stable_events=numbers[first + 2],
            stable_trials=numbers[first + 3],
        )

    return Track(
        total=counts(0),
        pending=counts(4),
        recent=counts(8),
        dispersion=Dispersion(
            events=numbers[12],
            trials=numbers[13],
            usual_events=numbers[14],
            usual_trials=numbers[15],
            excess=numbers[16],
            minutes=numbers[17],
        ),
        recent_seconds=numbers[18],
        stakes=tuple(numbers[19:]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a look knows besides the counts.

    Attributes:
        seconds: Since the last look.
        age_seconds: Since the rollout's first look.
        is_minute_over: Whether a minute ends with this look.
        margin: Relative rise of a rate that is tolerated.
        log_limit: Logarithm of the evidence at which the rollout is aborted.
    """

    seconds: float
    age_seconds: float
    is_minute_over: bool
    margin: float
    log_limit: float


def dispersion_of(track: Track, nature: Nature, moment: Moment) -> float:
    """Return what the next increment is divided by, at least 1."""
    floor = nature.early_floor if moment.age_seconds < _HALF_HOUR_SECONDS else nature.floor
    share = track.pending.canary_share
    if nature.pause_seconds and 0 < share < 1:
        per_second = track.recent.canary_trials / max(track.recent_seconds, 1.0)
        # One event of the canary alone weighs -log(share) at most; a pause makes this many.
        pause = nature.pause_seconds * per_second * -math.log(share) / moment.log_limit
        floor = max(floor, pause)
    return max(floor, track.dispersion.estimate)


def followed(track: Track, counts: Counts, nature: Nature, moment: Moment) -> Track:
    """Return the track after one more stretch."""
    fading = 0.5 ** (moment.seconds / nature.half_life_seconds)
    track = replace(
        track,
        total=track.total + counts,
        pending=track.pending + counts,
        recent=track.recent * fading + counts,
        recent_seconds=track.recent_seconds * fading + moment.seconds,
    )
    pending = track.pending
    if min(pending.canary_trials, pending.stable_trials) >= _FEWEST_TRIALS:
        divided_by = dispersion_of(track, nature, moment)
        stakes = grow(track.stakes, pending, margin=moment.margin, dispersion=divided_by)
        track = replace(track, stakes=stakes, pending=Counts())
    dispersion = track.dispersion.seen(counts.stable_events, counts.stable_trials)
    if not moment.is_minute_over:
        return replace(track, dispersion=dispersion)
    return replace(
        track,
        dispersion=dispersion.minute_over(nature.most_per_minute),
        stakes=lay_out(track.stakes),
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
