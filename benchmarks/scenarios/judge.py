"""The judge, tried on simulated traffic: how often it is wrong, and how soon it is right.

Everything is seeded, and every verdict is the product's own ``look``.  Beside it, on the same
counts, the two things people do instead:

* fixed thresholds, Flagger's way: each minute the canary's success rate must be 99 % and its p99
  within 500 ms; five failed checks abort;
* a z-test of the error rates on everything so far, each minute, one-sided at 5 % and at 1 %.

Traffic: 100 requests a second, 5 % of them the canary's, 0.5 % errors, latency log-normal around
5 ms.  Stable has two processes, the canary one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stemma.domain.judge import JudgePolicy, JudgeState, begin_judge, look, start_step
from stemma.domain.traffic import Interval, SideCounts, latency_bucket

_SHARE = 0.05
_BUCKETS = 260
_PAUSED_BUCKETS = 75  # 40 times as slow


@dataclass(frozen=True, kw_only=True)
class World:
    """What happens to the requests.

    Attributes:
        hours: How long.
        look_seconds: Time between looks.
        per_second: Requests per second, both sides together.
        canary_errors: Error rate of the canary from ``bad_from_hours`` on.
        stable_errors: Error rate of stable, and of the canary before.
        bad_from_hours: When the canary turns bad.
        canary_slowdown: Factor on the canary's latency from then on.
        pauses_per_hour: Pauses of each process.
        pause_seconds: Their mean length, exponential.
        outages_per_hour: Outages that hit both sides: 30 % errors, everything slow.
        outage_seconds: Their mean length, exponential.
    """

    hours: float = 24.0
    look_seconds: float = 60.0
    per_second: float = 100.0
    canary_errors: float = 0.005
    stable_errors: float = 0.005
    bad_from_hours: float = 0.0
    canary_slowdown: float = 1.0
    pauses_per_hour: float = 0.0
    pause_seconds: float = 2.0
    outages_per_hour: float = 0.0
    outage_seconds: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Counts of each look: one row per look, latencies by bucket."""

    canary: NDArray[np.int64]
    stable: NDArray[np.int64]
    canary_errors: NDArray[np.int64]
    stable_errors: NDArray[np.int64]
    canary_latency: NDArray[np.int64]
    stable_latency: NDArray[np.int64]


def _latency_shares(slowdown: float) -> NDArray[np.float64]:
    rng = np.random.default_rng(7)
    samples = rng.lognormal(np.log(5000 * slowdown), 0.35, 200_000)
    buckets = np.bincount([latency_bucket(value) for value in samples], minlength=_BUCKETS)
    shares: NDArray[np.float64] = buckets / buckets.sum()
    return shares


_SHARES = {slowdown: _latency_shares(slowdown) for slowdown in (1.0, 1.5, 3.0)}


def _stretches(
    rng: np.random.Generator, world: World, per_hour: float, mean_seconds: float
) -> NDArray[np.float64]:
    """Return how much of each look lies in stretches that begin at random."""
    looks = round(world.hours * 3600 / world.look_seconds)
    covered = np.zeros(looks)
    for begin in rng.uniform(0, world.hours * 3600, rng.poisson(per_hour * world.hours)):
        end = min(begin + rng.exponential(mean_seconds), world.hours * 3600 - 1e-6)
        for index in range(int(begin / world.look_seconds), int(end / world.look_seconds) + 1):
            first = max(begin, index * world.look_seconds)
            last = min(end, (index + 1) * world.look_seconds)
            covered[index] += (last - first) / world.look_seconds
    return np.minimum(covered, 1.0)


def _latencies(
    rng: np.random.Generator,
    requests: NDArray[np.int64],
    slow_share: NDArray[np.float64],
    shares: NDArray[np.float64],
) -> NDArray[np.int64]:
    slow = rng.binomial(requests, slow_share)
    latency = rng.multinomial(requests - slow, shares)
    latency += np.roll(rng.multinomial(slow, shares), _PAUSED_BUCKETS, axis=1)
    return latency


