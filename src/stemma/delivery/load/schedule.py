"""When requests are sent: offsets in seconds from the start, decided before the first one.

Invariants:
    * Offsets rise, the first is not negative and the last is below the length asked for.
    * Nothing here depends on answers: a slow server gets its requests all the same (open loop).
    * Equal arguments give equal offsets.

This module has no clock and sends nothing.

Example:
    >>> constant(4, 1.0)
    (0.0, 0.25, 0.5, 0.75)
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count, pairwise

from stemma.domain.errors import InvalidInputError

_MILLISECOND = 0.001
_MOST_REQUESTS = 10_000_000


def constant(rate_per_second: float, seconds: float) -> tuple[float, ...]:
    """Return evenly spaced offsets.

    Raises:
        InvalidInputError: If there is nothing to send, or more than ten million requests.
    """
    _check(rate_per_second, seconds)
    total = max(1, round(rate_per_second * seconds))
    return tuple(index / rate_per_second for index in range(total))


def poisson(rate_per_second: float, seconds: float, seed: int) -> tuple[float, ...]:
    """Return offsets of independent users: exponential gaps with the mean ``1 / rate``.

    There are exactly ``rate * seconds`` of them: given their number, the arrivals of a Poisson
    process are spread evenly at random.

    Raises:
        InvalidInputError: If there is nothing to send, or more than ten million requests.
    """
    _check(rate_per_second, seconds)
    generator = random.Random(seed)  # noqa: S311 - spacing of requests, no secret
    total = max(1, round(rate_per_second * seconds))
    return tuple(sorted(generator.random() * seconds for _ in range(total)))


def poisson_forever(rate_per_second: float, seed: int) -> Iterator[float]:
    """Yield offsets of independent users without an end."""
    generator = random.Random(seed)  # noqa: S311 - spacing of requests, no secret
    offset = 0.0
    while True:
        offset += generator.expovariate(rate_per_second)
        yield offset


def replay(
    arrival_times_ms: Sequence[int], rate_per_second: float, seconds: float, seed: int
) -> tuple[float, ...]:
    """Return offsets spaced as in an access log, stretched to a rate.

    Bursts and pauses keep their proportions.  The log is repeated when it is too short.
    A log tells milliseconds: within one, arrivals are spread at random.

    Raises:
        InvalidInputError: If there is nothing to send, or fewer than two arrivals.
    """
    _check(rate_per_second, seconds)
    gaps = _gaps(arrival_times_ms, seed)
    mean = sum(gaps) / len(gaps)
    scale = 1.0 / (rate_per_second * mean)
    offsets: list[float] = []
    offset = 0.0
    for index in count():
        if offset >= seconds:
            break
        offsets.append(offset)
        offset += gaps[index % len(gaps)] * scale
    return tuple(offsets)


def rate_of(arrival_times_ms: Sequence[int]) -> float:
    """Return the mean rate of an access log in requests per second; 0 when it has no two."""
    if len(arrival_times_ms) < 2:  # noqa: PLR2004 - a rate needs a gap
        return 0.0
    span = (max(arrival_times_ms) - min(arrival_times_ms)) * _MILLISECOND
    return (len(arrival_times_ms) - 1) / max(span, _MILLISECOND)


def _gaps(arrival_times_ms: Sequence[int], seed: int) -> list[float]:
    if len(arrival_times_ms) < 2:  # noqa: PLR2004 - as above
        raise InvalidInputError(
            f"a pattern needs at least two arrivals, not {len(arrival_times_ms)}",
            code="no-pattern",
            hint="use Poisson arrivals",
        )
    generator = random.Random(seed)  # noqa: S311 - spacing of requests, no secret
    spread = sorted((time + generator.random()) * _MILLISECOND for time in arrival_times_ms)
    return [later - earlier for earlier, later in pairwise(spread)]


def _check(rate_per_second: float, seconds: float) -> None:
    if not (rate_per_second > 0 and seconds > 0):
        raise InvalidInputError(
            f"{rate_per_second:g} requests per second for {seconds:g} s sends nothing",
            code="bad-load",
            hint="give a rate and a time above 0, e.g. --rate 100 --seconds 10",
        )
    if rate_per_second * seconds > _MOST_REQUESTS:
        raise InvalidInputError(
            f"{rate_per_second:g} requests per second for {seconds:g} s are more than "
            f"{_MOST_REQUESTS:,} requests",
            code="bad-load",
            hint="give a lower rate or a shorter time",
        )
