"""The state machine: every state's way on, and what is never done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stemma.domain.errors import ConflictError, IntegrityError, InvalidInputError
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
from stemma.domain.rollout_steps import MOST_SECONDS, advance, begin
from stemma.domain.rollout_text import decode_rollout, encode_rollout
from stemma.domain.traffic import Interval, SideCounts

START = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
PLAN = RolloutPlan(steps_bp=(500, 5000, 10_000), hold_seconds=20, hold_limit_seconds=40)
GOOD = Interval(
    canary=SideCounts(requests=100, latency={130: 100}),
    stable=SideCounts(requests=1900, errors=2, latency={130: 1900}),
)
BAD = Interval(
    canary=SideCounts(requests=100, errors=60, latency={130: 100}),
    stable=SideCounts(requests=1900, latency={130: 1900}),
)


def draft(plan: RolloutPlan = PLAN) -> Rollout:
    return Rollout(
        id=RolloutId("ro-00000001"),
        model="digits",
        canary=Deployed(version="1.1.0", manifest="sha256:b", configuration="sha256:d"),
        stable=Deployed(version="1.0.0", manifest="sha256:a", configuration="sha256:c"),
        plan=plan,
        started_at=START,
        started_by="ann",
    )


class Drive:
    """Looks at a rollout once a second, as the controller does."""

    def __init__(self, plan: RolloutPlan = PLAN) -> None:
        self.now = START
        self.log: list[Decision] = []
        self.rollout = draft(plan)
        self.take(begin(self.rollout))

    def take(self, step: Step) -> Rollout:
        self.rollout = step.rollout
        self.log.extend(step.decisions)
        return self.rollout

    def look(self, seen: Observations | None = None, *, seconds: float = 1.0) -> Rollout:
        self.now += timedelta(seconds=seconds)
        healthy = Observations(
            interval=GOOD,
            validation=True,
            is_canary_ready=True,
            weight_in_force_bp=self.rollout.weight_bp,
        )
        return self.take(advance(self.rollout, seen or healthy, self.now))

    def ask(self, asked: RolloutCommand, reason: str = "") -> Rollout:
        return self.take(command(self.rollout, asked, "bob", reason, self.now))

    def until(self, state: RolloutState, *, most: int = 200) -> Rollout:
        for _ in range(most):
            if self.rollout.state is state:
                return self.rollout
            self.look()
        raise AssertionError(f"{self.rollout.state} after {most} looks: {self.rollout.reason}")


@pytest.fixture
def drive() -> Drive:
    return Drive()


@pytest.fixture
def on_canary(drive: Drive) -> Drive:
    drive.until(RolloutState.CANARY)
    drive.look()
    return drive


def test_a_good_version_goes_through_every_step_to_live(drive: Drive) -> None:
    """A version without a fault would never serve, or skip a step."""
    rollout = drive.until(RolloutState.LIVE)
    assert rollout.ended_at == drive.now
    assert [one.kind for one in drive.log if one.kind != "look"] == [
        *("state", "state"),
        *("step", "step", "step"),
        "state",
    ]
    assert [one.weight_bp for one in drive.log if one.kind == "step"] == [500, 5000, 10_000]
    assert drive.log[-1].text == "digits 1.1.0 answers every request"
    assert (drive.now - START).total_seconds() >= 2 * PLAN.hold_seconds


def test_only_a_draft_with_a_plan_can_begin() -> None:
    """A rollout would start twice, or with a plan that goes nowhere."""
    begun = begin(draft()).rollout
    assert begun.state is RolloutState.VALIDATING
    with pytest.raises(ConflictError) as caught:
        begin(begun)
    assert caught.value.code == "rollout-begun"
    with pytest.raises(InvalidInputError):
        begin(draft(replace(PLAN, steps_bp=(500,))))


def test_a_draft_does_not_go_on_by_itself() -> None:
    """A rollout nobody began would move traffic."""
    rollout = draft()
    assert advance(rollout, Observations(), START) == Step(rollout=rollout)


def test_validation_that_runs_is_waited_for_and_that_fails_ends_it(drive: Drive) -> None:
    """A version that failed its validation would get traffic."""
    assert drive.look(Observations()).state is RolloutState.VALIDATING
    rollout = drive.look(Observations(validation=False, validation_reason="accuracy 0.91 < 0.95"))
    assert rollout.state is RolloutState.FAILED
    assert rollout.reason == "validation failed: accuracy 0.91 < 0.95"
    assert rollout.ended_at == drive.now
    assert drive.look() == rollout


def test_traffic_waits_until_the_canary_is_ready(drive: Drive) -> None:
    """The first users would meet a process that still loads."""
    drive.look()
    rollout = drive.look(Observations(interval=BAD))
    assert rollout.state is RolloutState.WARMING
    assert rollout.weight_bp == 0
    assert rollout.judge.looks == 0
    assert drive.look().weight_bp == 500


def test_a_canary_that_cannot_start_fails_the_rollout(drive: Drive) -> None:
    """The rollout would wait forever for a process that gave up."""
    drive.look()
    rollout = drive.look(Observations(canary_failure="gave up after 5 starts"))
    assert rollout.state is RolloutState.FAILED
    assert rollout.reason == "the canary cannot run: gave up after 5 starts"


def test_a_canary_that_dies_for_good_is_rolled_back(on_canary: Drive) -> None:
    """Traffic would go on to a process that is not there."""
    rollout = on_canary.look(Observations(canary_failure="gave up after 5 starts"))
    assert rollout.state is RolloutState.ROLLING_BACK
    assert rollout.weight_bp == 0


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_breach_rolls_back_at_once_and_ends_when_the_data_plane_says_so(
    on_canary: Drive, *, is_paused: bool
) -> None:
    """Users would go on to a version known to be broken; or it would be called done too early."""
    if is_paused:
        on_canary.ask(RolloutCommand.PAUSE)
    rollout = on_canary.look(Observations(interval=BAD, weight_in_force_bp=500))
    assert rollout.state is RolloutState.ROLLING_BACK
    assert rollout.weight_bp == 0
    assert rollout.ended_at is None
    reason = rollout.reason
    assert reason.startswith("errors: ")
    assert on_canary.look(Observations(weight_in_force_bp=500)).state is RolloutState.ROLLING_BACK
    assert on_canary.look(Observations()).state is RolloutState.ROLLING_BACK
    rollout = on_canary.look(Observations(weight_in_force_bp=0))
    assert rollout.state is RolloutState.ROLLED_BACK
    assert rollout.reason == f"no request goes to 1.1.0 any more: {reason}"
    assert rollout.ended_at == on_canary.now


def test_errors_count_but_time_does_not_while_the_weight_is_not_in_force(
    on_canary: Drive,
) -> None:
    """A step would pass without traffic while the data plane is down."""
    held = on_canary.rollout.held_seconds
    for _ in range(100):
        on_canary.look(Observations(interval=GOOD, weight_in_force_bp=None))
    assert on_canary.rollout.held_seconds == held
    assert on_canary.rollout.step == 0
    rollout = on_canary.look(Observations(interval=BAD, weight_in_force_bp=0))
    assert rollout.state is RolloutState.ROLLING_BACK


@pytest.mark.parametrize("seconds", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_neither_promotes_nor_hangs(on_canary: Drive, seconds: float) -> None:
    """Summer time, or a server that was down for a night, would end a watch of a day."""
    held = on_canary.rollout.held_seconds
    rollout = on_canary.look(seconds=seconds)
    assert held <= rollout.held_seconds <= held + MOST_SECONDS
    on_canary.until(RolloutState.LIVE)


def test_a_step_without_traffic_is_paused_as_insufficient_and_waits_again_when_resumed(
    on_canary: Drive,
) -> None:
    """A version that nobody asked would be promoted for having no errors."""
    on_canary.ask(RolloutCommand.PROMOTE)
    on_canary.look()
    assert on_canary.rollout.step == 1
    nothing = Observations(weight_in_force_bp=5000)
    looks = 0
    while on_canary.rollout.state is RolloutState.CANARY:
        on_canary.look(nothing)
        looks += 1
    assert looks == PLAN.hold_limit_seconds
    rollout = on_canary.rollout
    assert rollout.state is RolloutState.PAUSED
    assert rollout.weight_bp == 5000
    assert "insufficient: 0 canary requests seen in this step" in rollout.reason
    assert on_canary.ask(RolloutCommand.RESUME).held_seconds == 0
    assert on_canary.look(nothing).state is RolloutState.CANARY


def test_whoever_promotes_by_hand_goes_on_with_the_missing_evidence_written_down(
    on_canary: Drive,
) -> None:
    """An urgent fix would have to wait a day; or nobody would know it had not waited."""
    rollout = on_canary.ask(RolloutCommand.PROMOTE, "urgent")
    assert rollout.state is RolloutState.CANARY
    assert rollout.weight_bp == 500
    assert on_canary.log[-1].kind == "command"
    assert on_canary.log[-1].text == (
        "promoted by bob: urgent (held 1 s of 20 s;"
        " insufficient: 100 canary requests seen in this step, at least 299 are needed)"
    )
    rollout = on_canary.look()
    assert rollout.weight_bp == 5000
    assert not rollout.is_promoted_by_hand
    assert on_canary.look().step == 1


def test_promoting_by_hand_does_not_override_a_breach(on_canary: Drive) -> None:
    """One keystroke would send all users to a broken version."""
    on_canary.ask(RolloutCommand.PROMOTE)
    rollout = on_canary.look(Observations(interval=BAD, weight_in_force_bp=500))
    assert rollout.state is RolloutState.ROLLING_BACK


def test_a_pause_for_lack_of_evidence_can_be_promoted_past(on_canary: Drive) -> None:
    """A model with few users could never be rolled out."""
    for _ in range(PLAN.hold_limit_seconds):
        on_canary.look(Observations(weight_in_force_bp=500))
    assert on_canary.rollout.state is RolloutState.PAUSED
    assert on_canary.ask(RolloutCommand.PROMOTE).state is RolloutState.CANARY
    assert on_canary.look().step == 1


def test_promoting_before_the_first_look_says_that_nothing_was_seen(drive: Drive) -> None:
    """The log would claim evidence there was none of."""
    drive.until(RolloutState.CANARY)
    drive.ask(RolloutCommand.PROMOTE)
    assert "nothing was seen yet" in drive.log[-1].text


@pytest.mark.parametrize("steps", [(500, 10_000), (10_000,)])
def test_a_blocked_promotion_pauses_before_all_traffic_moves(steps: tuple[int, ...]) -> None:
    """A version would take over although the way back was not tried lately."""
    drive = Drive(replace(PLAN, steps_bp=steps))
    for _ in range(60):
        drive.look(
            Observations(
                interval=GOOD,
                validation=True,
                is_canary_ready=True,
                weight_in_force_bp=drive.rollout.weight_bp,
                promotion_block="the last drill is 9 days old",
            )
        )
    assert drive.rollout.state is RolloutState.PAUSED
    assert drive.rollout.weight_bp < 10_000
    assert drive.rollout.reason == "promotion is blocked: the last drill is 9 days old"
    drive.ask(RolloutCommand.RESUME)
    drive.until(RolloutState.LIVE, most=5)


def test_a_block_that_appears_late_holds_the_rollout_at_all_traffic(drive: Drive) -> None:
    """It would be called live although promotion is forbidden."""
    drive.until(RolloutState.PROMOTING)
    assert drive.look(Observations(weight_in_force_bp=5000)).state is RolloutState.PROMOTING
    blocked = Observations(weight_in_force_bp=10_000, promotion_block="drill failed")
    rollout = drive.look(blocked)
    assert (rollout.state, rollout.weight_bp) == (RolloutState.PAUSED, 10_000)
    drive.ask(RolloutCommand.RESUME)
    assert drive.look().state is RolloutState.LIVE


def test_a_pause_keeps_the_weight_and_stops_the_time(on_canary: Drive) -> None:
    """Users would be moved, or the step pass, while a person said wait."""
    held = on_canary.rollout.held_seconds
    rollout = on_canary.ask(RolloutCommand.PAUSE, "sale today")
    assert rollout.reason == "paused by bob: sale today"
    for _ in range(100):
        rollout = on_canary.look()
    assert (rollout.state, rollout.weight_bp) == (RolloutState.PAUSED, 500)
    assert rollout.held_seconds == held
    assert rollout.needs_canary
    assert on_canary.ask(RolloutCommand.RESUME).state is RolloutState.CANARY
    on_canary.until(RolloutState.LIVE)


def test_a_pause_before_traffic_goes_on_where_it_was(drive: Drive) -> None:
    """A rollout paused while it warms up would get traffic, or start over."""
    drive.look()
    assert drive.ask(RolloutCommand.PAUSE).weight_bp == 0
    assert drive.look().state is RolloutState.PAUSED
    assert drive.ask(RolloutCommand.RESUME).state is RolloutState.WARMING
    drive.ask(RolloutCommand.PAUSE)
    assert drive.look(Observations(canary_failure="no")).state is RolloutState.FAILED


def test_an_abort_takes_traffic_back_or_ends_what_had_none(drive: Drive) -> None:
    """A version would keep users after a person took it back."""
    rollout = command(drive.rollout, RolloutCommand.ABORT, "", "", START).rollout
    assert rollout.state is RolloutState.ROLLED_BACK
    assert rollout.reason == "aborted by hand"
    assert rollout.ended_at == START
    for state in (RolloutState.CANARY, RolloutState.PROMOTING):
        aborted = command(drive.until(state), RolloutCommand.ABORT, "bob", "slow", START).rollout
        assert aborted.state is RolloutState.ROLLING_BACK
        assert aborted.weight_bp == 0
        assert aborted.ended_at is None


def test_commands_that_make_no_sense_are_refused_with_a_hint(drive: Drive) -> None:
    """A person would believe that something happened."""

    def refused(rollout: Rollout, asked: RolloutCommand, code: str) -> None:
        with pytest.raises(ConflictError) as caught:
            command(rollout, asked, "bob", "", START)
        assert caught.value.code == code
        assert caught.value.hint.startswith("stemma rollout ")
        assert caught.value.message == (
            f"rollout ro-00000001 of digits is {rollout.state.value};"
            f" it cannot be asked to {asked.value}"
        )

    refused(drive.rollout, RolloutCommand.PROMOTE, "nothing-to-promote")
    refused(drive.rollout, RolloutCommand.RESUME, "rollout-not-paused")
    paused = command(drive.rollout, RolloutCommand.PAUSE, "bob", "", START).rollout
    refused(paused, RolloutCommand.PAUSE, "rollout-paused")
    refused(paused, RolloutCommand.PROMOTE, "nothing-to-promote")
    canary = drive.until(RolloutState.CANARY)
    back = command(canary, RolloutCommand.ABORT, "bob", "", START).rollout
    refused(back, RolloutCommand.ABORT, "rollout-rolling-back")
    refused(back, RolloutCommand.PAUSE, "rollout-rolling-back")
    live = drive.until(RolloutState.LIVE)
    for asked in RolloutCommand:
        refused(live, asked, "rollout-ended")


def test_the_log_stays_short_however_often_one_looks() -> None:
    """Two days of looks would be 345,600 lines."""
    drive = Drive(replace(PLAN, hold_seconds=600, hold_limit_seconds=600))
    drive.until(RolloutState.CANARY)
    drive.log.clear()
    for _ in range(1000):
        drive.look(seconds=0.5)
    assert len(drive.log) <= 500 / 60 + 3
    assert drive.log[-1].text.startswith("5 %, held 480 s of 600 s: holds: errors 0 % of ")
    drive.ask(RolloutCommand.PAUSE)
    drive.log.clear()
    for _ in range(200):
        drive.look()
    assert drive.log == []


def test_the_position_in_the_log_moves_with_the_counts(on_canary: Drive) -> None:
    """A request would be counted twice, or never."""
    position = LogPosition(file="access.log:7", offset_bytes=4096)
    assert on_canary.look(Observations(position=position)).position == position
    assert on_canary.look(Observations()).position == position
    assert on_canary.rollout.last_look_at == on_canary.now


def test_what_was_served_before_the_canary_is_not_counted(drive: Drive) -> None:
    """Requests that came before the canary had any would be taken for evidence."""
    drive.until(RolloutState.WARMING)
    position = LogPosition(file="access.log:7", offset_bytes=4096)
    entered = drive.look(Observations(position=position, is_canary_ready=True, interval=GOOD))
    assert entered.state is RolloutState.CANARY
    assert entered.position == position
    assert entered.judge.total == Interval()


def test_a_look_that_has_nothing_to_judge_leaves_the_rollout_as_it_was(drive: Drive) -> None:
    """A rollout that only waits would be written to the disk twice a second."""
    before = drive.rollout
    assert drive.look(Observations(interval=GOOD, position=LogPosition(offset_bytes=1))) == before
    drive.until(RolloutState.WARMING)
    before = drive.rollout
    assert drive.look(Observations(interval=GOOD, position=LogPosition(offset_bytes=1))) == before


def test_a_paused_rollout_without_requests_is_looked_at_rarely(on_canary: Drive) -> None:
    """A pause over the weekend would write to the disk all the time."""
    on_canary.ask(RolloutCommand.PAUSE)
    weight = on_canary.rollout.weight_bp
    kept = {
        on_canary.look(Observations(weight_in_force_bp=weight), seconds=0.5).last_look_at
        for _ in range(40)
    }
    assert 2 < len(kept) <= 6


def test_a_stored_rollout_comes_back_and_garbage_is_refused(on_canary: Drive) -> None:
    """A server that restarts would forget what the judge knew."""
    rollout = on_canary.rollout
    assert decode_rollout(encode_rollout(rollout)) == rollout
    for garbage in (b"", b"{}", b"\xff", b'{"id": 7}'):
        with pytest.raises(IntegrityError) as caught:
            decode_rollout(garbage)
        assert caught.value.code == "rollout-unreadable"