def traffic(world: World, seed: int) -> Traffic:
    """Return the counts of every look."""
    rng = np.random.default_rng(seed)
    looks = round(world.hours * 3600 / world.look_seconds)
    requests = rng.poisson(world.per_second * world.look_seconds, looks)
    canary = rng.binomial(requests, _SHARE)
    stable = requests - canary
    outage = _stretches(rng, world, world.outages_per_hour, world.outage_seconds)
    pauses = [_stretches(rng, world, world.pauses_per_hour, world.pause_seconds) for _ in range(3)]
    is_bad = np.arange(looks) * world.look_seconds >= world.bad_from_hours * 3600
    canary_rate = np.where(is_bad, world.canary_errors, world.stable_errors)
    shares = _SHARES[1.0]
    latency = _latencies(rng, canary, np.minimum(pauses[0] + outage, 1), shares)
    if world.canary_slowdown != 1.0:
        slowed = rng.multinomial(canary, _SHARES[world.canary_slowdown])
        latency = np.where(is_bad[:, None], slowed, latency)
    return Traffic(
        canary=canary,
        stable=stable,
        canary_errors=rng.binomial(canary, np.minimum(canary_rate + 0.3 * outage, 1)),
        stable_errors=rng.binomial(stable, np.minimum(world.stable_errors + 0.3 * outage, 1)),
        canary_latency=latency,
        stable_latency=_latencies(
            rng, stable, np.minimum((pauses[1] + pauses[2]) / 2 + outage, 1), shares
        ),
    )


def _side(requests: int, errors: int, latency: NDArray[np.int64]) -> SideCounts:
    buckets = np.flatnonzero(latency)
    counts = dict(zip(buckets.tolist(), latency[buckets].tolist(), strict=True))
    return SideCounts(requests=int(requests), errors=int(errors), latency=counts)


def _intervals(seen: Traffic) -> Iterator[Interval]:
    for index in range(len(seen.canary)):
        yield Interval(
            canary=_side(seen.canary[index], seen.canary_errors[index], seen.canary_latency[index]),
            stable=_side(seen.stable[index], seen.stable_errors[index], seen.stable_latency[index]),
        )


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """When each way of judging aborted, in seconds; ``None``: never."""

    judge_seconds: float | None
    judge_metric: str
    thresholds_seconds: float | None
    z_test_5_seconds: float | None
    z_test_1_seconds: float | None


def _first(is_over: NDArray[np.bool_], look_seconds: float) -> float | None:
    found = np.flatnonzero(is_over)
    return None if not len(found) else float(found[0] + 1) * look_seconds


def _thresholds(seen: Traffic, look_seconds: float) -> float | None:
    rate = seen.canary_errors / np.maximum(seen.canary, 1)
    slowest = latency_bucket(500_000)
    above = seen.canary_latency[:, slowest + 1 :].sum(axis=1) / np.maximum(seen.canary, 1)
    failed = (rate > 0.01) | (above > 0.01)
    return _first(np.cumsum(failed) >= 5, look_seconds)


def _z_test(seen: Traffic, look_seconds: float, limit: float) -> float | None:
    canary, stable = np.cumsum(seen.canary), np.cumsum(seen.stable)
    bad, usual = np.cumsum(seen.canary_errors), np.cumsum(seen.stable_errors)
    pooled = (bad + usual) / (canary + stable)
    spread = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / canary + 1 / stable), 1e-12))
    return _first(((bad / canary - usual / stable) / spread > limit) & (bad >= 5), look_seconds)


def verdicts(world: World, seed: int) -> Verdicts:
    """Judge one run in all three ways."""
    seen = traffic(world, seed)
    state: JudgeState = start_step(begin_judge())
    policy = JudgePolicy()
    seconds, metric = None, ""
    for number, interval in enumerate(_intervals(seen), 1):
        state, assessment = look(state, interval, world.look_seconds, policy, _SHARE)
        if assessment.is_breached:
            seconds = number * world.look_seconds
            metric = assessment.guardrails[0].metric
            break
    is_minute = world.look_seconds == 60
    return Verdicts(
        judge_seconds=seconds,
        judge_metric=metric,
        thresholds_seconds=_thresholds(seen, world.look_seconds) if is_minute else None,
        z_test_5_seconds=_z_test(seen, world.look_seconds, 1.645) if is_minute else None,
        z_test_1_seconds=_z_test(seen, world.look_seconds, 2.326) if is_minute else None,
    )


def _false_aborts(pool: ProcessPoolExecutor, world: World, runs: int) -> dict[str, object]:
    found = list(pool.map(partial(verdicts, world), range(1000, 1000 + runs), chunksize=4))
    answer: dict[str, object] = {
        "runs": runs,
        "hours": world.hours,
        "look_seconds": world.look_seconds,
        "judge": sum(one.judge_seconds is not None for one in found) / runs,
        "judge_aborted_for": sorted({one.judge_metric for one in found} - {""}),
    }
    if world.look_seconds == 60:
        answer["fixed thresholds"] = sum(one.thresholds_seconds is not None for one in found) / runs
        answer["z-test at 5 %"] = sum(one.z_test_5_seconds is not None for one in found) / runs
        answer["z-test at 1 %"] = sum(one.z_test_1_seconds is not None for one in found) / runs
    return answer


