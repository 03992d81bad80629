"""The judge: broken canaries are found fast, good ones are left alone, and reasons are readable."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import pytest

from stemma.domain.judge import (
    MOST_OWN_METRICS,
    Assessment,
    Guardrail,
    JudgePolicy,
    JudgeState,
    Standing,
    begin_judge,
    look,
    start_step,
)
from stemma.domain.judge_words import evidence_words, latency_words, share_words
from stemma.domain.traffic import Interval, MetricCounts, SideCounts, latency_bucket

POLICY = JudgePolicy()
FAST = latency_bucket(5_000)
SLOW = latency_bucket(50_000)


def side(requests: int, errors: int = 0, slow: int = 0, bucket: int = FAST) -> SideCounts:
    latency = {bucket: requests - slow} | ({SLOW: slow} if slow else {})
    return SideCounts(requests=requests, errors=errors, latency=latency)


def looked(
    state: JudgeState,
    interval: Interval,
    *,
    times: int = 1,
    seconds: float = 1.0,
    policy: JudgePolicy = POLICY,
    share: float | None = None,
) -> tuple[JudgeState, Assessment]:
    """Look at the same counts several times, at most until something breaks."""
    state, assessment = look(state, interval, seconds, policy, share)
    for _ in range(times - 1):
        if assessment.is_breached:
            break
        state, assessment = look(state, interval, seconds, policy, share)
    return state, assessment


def guardrail(assessment: Assessment, metric: str) -> Guardrail:
    return next(one for one in assessment.guardrails if one.metric == metric)


def test_a_canary_that_fails_half_its_requests_is_aborted_within_three_seconds() -> None:
    """Users would see errors for longer than they must."""
    half = Interval(canary=side(5, errors=2), stable=side(95))
    state, assessment = looked(begin_judge(), half, times=20)
    assert assessment.is_breached
    assert not assessment.is_sufficient
    assert state.seconds <= 3
    assert assessment.reason == (
        "errors: 40.0 % of 10 canary requests against 0 % of stable's;"
        f" {evidence_words(assessment.guardrails[0].e_value, 400)}"
    )


def test_a_dead_canary_is_aborted_although_stable_rescues_every_request() -> None:
    """A canary that never answers would be promoted because no user saw a failure."""
    dead = Interval(canary=SideCounts(requests=5, errors=5, rescued=5), stable=side(95))
    state, assessment = looked(begin_judge(), dead, times=20)
    assert assessment.is_breached
    assert state.seconds <= 3


@pytest.mark.slow
def test_a_version_that_was_well_for_a_day_and_breaks_is_aborted_within_five_seconds() -> None:
    """A memory leak that bites at night would go unseen behind a day of good evidence."""
    well = Interval(canary=side(600, errors=3), stable=side(11_400, errors=57))
    state, assessment = looked(begin_judge(), well, times=24 * 60, seconds=60.0)
    assert not assessment.is_breached
    assert assessment.is_sufficient
    day = state.seconds
    half = Interval(canary=side(5, errors=3), stable=side(95))
    state, assessment = looked(state, half, times=20)
    assert assessment.is_breached
    assert state.seconds - day <= 5
    assert "of the last" in assessment.reason


def test_errors_that_hit_both_sides_alike_abort_nothing() -> None:
    """An outage of the database would be blamed on the canary."""
    outage = Interval(canary=side(50, errors=25), stable=side(950, errors=475))
    calm = Interval(canary=side(50), stable=side(950))
    state, assessment = looked(begin_judge(), outage, times=30)
    state, assessment = looked(state, calm, times=60)
    state, assessment = looked(state, outage, times=60)
    assert not assessment.is_breached


def test_bursts_of_stables_errors_blunt_the_judge_but_not_for_a_catastrophe() -> None:
    """A canary that fails everything would live for a minute since stable has bursts."""
    calm = Interval(canary=side(300), stable=side(5700))
    burst = Interval(canary=side(300), stable=side(5700, errors=400))
    state = begin_judge()
    for _ in range(60):
        state, assessment = looked(state, calm, seconds=60.0)
        state, assessment = looked(state, burst, seconds=60.0)
    state, assessment = looked(state, calm, seconds=60.0)
    begun = state.seconds
    dead = Interval(canary=side(5, errors=5), stable=side(95))
    state, assessment = looked(state, dead, times=30)
    assert assessment.is_breached
    assert state.seconds - begun <= 10
    assert assessment.reason.endswith("too many to wait for more")
    assert assessment.guardrails[0].e_value < assessment.guardrails[0].limit


def test_nothing_is_said_about_latency_before_stables_was_seen() -> None:
    """The first look would judge the canary by thresholds made from the same requests."""
    interval = Interval(canary=side(50, slow=50), stable=side(950))
    _, assessment = looked(begin_judge(), interval)
    assert guardrail(assessment, "latency_p99").standing is Standing.COLLECTING
    assert guardrail(assessment, "latency_p99").e_value == pytest.approx(1)


def test_a_canary_three_times_as_slow_is_aborted_with_both_latencies_named() -> None:
    """Users would wait although the judge saw it."""
    slow = Interval(canary=side(5, bucket=latency_bucket(15_000)), stable=side(95))
    state, assessment = looked(begin_judge(), slow, times=120)
    assert assessment.is_breached
    assert state.seconds < 60
    assert "ms with the canary against 5.2 ms with stable; slower than" in assessment.reason
    first = assessment.guardrails[0]
    assert first.canary_value == pytest.approx(15_000, rel=0.06)
    assert first.stable_value == pytest.approx(5_000, rel=0.06)


@pytest.mark.slow
def test_a_canary_a_tenth_slower_is_left_alone() -> None:
    """Every canary is a little colder than stable; none could ever be promoted."""
    tenth = Interval(
        canary=side(300, bucket=latency_bucket(22_000)),
        stable=side(5700, bucket=latency_bucket(20_000)),
    )
    _, assessment = looked(begin_judge(), tenth, times=24 * 60, seconds=60.0)
    assert not assessment.is_breached


def test_one_pause_of_a_few_seconds_aborts_nothing_at_any_rate_of_requests() -> None:
    """A garbage collection of the canary would take a good version back."""
    for factor in (1, 20, 200):
        calm = Interval(canary=side(5 * factor), stable=side(95 * factor))
        pause = Interval(canary=side(5 * factor, slow=5 * factor), stable=side(95 * factor))
        state, _ = looked(begin_judge(), calm, times=30)
        state, assessment = looked(state, pause, times=4)
        assert not assessment.is_breached, assessment.reason


def test_a_canary_that_stays_slow_is_a_catastrophe_although_stable_pauses_now_and_then() -> None:
    """After an hour with pauses of stable no slowness would count any more."""
    calm = Interval(canary=side(300), stable=side(5700))
    pause = Interval(canary=side(300), stable=side(5700, slow=2500))
    state = begin_judge()
    for number in range(120):
        state, assessment = looked(state, calm if number % 10 else pause, seconds=60.0)
        assert not assessment.is_breached
    begun = state.seconds
    slow = Interval(canary=side(5, slow=5), stable=side(95))
    state, assessment = looked(state, slow, times=300)
    assert assessment.is_breached
    assert 20 <= state.seconds - begun <= 90


def test_latency_is_only_shown_when_it_is_not_judged() -> None:
    """Whoever switched latency off would be aborted for it all the same."""
    policy = JudgePolicy(is_latency_judged=False)
    slow = Interval(canary=side(50, slow=50), stable=side(950))
    _, assessment = looked(begin_judge(), slow, times=300, policy=policy)
    assert not assessment.is_breached
    assert guardrail(assessment, "errors").limit == pytest.approx(100)
    assert guardrail(assessment, "latency_p99").canary_value > 10_000


def test_a_metric_of_the_users_own_aborts_and_is_named() -> None:
    """Returned parcels would be counted and never acted upon."""
    counts = MetricCounts(canary_events=4, canary_trials=10, stable_events=5, stable_trials=190)
    interval = Interval(canary=side(10), stable=side(190), metrics={"returns": counts})
    _, assessment = looked(begin_judge(), interval, times=400)
    assert assessment.is_breached
    assert assessment.reason.startswith("returns: 40.0 % of ")
    assert "canary trials against 2.6 % of stable's; evidence" in assessment.reason
    assert assessment.guardrails[0].limit == pytest.approx(500)


def test_a_metric_without_news_keeps_its_evidence() -> None:
    """A metric that is posted once an hour would be forgotten between two posts."""
    counts = MetricCounts(canary_events=40, canary_trials=100, stable_events=50, stable_trials=1900)
    with_news = Interval(metrics={"returns": counts})
    state, before = looked(begin_judge(), with_news)
    _, after = looked(state, Interval())
    assert guardrail(before, "returns").e_value > 1
    assert guardrail(after, "returns").e_value == guardrail(before, "returns").e_value
    assert guardrail(after, "returns").standing is Standing.COLLECTING


def test_no_more_than_a_bounded_number_of_metrics_is_followed() -> None:
    """A client that invents names would fill the database."""
    counts = MetricCounts(canary_trials=1, stable_trials=1)
    many = Interval(metrics={f"metric-{number}": counts for number in range(100)})
    state, assessment = looked(begin_judge(), many, times=2)
    assert list(state.total.metrics) == [f"metric-{number}" for number in range(MOST_OWN_METRICS)]
    assert len(assessment.guardrails) == 4 + MOST_OWN_METRICS


@pytest.mark.parametrize(
    ("interval", "share", "words"),
    [
        (Interval(), None, "insufficient: 0 canary requests seen in this step"),
        (
            Interval(canary=side(298), stable=side(9000)),
            0.05,
            "298 canary requests seen in this step, at least 299 are needed",
        ),
        (Interval(canary=side(5000)), 0.5, "none of stable's to compare them with"),
        (Interval(canary=side(5000)), None, "none of stable's to compare them with"),
        (Interval(stable=side(5000)), None, "insufficient: 0 canary requests"),
    ],
)
def test_too_little_traffic_is_said_with_its_numbers(
    interval: Interval, share: float | None, words: str
) -> None:
    """A version that nobody asked would be promoted."""
    _, assessment = looked(begin_judge(), interval, share=share)
    assert not assessment.is_sufficient
    assert not assessment.is_breached
    assert words in assessment.reason
    assert {one.standing for one in assessment.guardrails} == {Standing.COLLECTING}


def test_a_policy_that_wants_no_requests_still_needs_one() -> None:
    """A bound of zero would promote without traffic."""
    _, assessment = looked(begin_judge(), Interval(), policy=JudgePolicy(minimum_requests=0))
    assert not assessment.is_sufficient


def test_with_all_traffic_on_the_canary_there_is_nothing_to_compare_with() -> None:
    """A rollout at 100 % would wait for stable's requests forever."""
    _, assessment = looked(begin_judge(), Interval(canary=side(5000, errors=50)), share=1.0)
    assert assessment.is_sufficient
    assert guardrail(assessment, "errors").standing is Standing.COLLECTING


