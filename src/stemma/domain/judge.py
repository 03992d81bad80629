"""The judge: is the canary worse than stable?  Valid at every look.

``begin_judge``, ``start_step`` and ``look`` are the verbs; ``look`` takes what was counted since
the last look and answers.

Invariants:
    * Over a whole rollout, however often it is looked at, a version that is no worse is aborted
      with at most the chance ``JudgePolicy.false_alarm_rate``: each of M judged metrics has the
      limit M / rate (``judge_evidence``; what clusters is divided down, ``judge_track``).
    * No traffic is never enough; no figure is ever NaN or infinite.
    * What is remembered stays below 64 KiB however long a rollout lasts: at most
      ``MOST_OWN_METRICS`` of the user's metrics are followed, the first ones that were seen.
    * The same looks give the same answers: no clock, no randomness.

This module moves no traffic; see ``stemma.domain.rollout_steps``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from stemma.domain.judge_evidence import Counts, evidence
from stemma.domain.judge_latency import (
    SHARES,
    learnt,
    slow_requests,
    thresholds,
    tolerated_us,
)
from stemma.domain.judge_track import (
    ERRORS,
    LATENCY,
    OWN,
    Moment,
    Nature,
    Track,
    followed,
    is_catastrophe,
    track_of,
)
from stemma.domain.judge_words import (
    evidence_words,
    latency_words,
    rates_words,
    share_words,
    telling_rates,
)
from stemma.domain.traffic import Interval, MetricCounts, bucket_bound_us

MOST_OWN_METRICS: Final = 20

_MINUTE_SECONDS: Final = 60.0
_SILENCE_NATS: Final = 22.0
_SILENCE_SECONDS: Final = 2.0


class Standing(Enum):
    """What the evidence on one guardrail says."""

    COLLECTING = "collecting"
    HOLDS = "holds"
    BREACHED = "breached"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePolicy:
    """How sure the judge must be.

    Attributes:
        false_alarm_rate: Chance over a whole rollout that a version no worse is aborted.
        margin: Relative rise of a rate that is tolerated (0.0: none).
        minimum_requests: Canary requests below which a step answers INSUFFICIENT.
        is_latency_judged: Whether latency aborts too, or is only shown.
    """

    false_alarm_rate: float = 0.01
    margin: float = 0.0
    minimum_requests: int = 299
    is_latency_judged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """The evidence on one metric, as people read it.

    Attributes:
        metric: ``errors``, ``latency_p50``, ``latency_p95``, ``latency_p99`` or the user's name.
        standing: What it says.
        canary_value: Rate (events per trial) or, for latency, microseconds of the canary.
        stable_value: The same of stable.
        e_value: Evidence that the canary is worse, after division by overdispersion.
        limit: ``e_value`` at which the rollout is aborted.
        canary_trials: Trials behind ``canary_value``.
        reason: One sentence; empty while nothing is to be said.
    """

    metric: str
    standing: Standing
    canary_value: float
    stable_value: float
    e_value: float
    limit: float
    canary_trials: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeState:
    """Everything the judge remembers between looks; plain values, stored as JSON.

    The fields belong to the judge; others only store them and hand them back.
    """

    looks: int = 0
    seconds: float = 0.0
    total: Interval = field(default_factory=Interval)
    memory: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The answer of one look.

    Attributes:
        guardrails: One per metric, breached ones first.
        is_breached: Abort.
        is_sufficient: Enough was seen in this step to go on; never true on no traffic.
        reason: Why, in one sentence a person at night understands.
    """

    guardrails: tuple[Guardrail, ...]
    is_breached: bool
    is_sufficient: bool
    reason: str


def begin_judge() -> JudgeState:
    """Return what a judge knows before the first look."""
    return JudgeState()


def start_step(state: JudgeState) -> JudgeState:
    """Return the state at the start of a step: its requests are counted anew, evidence goes on."""
    memory = {key: value for key, value in state.memory.items() if key not in {"step", "silence"}}
    return replace(state, memory=memory)


def look(
    state: JudgeState,
    interval: Interval,
    seconds: float,
    policy: JudgePolicy,
    share: float | None = None,
) -> tuple[JudgeState, Assessment]:
    """Return what is known after one more look, and the answer.

    Args:
        state: What was known before.
        interval: What was counted since then.
        seconds: How long that took.
        policy: How sure to be.
        share: The canary's share of requests that is in force, 0 to 1; ``None`` when it is not
            known.  With it a canary that answers nothing at all is seen before its requests
            time out.
    """
    seconds = max(seconds, 0.0) if math.isfinite(seconds) else 0.0
    interval = _followed_metrics(state, interval)
    minute = _numbers(state, "minute", 1)[0] + seconds
    is_minute_over = minute >= _MINUTE_SECONDS
    total = state.total + interval
    limit = _limit(policy, len(total.metrics))
    moment = Moment(
        seconds=seconds,
        age_seconds=state.seconds,
        is_minute_over=is_minute_over,
        margin=policy.margin,
    )
    memory = dict(state.memory)
    memory["minute"] = (0.0 if is_minute_over else minute,)
    memory["step"] = _step_after(state, interval)
    if share is None:
        memory.pop("silence", None)
    else:
        memory["silence"] = _silence_after(state, interval, seconds)
    memory |= _tracks_after(state, interval, moment)
    memory |= _latency_after(state, interval, is_minute_over=is_minute_over)
    after = JudgeState(
        looks=state.looks + 1, seconds=state.seconds + seconds, total=total, memory=memory
    )
    return after, _assess(after, policy, limit, share)


