"""The SemVer level, from evidence: a pure function of (A, B, measurements, policy)."""

from __future__ import annotations

from stemma.domain.facts import Measurements, PairedBehaviour, VersionFacts
from stemma.domain.policy import ModelPolicy
from stemma.domain.release import GateResult
from stemma.domain.verdict import Verdict


def assess(
    before: VersionFacts,
    after: VersionFacts,
    measurements: Measurements,
    policy: ModelPolicy,
    baseline: str,
) -> Verdict:
    """Return the level that going from ``before`` (number ``baseline``) to ``after`` asks for."""
    raise NotImplementedError


def is_significant_loss(behaviour: PairedBehaviour | None, policy: ModelPolicy) -> bool:
    """Whether ``after`` is worse than ``before`` beyond chance."""
    raise NotImplementedError


def check_regression(
    behaviour: PairedBehaviour | None, policy: ModelPolicy
) -> tuple[GateResult, ...]:
    """Return the failing gate ``regression`` on a significant loss, else nothing."""
    raise NotImplementedError