def test_each_step_counts_its_own_requests_and_keeps_the_evidence() -> None:
    """A step would pass on the requests of the step before, or forgive what was seen in it."""
    interval = Interval(canary=side(400, errors=3), stable=side(7600, errors=38))
    state, before = looked(begin_judge(), interval)
    assert before.is_sufficient
    assert guardrail(before, "errors").standing is Standing.HOLDS
    state, after = looked(start_step(state), Interval(canary=side(1), stable=side(19)))
    assert not after.is_sufficient
    assert guardrail(after, "errors").canary_trials == 401
    assert guardrail(after, "errors").e_value == guardrail(before, "errors").e_value


def test_a_canary_that_hangs_is_seen_before_its_requests_time_out() -> None:
    """Its requests are in no log for thirty seconds, and every twentieth user waits."""
    well = Interval(canary=side(5), stable=side(95))
    hanging = Interval(stable=side(95))
    state, _ = looked(begin_judge(), well, times=10, share=0.05)
    begun = state.seconds
    state, assessment = looked(state, hanging, times=20, share=0.05)
    assert assessment.is_breached
    assert state.seconds - begun <= 5
    assert assessment.reason == (
        "answers: none from the canary for 5.0 s, while stable answered 475 requests"
        " and 5.0 % were meant for the canary"
    )


