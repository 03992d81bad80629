"""The verbs that move traffic: serve, validate, roll out, roll back.

Every verb raises errors of ``stemma.domain.errors`` only, and one that is refused changes
nothing.  What a verb returned as done survives ``kill -9``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stemma.delivery.values import (
    ConfigurationVersion,
    Deployment,
    Readiness,
    RollbackReport,
    RolloutView,
    ServingView,
    StagingReport,
)
from stemma.domain.rollout import RolloutCommand, RolloutPlan

__all__ = ["DeliveryVerbs", "RolloutRequest", "StagingReport", "StagingRequest", "Told"]

Told = Callable[[str], None]
"""Takes one sentence of progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingRequest:
    """How to validate a version before it is deployed.

    Attributes:
        ref: What to validate.
        requests_path: File of requests to replay (JSON lines); empty: recorded or golden ones.
        seconds: How long to send requests.
        rate_per_second: Requests per second; 0: production's, else 50.
    """

    ref: str
    requests_path: str = ""
    seconds: float = 10.0
    rate_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRequest:
    """A rollout that is asked for.

    Attributes:
        ref: What to roll out.
        plan: How.
        reason: Why, in the user's words.
    """

    ref: str
    plan: RolloutPlan
    reason: str = ""


class DeliveryVerbs(Protocol):
    """Verbs on what serves."""

    def check_deploy(self, ref: str, *, is_stable: bool = False) -> None:
        """Raise what ``deploy`` would, and change nothing."""
        ...

    def deploy(self, ref: str, *, is_stable: bool = False, reason: str = "") -> Deployment:
        """Let ``ref`` serve its model at once; ``is_stable`` moves the channel ``stable`` there.

        Raises:
            ConflictError: If another version of the model serves (roll it out instead).
        """
        ...

    def withdraw(self, model: str, *, reason: str = "") -> None:
        """Stop serving a model."""
        ...

    def serving(self) -> ServingView:
        """Return everything that serves."""
        ...

    def validate(self, request: StagingRequest, told: Told) -> StagingReport:
        """Start a version on an idle slot and try it as production would."""
        ...

    def start_rollout(self, request: RolloutRequest) -> RolloutView:
        """Begin a rollout; the server carries it on.

        Raises:
            ConflictError: If one runs already (``rollout-running``) or the version serves.
            UnavailableError: If no server runs (``no-server``).
        """
        ...

    def rollout(self, model: str) -> RolloutView:
        """Return the rollout under way, else the newest one.

        Raises:
            NotFoundError: If there was none.
        """
        ...

    def command_rollout(
        self, model: str, command: RolloutCommand, *, reason: str = ""
    ) -> RolloutView:
        """Pause, resume, promote or abort."""
        ...

    def rollback(
        self, model: str, told: Told, *, to: str = "", is_drill: bool = False, reason: str = ""
    ) -> RollbackReport:
        """Bring production back to the previous stable version, or drill doing so."""
        ...

    def drills(self, model: str) -> list[RollbackReport]:
        """Return rollbacks and drills, newest first."""
        ...

    def readiness(self, model: str) -> list[Readiness]:
        """Return the three newest stable versions and how ready they are."""
        ...

    def configurations(self, model: str) -> list[ConfigurationVersion]:
        """Return the model's configurations, newest first."""
        ...