def _detection(pool: ProcessPoolExecutor, world: World, runs: int) -> dict[str, object]:
    found = list(pool.map(partial(verdicts, world), range(5000, 5000 + runs), chunksize=4))
    begun = world.bad_from_hours * 3600
    times = np.array(
        [np.inf if one.judge_seconds is None else one.judge_seconds - begun for one in found]
    )
    answer: dict[str, object] = {
        "runs": runs,
        "look_seconds": world.look_seconds,
        "median_seconds": float(np.median(times)),
        "p95_seconds": float(np.quantile(times, 0.95, method="higher")),
        "before_it_turned_bad": int((times < 0).sum()),
    }
    if world.look_seconds == 60 and not begun:
        for name in ("thresholds_seconds", "z_test_1_seconds"):
            others = [getattr(one, name) for one in found]
            answer[f"median_{name}"] = float(
                np.median([np.inf if other is None else other for other in others])
            )
    return {name: "never" if value == np.inf else value for name, value in answer.items()}


_SAME = {
    "independent": World(),
    "pauses of single processes": World(pauses_per_hour=2, pause_seconds=2),
    "rare long pauses": World(pauses_per_hour=0.25, pause_seconds=4),
    "shared outages": World(outages_per_hour=0.5, outage_seconds=20),
}
_SAME_OFTEN = {
    "pauses, looked at every 2 s": (
        World(hours=24, look_seconds=2, pauses_per_hour=2, pause_seconds=2),
        10,
    ),
    "rare long pauses, looked at every 2 s": (
        World(hours=24, look_seconds=2, pauses_per_hour=0.25, pause_seconds=4),
        10,
    ),
    "pauses, 2,000 requests/s, looked at each second": (
        World(hours=1, look_seconds=1, per_second=2000, pauses_per_hour=6, pause_seconds=2),
        100,
    ),
    "independent, 2,000 requests/s, looked at each second": (
        World(hours=1, look_seconds=1, per_second=2000),
        40,
    ),
}
_WORSE = {
    "errors 0.5 % to 1 %": (World(hours=4, canary_errors=0.01), 100),
    "errors 0.5 % to 2 %": (World(hours=1, look_seconds=1, canary_errors=0.02), 100),
    "errors 0.5 % to 5 %": (World(hours=0.5, look_seconds=0.5, canary_errors=0.05), 200),
    "errors 0.5 % to 50 %": (World(hours=0.1, look_seconds=0.5, canary_errors=0.5), 400),
    "every request fails, stable never": (
        World(hours=0.1, look_seconds=0.5, canary_errors=1.0, stable_errors=0.0),
        200,
    ),
    "errors 0.5 % to 2 % after 20 h": (
        World(hours=22, bad_from_hours=20, canary_errors=0.02),
        40,
    ),
    "errors 0.5 % to 50 % after 20 h": (
        World(hours=20.5, look_seconds=5, bad_from_hours=20, canary_errors=0.5),
        6,
    ),
    "1.5 times as slow": (World(hours=1, look_seconds=1, canary_slowdown=1.5), 100),
    "3 times as slow": (World(hours=0.5, look_seconds=0.5, canary_slowdown=3.0), 100),
}


def run(scale: float = 1.0) -> dict[str, object]:
    """Simulate; ``scale`` shrinks the number of runs."""

    def scaled(runs: int) -> int:
        return max(4, round(runs * scale))

    with ProcessPoolExecutor(os.cpu_count()) as pool:
        same = {name: _false_aborts(pool, world, scaled(200)) for name, world in _SAME.items()}
        same |= {
            name: _false_aborts(pool, world, scaled(runs))
            for name, (world, runs) in _SAME_OFTEN.items()
        }
        worse = {
            name: _detection(pool, world, scaled(runs)) for name, (world, runs) in _WORSE.items()
        }
    return {
        "traffic": "100 requests/s, 5 % canary, one look a minute unless said otherwise",
        "false_abort_share_when_canary_is_no_worse": same,
        "seconds_until_aborted_when_canary_is_worse": worse,
    }
