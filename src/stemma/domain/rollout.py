"""A rollout: what it is, and how it goes on.  Pure: no clock, no I/O.

The values; the verbs on them are ``begin`` and ``advance`` (``rollout_steps``), ``command``
(``rollout_commands``), ``check_plan`` (``rollout_plan``) and ``encode_rollout`` (``rollout_text``).

Invariants:
    * ``Rollout.weight_bp`` follows from the state alone: nothing else says where traffic goes.

This module decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import NewType

from stemma.domain.judge import Assessment, JudgePolicy, JudgeState
from stemma.domain.traffic import Interval

RolloutId = NewType("RolloutId", str)
"""``ro-`` and eight hexadecimal digits."""


class RolloutState(Enum):
    """Where a rollout stands."""

    DRAFT = "draft"
    VALIDATING = "validating"
    WARMING = "warming"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTING = "promoting"
    LIVE = "live"
    PAUSED = "paused"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in {RolloutState.LIVE, RolloutState.ROLLED_BACK, RolloutState.FAILED}


class RolloutCommand(Enum):
    """What a person may ask of a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A version together with the configuration it is served with.

    Attributes:
        version: SemVer text.
        manifest: sha256 of its manifest, as text.
        configuration: sha256 of its configuration, as text.
    """

    version: str
    manifest: str
    configuration: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """How a rollout is to go.

    Attributes:
        steps_bp: Canary weight of each step in basis points, rising, the last one 10 000.
        hold_seconds: How long each step below 10 000 is watched at least.
        hold_limit_seconds: How long a step may wait for enough evidence before it is paused.
        judge: How sure the judge must be.
    """

    steps_bp: tuple[int, ...] = (500, 2500, 5000, 10_000)
    hold_seconds: int = 24 * 3600
    hold_limit_seconds: int = 48 * 3600
    judge: JudgePolicy = field(default_factory=JudgePolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """How far the access log has been counted.

    Attributes:
        file: Identity of the log file (its name and inode).
        offset_bytes: First byte that is not counted.
    """

    file: str = ""
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One rollout, whole: what is stored at every look and replayed at start.

    Attributes:
        id: Its id.
        model: Name of the model.
        canary: What is on trial.
        stable: What serves otherwise, and after an abort.
        plan: How it is to go.
        state: Where it stands.
        step: Index into ``plan.steps_bp``.
        held_seconds: How long this step was watched, pauses and clock jumps left out.
        resume_to: State to go on with after a pause.
        is_promoted_by_hand: A person waived the rest of this step; the next look goes on.
        judge: What the judge remembers.
        position: How far the access log is counted.
        last_look_at: When it was looked at last.
        started_at: When it began.
        ended_at: When it ended; ``None`` while it goes on.
        started_by: User name.
        reason: Why it is where it is, in one sentence.
        assessment: Evidence at the last look; ``None`` before the first.
    """

    id: RolloutId
    model: str
    canary: Deployed
    stable: Deployed
    plan: RolloutPlan
    state: RolloutState = RolloutState.DRAFT
    step: int = 0
    held_seconds: float = 0.0
    resume_to: RolloutState | None = None
    is_promoted_by_hand: bool = False
    judge: JudgeState = field(default_factory=JudgeState)
    position: LogPosition = LogPosition()
    last_look_at: datetime | None = None
    started_at: datetime
    ended_at: datetime | None = None
    started_by: str = ""
    reason: str = ""
    assessment: Assessment | None = None

    @property
    def course(self) -> RolloutState:
        """The state, and for a paused rollout the one it was paused in."""
        if self.state is RolloutState.PAUSED and self.resume_to is not None:
            return self.resume_to
        return self.state

    @property
    def weight_bp(self) -> int:
        """Share of requests that the canary is to get now, in basis points."""
        state = self.course
        if state is RolloutState.CANARY:
            return self.plan.steps_bp[self.step]
        return 10_000 if state in {RolloutState.PROMOTING, RolloutState.LIVE} else 0

    @property
    def needs_canary(self) -> bool:
        """Whether the canary's processes must run."""
        return self.course in {
            RolloutState.WARMING,
            RolloutState.SHADOW,
            RolloutState.CANARY,
            RolloutState.PROMOTING,
            RolloutState.LIVE,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """What was seen since the last look.

    Attributes:
        interval: Requests counted from ``Rollout.position`` on.
        position: Where counting ended.
        validation: ``None`` while it runs; else whether the version passed.
        validation_reason: The table's failed rows in one sentence.
        is_canary_ready: Every replica of the canary answered its golden request.
        canary_failure: Why the canary cannot run (gave up restarting); empty when it can.
        weight_in_force_bp: What the data plane confirms; ``None`` when it does not answer.
        promotion_block: Why it may not be promoted (stale or failed drill); empty when it may.
    """

    interval: Interval = field(default_factory=Interval)
    position: LogPosition | None = None
    validation: bool | None = None
    validation_reason: str = ""
    is_canary_ready: bool = False
    canary_failure: str = ""
    weight_in_force_bp: int | None = None
    promotion_block: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One line of a rollout's append-only log.

    Attributes:
        kind: ``look``, ``state``, ``step``, ``command`` or ``note``.
        text: What and why, in one sentence.
        weight_bp: Weight from now on.
        state: State from now on.
    """

    kind: str
    text: str
    weight_bp: int
    state: RolloutState


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a look led to.

    Attributes:
        rollout: The rollout from now on.
        decisions: Lines for the log, in order; empty when nothing was decided.
    """

    rollout: Rollout
    decisions: tuple[Decision, ...] = ()