def test_silence_means_nothing_while_the_weight_is_not_known_to_be_in_force() -> None:
    """A canary would be aborted for requests that were never sent to it."""
    nothing = Interval(stable=side(950))
    state, assessment = looked(begin_judge(), nothing, times=20)
    assert not assessment.is_breached
    _, assessment = looked(state, nothing, share=0.05)
    assert not assessment.is_breached
    _, assessment = looked(state, Interval(), times=100, share=0.05)
    assert not assessment.is_breached
    _, assessment = looked(state, nothing, times=100, share=0.0)
    assert not assessment.is_breached


def test_a_canary_may_take_its_time_where_latency_is_not_judged() -> None:
    """A larger model that answers after ten seconds would be aborted before its first answer."""
    policy = JudgePolicy(is_latency_judged=False)
    nothing = Interval(stable=side(950))
    _, assessment = looked(begin_judge(), nothing, times=9, share=0.05, policy=policy)
    assert not assessment.is_breached


def test_slow_answers_are_no_silence_where_stable_is_as_slow() -> None:
    """After the weight changed, what comes back first was sent before: all of it stable's."""
    slow = latency_bucket(10_000_000)
    returning = Interval(stable=side(95, bucket=slow))
    _, assessment = looked(begin_judge(), returning, times=15, share=0.05)
    assert not assessment.is_breached


