"""Plans: what a person types is read exactly or refused with its words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.domain.judge import JudgePolicy
from stemma.domain.rollout import RolloutPlan
from stemma.domain.rollout_plan import check_plan, parse_hold, parse_steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("5,25,50,100", (500, 2500, 5000, 10_000)),
        (" 0.5 , 100 ", (50, 10_000)),
        ("1.25%,100 %", (125, 10_000)),
        ("100", (10_000,)),
    ],
)
def test_percentages_are_read_as_basis_points(text: str, steps: tuple[int, ...]) -> None:
    """A canary would get another share than was asked for."""
    assert parse_steps(text) == steps


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "step '' in '' is no percentage"),
        ("5,many,100", "step 'many' in '5,many,100' is no percentage"),
        ("5,25", "steps 5 %, 25 %: the last one is 25 %, not 100 %"),
        ("25,5,100", "5 % does not rise above 25 %"),
        ("5,5,100", "5 % does not rise above 5 %"),
        ("0,100", "0 % is not between 0.01 and 100 %"),
        ("50,101", "101 % is not between 0.01 and 100 %"),
        ("0.001,100", "'0.001'"),
        ("-5,100", "'-5'"),
        ("nan,100", "'nan'"),
    ],
)
def test_steps_that_make_no_sense_are_refused_with_their_words(text: str, words: str) -> None:
    """A typing error would send all traffic to the canary."""
    with pytest.raises(InvalidInputError) as caught:
        parse_steps(text)
    assert words in caught.value.message
    assert caught.value.code == "bad-steps"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20s", 20), ("30m", 1800), ("24h", 86_400), ("1d", 86_400), (" 0 s ", 0)],
)
def test_times_are_read_with_their_unit(text: str, seconds: int) -> None:
    """A step would be held for minutes instead of hours."""
    assert parse_hold(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "1.5h", "-1h", "1w", "9999999d", "1h30m"])
def test_times_that_make_no_sense_are_refused(text: str) -> None:
    """A time without a unit would be guessed."""
    with pytest.raises(InvalidInputError) as caught:
        parse_hold(text)
    assert caught.value.code == "bad-hold"
    assert "24h" in caught.value.hint


def test_the_default_plan_is_a_plan() -> None:
    """Nobody could start a rollout without options."""
    check_plan(RolloutPlan())


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (RolloutPlan(steps_bp=()), "a plan without steps"),
        (RolloutPlan(steps_bp=(500, 20_000)), "200 % is not between"),
        (RolloutPlan(hold_seconds=-1), "a hold of -1 s"),
        (RolloutPlan(hold_limit_seconds=-1, hold_seconds=0), "a hold limit of -1 s"),
        (RolloutPlan(hold_seconds=60, hold_limit_seconds=30), "limit of 30 s is shorter"),
        (RolloutPlan(judge=JudgePolicy(false_alarm_rate=0.0)), "false alarm rate of 0.0"),
        (RolloutPlan(judge=JudgePolicy(false_alarm_rate=float("nan"))), "rate of nan"),
        (RolloutPlan(judge=JudgePolicy(margin=-0.1)), "a margin of -0.1"),
        (RolloutPlan(judge=JudgePolicy(margin=float("inf"))), "a margin of inf"),
        (RolloutPlan(judge=JudgePolicy(minimum_requests=0)), "0 requests prove nothing"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_with_what_is_wrong(
    plan: RolloutPlan, words: str
) -> None:
    """A rollout would start that can only go wrong."""
    with pytest.raises(InvalidInputError) as caught:
        check_plan(plan)
    assert words in caught.value.message
    check_plan(
        replace(
            plan,
            steps_bp=(10_000,),
            hold_seconds=0,
            hold_limit_seconds=0,
            judge=JudgePolicy(),
        )
    )