def _limit(policy: JudgePolicy, own_metrics: int) -> float:
    judged = 1 + own_metrics + (len(SHARES) if policy.is_latency_judged else 0)
    return judged / policy.false_alarm_rate


def _numbers(state: JudgeState, key: str, count: int) -> tuple[float, ...]:
    return state.memory.get(key, (0.0,) * count)


def _followed_metrics(state: JudgeState, interval: Interval) -> Interval:
    """Return the interval with the metrics that are followed, and sane counts."""
    known = list(state.total.metrics)
    fresh = [name for name in interval.metrics if name not in state.total.metrics]
    followed_names = {*known, *fresh[: MOST_OWN_METRICS - len(known)]}
    metrics = {name: value for name, value in interval.metrics.items() if name in followed_names}
    return replace(interval, metrics=metrics)


def _step_after(state: JudgeState, interval: Interval) -> tuple[float, ...]:
    canary, stable = _numbers(state, "step", 2)
    return canary + interval.canary.requests, stable + interval.stable.requests


def _silence_after(state: JudgeState, interval: Interval, seconds: float) -> tuple[float, ...]:
    """Return stable's requests and the seconds since the canary was heard of last."""
    if interval.canary.requests:
        return 0.0, 0.0
    requests, silent_seconds = _numbers(state, "silence", 2)
    return requests + interval.stable.requests, silent_seconds + seconds


def _tracks_after(
    state: JudgeState, interval: Interval, moment: Moment
) -> dict[str, tuple[float, ...]]:
    """Return the tracks of all metrics after the interval."""
    canary, stable = interval.canary, interval.stable
    errors = Counts(
        canary_events=canary.errors,
        canary_trials=canary.requests,
        stable_events=stable.errors,
        stable_trials=stable.requests,
    )
    stretches: dict[str, tuple[Counts, Nature]] = {"errors": (errors, ERRORS)}
    for metric, bucket in zip(SHARES, state.memory.get("thresholds", ()), strict=False):
        stretches[metric] = slow_requests(interval, bucket), LATENCY
    for name in {**state.total.metrics, **interval.metrics}:
        counts = interval.metrics.get(name, MetricCounts())
        stretches[_own(name)] = _own_counts(counts), OWN
    return {
        key: followed(track_of(state.memory.get(key, ())), counts, nature, moment).numbers
        for key, (counts, nature) in stretches.items()
    }


def _own(name: str) -> str:
    return f"own:{name}"


def _own_counts(counts: MetricCounts) -> Counts:
    return Counts(
        canary_events=counts.canary_events,
        canary_trials=counts.canary_trials,
        stable_events=counts.stable_events,
        stable_trials=counts.stable_trials,
    )


def _latency_after(
    state: JudgeState, interval: Interval, *, is_minute_over: bool
) -> dict[str, tuple[float, ...]]:
    """Return what was learnt of stable's latency, and the thresholds of the next look."""
    seen = learnt(
        state.memory.get("latency", ()), interval.stable.latency, is_minute_over=is_minute_over
    )
    fixed = state.memory.get("thresholds", ())
    if is_minute_over or not fixed:
        fixed = thresholds(seen) or fixed
    return {"latency": seen, "thresholds": fixed}


def _assess(
    state: JudgeState, policy: JudgePolicy, limit: float, share: float | None
) -> Assessment:
    shortfall = _shortfall(state, policy, share)
    guardrails = [_errors_guardrail(state, policy, limit, is_enough=not shortfall)]
    guardrails += [
        _latency_guardrail(state, policy, limit, metric, is_enough=not shortfall)
        for metric in SHARES
    ]
    guardrails += [_own_guardrail(state, policy, limit, name) for name in state.total.metrics]
    if policy.is_latency_judged:
        guardrails += _silence_guardrail(state, share, limit)
    guardrails.sort(key=lambda guardrail: guardrail.standing is not Standing.BREACHED)
    first = guardrails[0]
    is_breached = first.standing is Standing.BREACHED
    return Assessment(
        guardrails=tuple(guardrails),
        is_breached=is_breached,
        is_sufficient=not is_breached and not shortfall,
        reason=first.reason if is_breached else shortfall or _held(state),
    )


def _shortfall(state: JudgeState, policy: JudgePolicy, share: float | None) -> str:
    """Return what is missing in this step, in one sentence; empty when enough was seen."""
    canary, stable = _numbers(state, "step", 2)
    wanted = max(policy.minimum_requests, 1)
    if canary < wanted:
        return (
            f"insufficient: {canary:,.0f} canary requests seen in this step,"
            f" at least {wanted:,} are needed"
        )
    if not stable and share != 1.0:
        return (
            f"insufficient: {canary:,.0f} canary requests seen in this step, but none of"
            " stable's to compare them with"
        )
    return ""


