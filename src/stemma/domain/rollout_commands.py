"""What a person may ask of a rollout: pause, resume, promote, abort.

Invariants:
    * A command that makes no sense in a state is refused and changes nothing.
    * No command brings a rollout past a breach: promoting only waives the rest of a step, and
      the next look, which judges first, goes on.
    * A pause keeps the weight; an abort takes it to 0.

This module moves no traffic and stores nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from stemma.domain.errors import ConflictError
from stemma.domain.rollout import Rollout, RolloutCommand, RolloutState, Step
from stemma.domain.rollout_steps import decision, ended, moved


def command(rollout: Rollout, asked: RolloutCommand, by: str, reason: str, now: datetime) -> Step:
    """Return what a person's command leads to.

    Args:
        rollout: The rollout as it is.
        asked: What is asked of it.
        by: Who asks.
        reason: Why, in their words; may be empty.
        now: When.

    Raises:
        ConflictError: If it makes no sense in the rollout's state.
    """
    if rollout.state.is_final:
        raise _refused(rollout, asked, "rollout-ended", f"stemma rollout status {rollout.model}")
    said = f" by {by}" if by else " by hand"
    said += f": {reason}" if reason else ""
    if asked is RolloutCommand.PAUSE:
        return _paused(rollout, f"paused{said}")
    if asked is RolloutCommand.RESUME:
        return _resumed(rollout, f"resumed{said}")
    if asked is RolloutCommand.PROMOTE:
        return _promoted(rollout, said)
    return ended(_aborted(rollout, f"aborted{said}"), now)


def _refused(rollout: Rollout, asked: RolloutCommand, code: str, hint: str) -> ConflictError:
    return ConflictError(
        f"rollout {rollout.id} of {rollout.model} is {rollout.state.value};"
        f" it cannot be asked to {asked.value}",
        code=code,
        hint=hint,
    )


def _paused(rollout: Rollout, why: str) -> Step:
    if rollout.state is RolloutState.PAUSED:
        hint = f"stemma rollout resume {rollout.model}"
        raise _refused(rollout, RolloutCommand.PAUSE, "rollout-paused", hint)
    if rollout.state is RolloutState.ROLLING_BACK:
        hint = f"stemma rollout status {rollout.model}"
        raise _refused(rollout, RolloutCommand.PAUSE, "rollout-rolling-back", hint)
    return moved(rollout, RolloutState.PAUSED, why, kind="command")


def _resumed(rollout: Rollout, why: str) -> Step:
    if rollout.state is not RolloutState.PAUSED:
        hint = f"stemma rollout status {rollout.model}"
        raise _refused(rollout, RolloutCommand.RESUME, "rollout-not-paused", hint)
    is_short = rollout.assessment is not None and not rollout.assessment.is_sufficient
    if is_short and rollout.held_seconds >= rollout.plan.hold_limit_seconds:
        # It waited in vain for evidence; whoever resumes it wants it to wait once more.
        rollout = replace(rollout, held_seconds=0.0)
    return moved(rollout, rollout.course, why, kind="command")


def _promoted(rollout: Rollout, said: str) -> Step:
    if rollout.course is not RolloutState.CANARY:
        hint = f"stemma rollout status {rollout.model}"
        raise _refused(rollout, RolloutCommand.PROMOTE, "nothing-to-promote", hint)
    assessment = rollout.assessment
    evidence = "nothing was seen yet" if assessment is None else assessment.reason
    held = f"held {rollout.held_seconds:,.0f} s of {rollout.plan.hold_seconds:,} s"
    why = f"promoted{said} ({held}; {evidence})"
    promoted = replace(
        rollout,
        state=RolloutState.CANARY,
        resume_to=None,
        is_promoted_by_hand=True,
        reason=why,
    )
    return Step(rollout=promoted, decisions=(decision(promoted, "command", why),))


def _aborted(rollout: Rollout, why: str) -> Step:
    if rollout.state is RolloutState.ROLLING_BACK:
        hint = f"stemma rollout status {rollout.model}"
        raise _refused(rollout, RolloutCommand.ABORT, "rollout-rolling-back", hint)
    was_moved = rollout.course in {RolloutState.CANARY, RolloutState.PROMOTING}
    state = RolloutState.ROLLING_BACK if was_moved else RolloutState.ROLLED_BACK
    return moved(rollout, state, why, kind="command")
