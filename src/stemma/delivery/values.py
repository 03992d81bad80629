"""What the delivery verbs answer with.

This module holds values only; ``service`` makes them from rows, ``rollback`` and ``staging``
from what they measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from stemma.delivery.slots.base import SlotStatus
from stemma.domain.configuration import Configuration
from stemma.domain.release import ChannelMove, GateResult
from stemma.domain.rollout import Decision, Deployed, Rollout, RolloutId


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What production is to be for one model.

    Attributes:
        model: Name of the model.
        deployed: Version and configuration.
        sequence: Counts the deployments of the model from 1.
        kind: ``serve``, ``promote``, ``rollback``, ``reconfigure`` or ``withdraw``.
        since: When it became so.
        by: User name.
        reason: Why.
    """

    model: str
    deployed: Deployed
    sequence: int
    kind: str
    since: datetime
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationVersion:
    """One configuration of a model, in its history.

    Attributes:
        model: Name of the model.
        number: Counts the model's configurations from 1; shown as ``c3``.
        digest: sha256, as text.
        configuration: The values.
        created_at: When it was first used.
        by: User name.
        proven_with: Versions that were live with it, oldest first.
    """

    model: str
    number: int
    digest: str
    configuration: Configuration
    created_at: datetime
    by: str
    proven_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """What production is to be, all of one moment.

    Attributes:
        deployments: The current one of each served model, by name.
        rollouts: Those under way, by model.
        stable_moves: Moves of the channel ``stable`` of each served model, newest first.
    """

    deployments: tuple[Deployment, ...] = ()
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    stable_moves: Mapping[str, tuple[ChannelMove, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPost:
    """An observation of a metric of the user's own.

    Attributes:
        model: Name of the model.
        rollout: Rollout it is for; empty: the one under way.
        metric: Its name, e.g. ``returned_parcels``.
        version: Version that served; or ``canary`` or ``stable``.
        events: How many bad events.
        trials: Among how many chances of one.
        key: Named by the user; the same key posted again counts once.
    """

    model: str
    rollout: RolloutId | None = None
    metric: str
    version: str
    events: int
    trials: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEvent:
    """One line of a rollout's log.

    Attributes:
        sequence: Counts from 1.
        at: When.
        by: User name; empty for the controller.
        decision: What and why.
    """

    sequence: int
    at: datetime
    decision: Decision
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """A rollout with its log.

    Attributes:
        rollout: Where it stands.
        events: Its log, oldest first.
    """

    rollout: Rollout
    events: tuple[RolloutEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One timed part of a rollback or a drill.

    Attributes:
        name: ``traffic``, ``configuration``, ``dependencies`` or ``artifacts``.
        seconds: How long it took.
        limit_seconds: What the mission allows.
        detail: What was done, e.g. ``already warm``.
        is_verified: Digests, or a golden request, confirmed it.
    """

    name: str
    seconds: float
    limit_seconds: float
    detail: str
    is_verified: bool = True

    @property
    def has_passed(self) -> bool:
        """Whether it was verified within its limit."""
        return self.is_verified and self.seconds <= self.limit_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackReport:
    """What a rollback, or a drill of one, did.

    Attributes:
        model: Name of the model.
        before: Version that served.
        after: Version that serves now; in a drill the one that could.
        phases: Timed parts, in the order they ran.
        is_drill: No user was moved.
        at: When it began.
        by: User name.
        skipped: Versions that were passed over, with the reason (``1.0.1: artifact damaged``).
        failure: Why it did not succeed; empty when it did.
    """

    model: str
    before: str
    after: str
    phases: tuple[Phase, ...]
    is_drill: bool
    at: datetime
    by: str
    skipped: tuple[str, ...] = ()
    failure: str = ""

    @property
    def has_passed(self) -> bool:
        """Whether it succeeded and every part kept its limit."""
        return not self.failure and all(phase.has_passed for phase in self.phases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How ready a stable version is to be rolled back to.

    Attributes:
        deployed: Version and configuration.
        is_current: It serves now.
        is_warm: Its processes run.
        has_environment: Its environment is built.
        has_artifact: Its artifact is materialised.
        detail: What is missing, in one sentence; empty when nothing is.
    """

    deployed: Deployed
    is_current: bool
    is_warm: bool
    has_environment: bool
    has_artifact: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """The server of this project.

    Attributes:
        is_running: Whether a controller runs now.
        is_answering: Whether the data plane answers, with or without a controller.
        pid: Its process; 0 when none runs.
        address: e.g. ``http://127.0.0.1:8700``.
        plane: ``envoy`` or ``builtin``.
        since: When it started; ``None`` when it does not run.
        detail: What is wrong, in one sentence; empty when nothing is.
    """

    is_running: bool
    is_answering: bool
    pid: int = 0
    address: str = ""
    plane: str = ""
    since: datetime | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServing:
    """What serves one model.

    Attributes:
        deployment: What production is to be.
        configuration: Its configuration.
        slots: The model's slots as the supervisor sees them, stable first.
        rollout: The rollout under way; ``None`` when there is none.
        stable_channel: Where the channel ``stable`` points; empty when nowhere.
        weight_bp: Canary's share now.
    """

    deployment: Deployment
    configuration: ConfigurationVersion
    slots: tuple[SlotStatus, ...] = ()
    rollout: Rollout | None = None
    stable_channel: str = ""
    weight_bp: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingView:
    """Everything that serves.

    Attributes:
        server: The server.
        models: One per served model, by name.
    """

    server: ServerView
    models: tuple[ModelServing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingReport:
    """The answer of validation in staging.

    Attributes:
        label: What was validated.
        results: Gates, interface, environment, dependencies, golden request, latency, memory.
        requests: How many requests were replayed.
        source: Where they came from: ``recorded``, ``supplied`` or ``golden set``.
        pattern: How they were spaced: ``production's`` or ``Poisson``.
        rate_per_second: Requests per second that were offered; 0 when none were sent.
        latency_p99_ms: 99 % of them were answered within this, from the scheduled send.
        memory_mib: Peak resident memory of the largest process; 0 when not measured.
    """

    label: str
    results: tuple[GateResult, ...]
    requests: int = 0
    source: str = ""
    pattern: str = ""
    rate_per_second: float = 0.0
    latency_p99_ms: float = 0.0
    memory_mib: float = 0.0

    @property
    def has_passed(self) -> bool:
        """Whether every result passed."""
        return all(result.has_passed for result in self.results)
