"""How a rollout begins and goes on by itself, look by look.

    VALIDATING → WARMING → CANARY[0] → … → CANARY[n] → PROMOTING → LIVE

A breach or a canary that cannot run leads to ROLLING_BACK and, once the data plane confirmed
that no request goes to the canary, to ROLLED_BACK; before any traffic was moved, to FAILED.
What a person must decide leads to PAUSED, which keeps the weight.

Invariants:
    * The weight only ever rises to the plan's next step, or falls to 0; after a breach it never
      rises again, and a final state stays.
    * A step is left upwards only when it was held long enough with enough evidence, or a person
      promoted it; a breach outranks both.
    * Time counts only while the data plane confirms the weight, and at most ``MOST_SECONDS`` per
      look: a clock that jumps neither promotes nor hangs, nor does a server that was down.
    * The judge goes on while a rollout is paused with traffic on the canary.
    * A look that has nothing to judge and decides nothing leaves the rollout as it was, so that
      whoever stores rollouts writes nothing while a version is validated or starts.

This module moves no traffic and stores nothing; the same looks give the same steps.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from stemma.domain.errors import ConflictError
from stemma.domain.judge import Guardrail, begin_judge, look, start_step
from stemma.domain.rollout import Decision, Observations, Rollout, RolloutState, Step
from stemma.domain.rollout_plan import check_plan
from stemma.domain.routing import ALL_TRAFFIC_BP

MOST_SECONDS: Final = 10.0
"""Most that one look may add to the time a step was held."""

_SECONDS_BETWEEN_LOOK_LINES: Final = 60.0
_SECONDS_BETWEEN_IDLE_LOOKS: Final = 5.0
_JUDGED: Final = {RolloutState.CANARY, RolloutState.PROMOTING}


def begin(draft: Rollout) -> Step:
    """Return the rollout that is to be validated first.

    Raises:
        InvalidInputError: If its plan makes no sense.
        ConflictError: If it began already (``rollout-begun``).
    """
    if draft.state is not RolloutState.DRAFT:
        raise ConflictError(
            f"rollout {draft.id} of {draft.model} already is {draft.state.value}",
            code="rollout-begun",
            hint=f"stemma rollout status {draft.model}",
        )
    check_plan(draft.plan)
    begun = replace(draft, judge=begin_judge())
    return moved(
        begun,
        RolloutState.VALIDATING,
        f"{draft.model} {draft.canary.version} is validated before it gets traffic",
    )


def advance(rollout: Rollout, observations: Observations, now: datetime) -> Step:
    """Return what one look leads to: at most one change of state or step."""
    if rollout.state.is_final or rollout.state is RolloutState.DRAFT:
        return Step(rollout=rollout)
    seconds = 0.0
    if rollout.last_look_at is not None:
        passed = (now - rollout.last_look_at).total_seconds()
        seconds = min(max(passed, 0.0), MOST_SECONDS)
    looked = replace(rollout, last_look_at=now, position=observations.position or rollout.position)
    step = _judged(looked, observations, seconds)
    if step.rollout.state is not looked.state:
        return ended(step, now)
    went_on = _gone_on(step.rollout, observations)
    both = Step(rollout=went_on.rollout, decisions=(*step.decisions, *went_on.decisions))
    if not both.decisions and is_idle(rollout, observations, now):
        return Step(rollout=rollout)
    return ended(both, now)


def is_judged(rollout: Rollout) -> bool:
    """Return whether what requests came to is evidence now."""
    return rollout.course in _JUDGED


def is_idle(rollout: Rollout, observations: Observations, now: datetime) -> bool:
    """Return whether a look has nothing that were worth keeping."""
    if not is_judged(rollout):
        return True
    if rollout.state is not RolloutState.PAUSED or rollout.last_look_at is None:
        return False
    seen = observations.interval
    if seen.canary.requests or seen.stable.requests or seen.metrics:
        return False
    return 0.0 <= (now - rollout.last_look_at).total_seconds() < _SECONDS_BETWEEN_IDLE_LOOKS


def moved(rollout: Rollout, state: RolloutState, why: str, *, kind: str = "state") -> Step:
    """Return the rollout in another state, with the line that says so."""
    after = replace(
        rollout,
        state=state,
        resume_to=rollout.course if state is RolloutState.PAUSED else None,
        is_promoted_by_hand=False,
        reason=why,
    )
    return Step(rollout=after, decisions=(decision(after, kind, why),))


def ended(step: Step, now: datetime) -> Step:
    """Return the step with the time of its end when it led to one."""
    rollout = step.rollout
    if not rollout.state.is_final or rollout.ended_at is not None:
        return step
    return replace(step, rollout=replace(rollout, ended_at=now))


def decision(rollout: Rollout, kind: str, text: str) -> Decision:
    """Return a line of the log on a rollout as it now is."""
    return Decision(kind=kind, text=text, weight_bp=rollout.weight_bp, state=rollout.state)


def _judged(rollout: Rollout, observations: Observations, seconds: float) -> Step:
    """Let the judge look, and count the time; a breach ends it here."""
    if observations.canary_failure and rollout.course in {RolloutState.WARMING, *_JUDGED}:
        is_moved = rollout.course in _JUDGED
        return moved(
            rollout,
            RolloutState.ROLLING_BACK if is_moved else RolloutState.FAILED,
            f"the canary cannot run: {observations.canary_failure}",
        )
    if rollout.course not in _JUDGED:
        return Step(rollout=rollout)
    weight_bp = rollout.weight_bp
    is_in_force = observations.weight_in_force_bp == weight_bp
    counted = seconds if is_in_force else 0.0
    judge, assessment = look(
        rollout.judge,
        observations.interval,
        counted,
        rollout.plan.judge,
        weight_bp / ALL_TRAFFIC_BP if is_in_force else None,
    )
    is_held = is_in_force and rollout.state is RolloutState.CANARY
    after = replace(
        rollout,
        judge=judge,
        assessment=assessment,
        held_seconds=rollout.held_seconds + (seconds if is_held else 0.0),
    )
    if assessment.is_breached:
        return moved(after, RolloutState.ROLLING_BACK, assessment.reason)
    if _is_worth_a_line(rollout, after):
        line = f"{_percent(weight_bp)}, {_held_words(after)}: {assessment.reason}"
        return Step(rollout=after, decisions=(decision(after, "look", line),))
    return Step(rollout=after)


def _is_worth_a_line(before: Rollout, after: Rollout) -> bool:
    """Return whether a guardrail's standing changed, or a minute of watching is over."""
    if after.course is RolloutState.PROMOTING:
        return False
    if _standings(before) != _standings(after):
        return True
    if after.state is RolloutState.PAUSED:
        return False
    minutes = before.judge.seconds // _SECONDS_BETWEEN_LOOK_LINES
    return after.judge.seconds // _SECONDS_BETWEEN_LOOK_LINES > minutes


