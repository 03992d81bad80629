"""The judge: is the canary worse than stable?  Valid at every look.

Types only so far; ``look`` is the one verb.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from stemma.domain.traffic import Interval


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
