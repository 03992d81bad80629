"""Laws of a rollout, under any sequence of looks, commands and clocks."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stemma.domain.errors import ConflictError
from stemma.domain.judge import (
    Assessment,
    Guardrail,
    JudgePolicy,
    JudgeState,
    Standing,
    begin_judge,
    look,
)
from stemma.domain.rollout import (
    Decision,
    Deployed,
    LogPosition,
    Observations,
    Rollout,
    RolloutCommand,
    RolloutId,
    RolloutPlan,
    RolloutState,
    Step,
)
from stemma.domain.rollout_commands import command
from stemma.domain.rollout_steps import advance, begin
from stemma.domain.rollout_text import decode_rollout, encode_rollout
from stemma.domain.traffic import Interval, MetricCounts, SideCounts

pytestmark = pytest.mark.slow

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = st.integers(0, 400)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
LATENCY = st.dictionaries(st.integers(0, 300), st.integers(1, 50), max_size=4)
SIDE = st.builds(SideCounts, requests=COUNT, errors=COUNT, rescued=COUNT, latency=LATENCY)
METRIC = st.builds(
    MetricCounts,
    canary_events=COUNT,
    canary_trials=COUNT,
    stable_events=COUNT,
    stable_trials=COUNT,
)
INTERVAL = st.builds(
    Interval,
    canary=SIDE,
    stable=SIDE,
    metrics=st.dictionaries(st.text(max_size=5), METRIC, max_size=2),
)
HEALTHY = Interval(
    canary=SideCounts(requests=200, errors=1, latency={120: 200}),
    stable=SideCounts(requests=3800, errors=19, latency={120: 3800}),
)
DEPLOYED = st.builds(Deployed, version=st.text(), manifest=st.text(), configuration=st.text())
MOMENT = st.datetimes(timezones=st.just(UTC))
GUARDRAIL = st.builds(
    Guardrail,
    metric=st.text(),
    standing=st.sampled_from(Standing),
    canary_value=FINITE,
    stable_value=FINITE,
    e_value=FINITE,
    limit=FINITE,
    canary_trials=st.integers(0, 2**40),
    reason=st.text(),
)
ASSESSMENT = st.builds(
    Assessment,
    guardrails=st.lists(GUARDRAIL, max_size=3).map(tuple),
    is_breached=st.booleans(),
    is_sufficient=st.booleans(),
    reason=st.text(),
)
JUDGE = st.builds(
    JudgeState,
    looks=COUNT,
    seconds=FINITE,
    total=INTERVAL,
    memory=st.dictionaries(
        st.text(max_size=6), st.lists(FINITE, max_size=5).map(tuple), max_size=3
    ),
)
ROLLOUT = st.builds(
    Rollout,
    id=st.text().map(RolloutId),
    model=st.text(),
    canary=DEPLOYED,
    stable=DEPLOYED,
    plan=st.builds(
        RolloutPlan,
        steps_bp=st.lists(st.integers(1, 10_000), max_size=4).map(tuple),
        judge=st.builds(JudgePolicy, false_alarm_rate=FINITE, margin=FINITE),
    ),
    state=st.sampled_from(RolloutState),
    step=COUNT,
    held_seconds=FINITE,
    resume_to=st.none() | st.sampled_from(RolloutState),
    is_promoted_by_hand=st.booleans(),
    judge=JUDGE,
    position=st.builds(LogPosition, file=st.text(), offset_bytes=st.integers(0, 2**50)),
    last_look_at=st.none() | MOMENT,
    started_at=MOMENT,
    ended_at=st.none() | MOMENT,
    started_by=st.text(),
    reason=st.text(),
    assessment=st.none() | ASSESSMENT,
)


@given(ROLLOUT)
@settings(max_examples=150)
def test_a_stored_rollout_is_the_rollout(rollout: Rollout) -> None:
    """A server that restarts would go on with other counts than it stopped with."""
    assert decode_rollout(encode_rollout(rollout)) == rollout


@given(st.lists(st.tuples(INTERVAL, st.floats()), max_size=6), st.none() | st.floats(0, 1))
@settings(max_examples=80)
def test_the_judge_is_never_nan_and_never_content_with_nothing(
    looks: list[tuple[Interval, float]], share: float | None
) -> None:
    """A figure that is no number compares as neither too high nor fine."""
    state = begin_judge()
    for interval, seconds in looks:
        state, assessment = look(state, interval, seconds, JudgePolicy(), share)
        for one in assessment.guardrails:
            assert all(
                math.isfinite(value)
                for value in (one.canary_value, one.stable_value, one.e_value, one.limit)
            )
        assert not (assessment.is_sufficient and not state.total.canary.requests)
        assert not (assessment.is_sufficient and assessment.is_breached)
        stored = msgspec.json.decode(msgspec.json.encode(state), type=JudgeState)
        assert stored == state


class AnyRollout(RuleBasedStateMachine):
    """A rollout under looks of every kind, commands at any time, and a clock nobody trusts."""

    @initialize(
        steps=st.sampled_from([(500, 2500, 10_000), (1, 2, 3, 10_000), (10_000,)]),
        hold=st.sampled_from([0, 15, 60]),
    )
    def begin(self, steps: tuple[int, ...], hold: int) -> None:
        side = Deployed(version="1.0.0", manifest="m", configuration="c")
        self.now = START
        self.rollout = Rollout(
            id=RolloutId("ro-00000001"),
            model="digits",
            canary=side,
            stable=side,
            plan=RolloutPlan(steps_bp=steps, hold_seconds=hold, hold_limit_seconds=2 * hold),
            started_at=START,
        )
        self.was_breached = False
        self.passed_by_hand: set[int] = set()
        self.take(begin(self.rollout))

    def take(self, step: Step) -> None:
        before, after = self.rollout, step.rollout
        self.check_weight(before, after)
        if before.state.is_final:
            assert after == before
        if before.course is RolloutState.CANARY and after.step > before.step:
            self.check_left(before, after)
        if (before.state, before.step) != (after.state, after.step):
            assert step.decisions
        if after.assessment is not None and after.assessment.is_breached:
            self.was_breached = True
        self.check_lines(after, step.decisions)
        self.rollout = after

    def check_weight(self, before: Rollout, after: Rollout) -> None:
        if after.weight_bp > before.weight_bp:
            assert not self.was_breached
            steps = before.plan.steps_bp
            index = steps.index(after.weight_bp)
            assert index == 0 or steps[index - 1] == before.weight_bp
        elif after.weight_bp < before.weight_bp:
            assert after.weight_bp == 0

    def check_left(self, before: Rollout, after: Rollout) -> None:
        is_held = before.held_seconds + 10 >= before.plan.hold_seconds
        assert before.is_promoted_by_hand or is_held
        assert after.held_seconds == 0

    def check_lines(self, after: Rollout, decisions: tuple[Decision, ...]) -> None:
        for line in decisions:
            assert line.text
        if decisions:
            assert (decisions[-1].state, decisions[-1].weight_bp) == (after.state, after.weight_bp)

    @rule(
        seconds=st.floats(-1e6, 1e6),
        interval=st.just(Interval()) | st.just(HEALTHY) | INTERVAL,
        weight=st.sampled_from([None, 0, 500, 2500, 10_000]),
        validation=st.sampled_from([None, True, True, True, True, False]),
        is_ready=st.booleans(),
        block=st.sampled_from(["", "stale drill"]),
    )
    def look_at_anything(
        self,
        seconds: float,
        interval: Interval,
        weight: int | None,
        validation: bool | None,  # noqa: FBT001 - hypothesis passes by name
        is_ready: bool,  # noqa: FBT001
        block: str,
    ) -> None:
        self.look(
            seconds,
            Observations(
                interval=interval,
                validation=validation,
                is_canary_ready=is_ready,
                weight_in_force_bp=weight,
                promotion_block=block,
            ),
        )

    @rule(times=st.integers(1, 30), seconds=st.sampled_from([9.0, 0.5, 5.0, 3600.0]))
    def look_at_health(self, times: int, seconds: float) -> None:
        for _ in range(times):
            self.look(
                seconds,
                Observations(
                    interval=HEALTHY,
                    validation=True,
                    is_canary_ready=True,
                    weight_in_force_bp=self.rollout.weight_bp,
                ),
            )

    @rule(is_lost=st.sampled_from([False] * 7 + [True]))
    def lose_the_canary(self, is_lost: bool) -> None:  # noqa: FBT001
        if not is_lost:
            return
        self.look(1.0, Observations(canary_failure="gave up", interval=HEALTHY))

    def look(self, seconds: float, seen: Observations) -> None:
        self.now = max(START, self.now + timedelta(seconds=seconds))
        step = advance(self.rollout, seen, self.now)
        stored = decode_rollout(encode_rollout(self.rollout))
        assert advance(stored, seen, self.now) == step  # the same looks give the same steps
        self.take(step)

    @rule(asked=st.sampled_from([*RolloutCommand, *[RolloutCommand.RESUME] * 6]))
    def ask(self, asked: RolloutCommand) -> None:
        try:
            step = command(self.rollout, asked, "ann", "", self.now)
        except ConflictError:
            return
        assert step.decisions
        if asked is not RolloutCommand.ABORT:
            assert step.rollout.weight_bp == self.rollout.weight_bp
        self.take(step)

    @invariant()
    def a_breach_takes_every_user_back(self) -> None:
        if hasattr(self, "rollout") and self.was_breached:
            assert self.rollout.weight_bp == 0
            assert self.rollout.state in {RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK}

    @invariant()
    def an_end_has_a_time(self) -> None:
        if hasattr(self, "rollout"):
            assert self.rollout.state.is_final == (self.rollout.ended_at is not None)


TestAnyRollout = AnyRollout.TestCase
TestAnyRollout.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=40))
@settings(max_examples=40)
def test_no_rollout_is_live_without_having_been_at_every_step(
    looks: list[tuple[int, int]],
) -> None:
    """A version would serve everyone although nobody watched it."""
    side = Deployed(version="1.0.0", manifest="m", configuration="c")
    plan = RolloutPlan(steps_bp=(500, 5000, 10_000), hold_seconds=20, hold_limit_seconds=60)
    rollout = begin(
        Rollout(
            id=RolloutId("ro-1"),
            model="digits",
            canary=side,
            stable=side,
            plan=plan,
            started_at=START,
        )
    ).rollout
    now, held = START, dict.fromkeys(plan.steps_bp, 0.0)
    for seconds, kind in looks * 3:
        now += timedelta(seconds=seconds)
        before = rollout
        seen = Observations(
            interval=HEALTHY if kind else Interval(),
            validation=True,
            is_canary_ready=True,
            weight_in_force_bp=rollout.weight_bp if kind != 1 else None,
        )
        rollout = advance(rollout, seen, now).rollout
        if before.state is RolloutState.CANARY and kind != 1:
            held[before.weight_bp] += min(seconds, 10)
        if rollout.weight_bp > 500:
            assert held[500] >= plan.hold_seconds
        if rollout.weight_bp > 5000:
            assert held[5000] >= plan.hold_seconds