def _held(state: JudgeState) -> str:
    counts = track_of(state.memory["errors"]).total
    return f"holds: errors {rates_words(counts, 'requests', is_recent=False)}"


def _standing(track: Track, *, is_breached: bool, is_enough: bool) -> Standing:
    if is_breached:
        return Standing.BREACHED
    is_compared = track.total.canary_trials > 0 and track.total.stable_trials > 0
    return Standing.HOLDS if is_enough and is_compared else Standing.COLLECTING


def _why(track: Track, policy: JudgePolicy, limit: float, trials: str) -> str:
    value = evidence(track.stakes)
    if value < limit:
        rates = rates_words(track.recent, trials, is_recent=True)
        return f"{rates}; too many to wait for more"
    rates = telling_rates(track.total, track.recent, trials, policy.margin)
    return f"{rates}; {evidence_words(value, limit)}"


def _errors_guardrail(
    state: JudgeState, policy: JudgePolicy, limit: float, *, is_enough: bool
) -> Guardrail:
    track = track_of(state.memory["errors"])
    value = evidence(track.stakes)
    is_breached = value >= limit or is_catastrophe(track, ERRORS, policy.margin)
    return Guardrail(
        metric="errors",
        standing=_standing(track, is_breached=is_breached, is_enough=is_enough),
        canary_value=track.total.canary_rate,
        stable_value=track.total.stable_rate,
        e_value=value,
        limit=limit,
        canary_trials=int(track.total.canary_trials),
        reason=f"errors: {_why(track, policy, limit, 'requests')}" if is_breached else "",
    )


def _latency_guardrail(
    state: JudgeState, policy: JudgePolicy, limit: float, metric: str, *, is_enough: bool
) -> Guardrail:
    track = track_of(state.memory.get(metric, ()))
    value = evidence(track.stakes)
    is_breached = policy.is_latency_judged and (
        value >= limit or is_catastrophe(track, LATENCY, policy.margin)
    )
    canary_us = state.total.canary.quantile_us(SHARES[metric])
    stable_us = state.total.stable.quantile_us(SHARES[metric])
    reason = ""
    if is_breached:
        bucket = state.memory["thresholds"][list(SHARES).index(metric)]
        usual_us = bucket_bound_us(int(bucket))
        reason = (
            f"{metric}: {latency_words(canary_us)} with the canary against"
            f" {latency_words(stable_us)} with stable; slower than"
            f" {latency_words(tolerated_us(bucket))} (stable: {latency_words(usual_us)})"
            f" were {_why(track, policy, limit, 'requests')}"
        )
    return Guardrail(
        metric=metric,
        standing=_standing(track, is_breached=is_breached, is_enough=is_enough),
        canary_value=canary_us,
        stable_value=stable_us,
        e_value=value,
        limit=limit,
        canary_trials=int(track.total.canary_trials),
        reason=reason,
    )


def _own_guardrail(state: JudgeState, policy: JudgePolicy, limit: float, name: str) -> Guardrail:
    track = track_of(state.memory[_own(name)])
    value = evidence(track.stakes)
    is_breached = value >= limit
    is_enough = track.total.canary_trials >= policy.minimum_requests
    return Guardrail(
        metric=name,
        standing=_standing(track, is_breached=is_breached, is_enough=is_enough),
        canary_value=track.total.canary_rate,
        stable_value=track.total.stable_rate,
        e_value=value,
        limit=limit,
        canary_trials=int(track.total.canary_trials),
        reason=f"{name}: {_why(track, policy, limit, 'trials')}" if is_breached else "",
    )


def _silence_guardrail(
    state: JudgeState, share: float | None, limit: float
) -> tuple[Guardrail, ...]:
    """Return a breach when requests go to the canary and none of them comes back.

    Requests that hang are in no log before they time out; but each of stable's requests had the
    chance ``share`` to be the canary's.  Where latency is not judged, a canary may take its time.
    """
    if share is None or not 0 < share < 1:
        return ()
    requests, seconds = state.memory["silence"]
    nats = requests * -math.log1p(-share)
    # Requests that started before the weight changed may still be coming back.
    usual_us = state.total.stable.quantile_us(0.99)
    if nats < _SILENCE_NATS or seconds < _SILENCE_SECONDS + 2 * usual_us / 1e6:
        return ()
    return (
        Guardrail(
            metric="answers",
            standing=Standing.BREACHED,
            canary_value=0.0,
            stable_value=1.0,
            e_value=math.exp(min(nats, 700.0)),
            limit=limit,
            canary_trials=0,
            reason=(
                f"answers: none from the canary for {seconds:.1f} s, while stable answered"
                f" {requests:,.0f} requests and {share_words(share)} were meant for the canary"
            ),
        ),
    )
