"""A rollout's plan: read from what a person typed, and refused when it makes no sense.

Invariants:
    * A checked plan rises from step to step and ends with all traffic.

This module starts nothing; see ``stemma.domain.rollout_steps``.
"""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise
from typing import Final

from stemma.domain.errors import InvalidInputError
from stemma.domain.rollout import RolloutPlan
from stemma.domain.routing import ALL_TRAFFIC_BP

_PERCENT: Final = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,2})?)\s*%?\s*")
_HOLD: Final = re.compile(r"\s*([0-9]{1,9})\s*([smhd])\s*")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECONDS: Final = 366 * 86400
_STEPS_HINT: Final = "--steps 5,25,50,100"
_HOLD_HINT: Final = "--hold 24h (or 20s, 30m, 1d)"


def parse_steps(text: str) -> tuple[int, ...]:
    """Return the steps in basis points of percentages like ``5,25,50,100``.

    Raises:
        InvalidInputError: If a part is no percentage, or the steps make no plan.
    """
    steps: list[int] = []
    for part in text.split(","):
        match = _PERCENT.fullmatch(part)
        if match is None:
            raise InvalidInputError(
                f"step {part.strip()!r} in {text!r} is no percentage",
                code="bad-steps",
                hint=_STEPS_HINT,
            )
        steps.append(int(Decimal(match[1]) * 100))
    _check_steps(tuple(steps))
    return tuple(steps)


def parse_hold(text: str) -> int:
    """Return the seconds of a time like ``20s``, ``30m``, ``24h`` or ``1d``.

    Raises:
        InvalidInputError: If it is none, or longer than a year.
    """
    match = _HOLD.fullmatch(text)
    if match is None:
        raise InvalidInputError(
            f"{text!r} is no time: a whole number and s, m, h or d",
            code="bad-hold",
            hint=_HOLD_HINT,
        )
    seconds = int(match[1]) * _SECONDS[match[2]]
    _check_seconds("hold", seconds)
    return seconds


def check_plan(plan: RolloutPlan) -> None:
    """Refuse a plan that makes no sense.

    Raises:
        InvalidInputError: If it does not rise to all traffic, or a time or bound is wrong.
    """
    _check_steps(plan.steps_bp)
    _check_seconds("hold", plan.hold_seconds)
    _check_seconds("hold limit", plan.hold_limit_seconds)
    if plan.hold_limit_seconds < plan.hold_seconds:
        raise InvalidInputError(
            f"the hold limit of {plan.hold_limit_seconds:,} s is shorter than the hold of"
            f" {plan.hold_seconds:,} s",
            code="bad-hold",
            hint="--hold-limit 48h",
        )
    judge = plan.judge
    if not 0 < judge.false_alarm_rate < 1:
        raise InvalidInputError(
            f"a false alarm rate of {judge.false_alarm_rate} is not between 0 and 1",
            code="bad-judge-policy",
        )
    if not 0 <= judge.margin <= 100:  # noqa: PLR2004 - a hundredfold rate is no margin
        raise InvalidInputError(
            f"a margin of {judge.margin} is not between 0 and 100", code="bad-judge-policy"
        )
    if judge.minimum_requests < 1:
        raise InvalidInputError(
            f"{judge.minimum_requests} requests prove nothing: a step needs at least 1",
            code="bad-judge-policy",
            hint="--min-requests 299",
        )


def _check_steps(steps_bp: tuple[int, ...]) -> None:
    def refuse(why: str) -> InvalidInputError:
        percents = ", ".join(f"{step / 100:g} %" for step in steps_bp)
        return InvalidInputError(f"steps {percents}: {why}", code="bad-steps", hint=_STEPS_HINT)

    if not steps_bp:
        raise InvalidInputError("a plan without steps", code="bad-steps", hint=_STEPS_HINT)
    for step in steps_bp:
        if not 1 <= step <= ALL_TRAFFIC_BP:
            raise refuse(f"{step / 100:g} % is not between 0.01 and 100 %")
    for lower, higher in pairwise(steps_bp):
        if lower >= higher:
            raise refuse(f"{higher / 100:g} % does not rise above {lower / 100:g} %")
    if steps_bp[-1] != ALL_TRAFFIC_BP:
        raise refuse(f"the last one is {steps_bp[-1] / 100:g} %, not 100 %")


def _check_seconds(what: str, seconds: int) -> None:
    if not 0 <= seconds <= _LONGEST_SECONDS:
        raise InvalidInputError(
            f"a {what} of {seconds:,} s is not between 0 and a year",
            code="bad-hold",
            hint=_HOLD_HINT,
        )