def test_little_traffic_adds_up_to_evidence() -> None:
    """With one request per look no look alone holds both sides, and nothing would ever count."""
    good = Interval(stable=side(1))
    bad = Interval(canary=side(1, errors=1))
    state = begin_judge()
    for _ in range(12):
        state, assessment = looked(state, bad)
        state, assessment = looked(state, good, times=2)
    assert guardrail(assessment, "errors").e_value > 100 or assessment.is_breached


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -5.0, 0.0])
def test_a_time_that_makes_no_sense_counts_as_none(seconds: float) -> None:
    """A clock that jumps would turn the judge's figures into NaN."""
    state, assessment = looked(
        begin_judge(), Interval(canary=side(5), stable=side(9)), seconds=seconds
    )
    assert state.seconds == 0
    assert all(math.isfinite(one.e_value) for one in assessment.guardrails)


def test_counts_that_make_no_sense_give_finite_figures() -> None:
    """More events than trials, or monstrous numbers, would stop the controller."""
    absurd = MetricCounts(
        canary_events=10**9, canary_trials=1, stable_events=10**9, stable_trials=10**12
    )
    interval = Interval(
        canary=SideCounts(requests=10**9, errors=10**9, latency={-4: 7, 5000: 10**9}),
        stable=SideCounts(requests=10**9, latency={0: 10**9, 5000: 1}),
        metrics={"absurd": absurd},
    )
    state, assessment = looked(begin_judge(), interval, times=3, seconds=60.0)
    state, assessment = look(state, interval, 60.0, POLICY)
    for one in assessment.guardrails:
        assert math.isfinite(one.e_value)
        assert math.isfinite(one.canary_value)
    assert all(math.isfinite(value) for values in state.memory.values() for value in values)


def test_the_state_stays_small_and_survives_json(
    worst_case: Mapping[str, MetricCounts],
) -> None:
    """Two days of looks would grow the row that is written twice a second."""
    latency = {bucket: 1 + bucket % 7 for bucket in range(310)}
    full = SideCounts(requests=2000, errors=3, latency=latency)
    interval = Interval(canary=full, stable=full, metrics=worst_case)
    state = begin_judge()
    for _ in range(100):
        state, _ = looked(state, interval, seconds=30.0)
    content = msgspec.json.encode(state)
    assert len(content) < 64 * 1024
    assert msgspec.json.decode(content, type=JudgeState) == state


@pytest.fixture
def worst_case() -> dict[str, MetricCounts]:
    counts = MetricCounts(canary_events=3, canary_trials=70, stable_events=31, stable_trials=913)
    return {f"{'a-rather-long-name-of-a-metric':s}-{number}": counts for number in range(40)}


def test_figures_read_like_people_write_them() -> None:
    """A reason at night would be full of digits that nobody needs."""
    assert [share_words(rate) for rate in (0.0, 0.0004, 0.004, 0.121, 1.0)] == [
        "0 %",
        "0.040 %",
        "0.4 %",
        "12.1 %",
        "100 %",
    ]
    assert [latency_words(value) for value in (800.0, 41_300.0, 2_500_000.0)] == [
        "0.8 ms",
        "41 ms",
        "2.5 s",
    ]
    assert evidence_words(1840.2, 400) == "evidence 1,840 passes the limit of 400"
    assert evidence_words(5e9, 400) == ("evidence more than a million passes the limit of 400")