def _standings(rollout: Rollout) -> dict[str, str]:
    guardrails: tuple[Guardrail, ...] = ()
    if rollout.assessment is not None:
        guardrails = rollout.assessment.guardrails
    return {guardrail.metric: guardrail.standing.value for guardrail in guardrails}


def _gone_on(rollout: Rollout, observations: Observations) -> Step:
    """Return where the rollout goes from here when nothing speaks against it."""
    match rollout.state:
        case RolloutState.VALIDATING if observations.validation is not None:
            return _validated(rollout, observations)
        case RolloutState.WARMING if observations.is_canary_ready:
            return _entered(rollout, 0, observations, "the canary is ready")
        case RolloutState.CANARY:
            return _held(rollout, observations)
        case RolloutState.PROMOTING if observations.weight_in_force_bp == ALL_TRAFFIC_BP:
            return _promoted(rollout, observations)
        case RolloutState.ROLLING_BACK if observations.weight_in_force_bp == 0:
            why = f"no request goes to {rollout.canary.version} any more: {rollout.reason}"
            return moved(rollout, RolloutState.ROLLED_BACK, why)
        case _:
            return Step(rollout=rollout)


def _validated(rollout: Rollout, observations: Observations) -> Step:
    if observations.validation:
        why = observations.validation_reason or "validation passed"
        return moved(rollout, RolloutState.WARMING, why)
    why = observations.validation_reason or "validation failed"
    return moved(rollout, RolloutState.FAILED, f"validation failed: {why}")


def _held(rollout: Rollout, observations: Observations) -> Step:
    """Return the next step when this one was held long enough, with enough evidence."""
    plan, assessment = rollout.plan, rollout.assessment
    if rollout.is_promoted_by_hand:
        return _entered(rollout, rollout.step + 1, observations, "promoted by hand")
    if assessment is None or rollout.held_seconds < plan.hold_seconds:
        return Step(rollout=rollout)
    if assessment.is_sufficient:
        why = f"{_held_words(rollout)}: {assessment.reason}"
        return _entered(rollout, rollout.step + 1, observations, why)
    if rollout.held_seconds >= plan.hold_limit_seconds:
        why = f"{_held_words(rollout)}: {assessment.reason}"
        return moved(rollout, RolloutState.PAUSED, why)
    return Step(rollout=rollout)


def _entered(rollout: Rollout, index: int, observations: Observations, why: str) -> Step:
    """Return the rollout at a step; the one with all traffic needs that nothing blocks it."""
    weight_bp = rollout.plan.steps_bp[index]
    if weight_bp == ALL_TRAFFIC_BP and observations.promotion_block:
        return moved(
            rollout, RolloutState.PAUSED, f"promotion is blocked: {observations.promotion_block}"
        )
    text = f"step {index + 1} of {len(rollout.plan.steps_bp)}, {_percent(weight_bp)}: {why}"
    at_step = replace(rollout, step=index, held_seconds=0.0, judge=start_step(rollout.judge))
    state = RolloutState.PROMOTING if weight_bp == ALL_TRAFFIC_BP else RolloutState.CANARY
    return moved(at_step, state, text, kind="step")


def _promoted(rollout: Rollout, observations: Observations) -> Step:
    if observations.promotion_block:
        return moved(
            rollout, RolloutState.PAUSED, f"promotion is blocked: {observations.promotion_block}"
        )
    return moved(
        rollout,
        RolloutState.LIVE,
        f"{rollout.model} {rollout.canary.version} answers every request",
    )


def _percent(weight_bp: int) -> str:
    return f"{weight_bp / 100:g} %"


def _held_words(rollout: Rollout) -> str:
    return f"held {rollout.held_seconds:,.0f} s of {rollout.plan.hold_seconds:,} s"
