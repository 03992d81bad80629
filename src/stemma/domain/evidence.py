"""The SemVer level, from evidence: a pure function of (A, B, measurements, policy).

The specification is the table in ``docs/explanation/semver-from-evidence.md``:
one function per axis (``axis_*.py``) returns findings, and the level is the
highest that any finding asks for.

Invariants:
    * Equal identities of all components and of the environment mean nothing changed.
    * Something changed means at least PATCH.
    * Missing evidence counts as the worst.

This module measures nothing; ``stemma.catalog.compare`` does.
"""

from __future__ import annotations

from dataclasses import replace

from stemma.domain.axis_behaviour import (
    describe_metric,
    describe_p,
    is_significant_loss,
    judge_behaviour,
)
from stemma.domain.axis_interface import judge_interface
from stemma.domain.axis_structure import judge_architecture, judge_files, judge_labels
from stemma.domain.axis_surroundings import (
    judge_content,
    judge_environment,
    judge_service,
    judge_terms,
)
from stemma.domain.facts import Measurements, PairedBehaviour, VersionFacts
from stemma.domain.gate import REGRESSION
from stemma.domain.policy import ModelPolicy
from stemma.domain.release import GateResult
from stemma.domain.verdict import Finding, Verdict

__all__ = ["assess", "check_regression", "is_significant_loss"]


def assess(
    before: VersionFacts,
    after: VersionFacts,
    measurements: Measurements,
    policy: ModelPolicy,
    baseline: str,
) -> Verdict:
    """Return the level that going from ``before`` (number ``baseline``) to ``after`` asks for."""
    findings = judge_terms(before, after)
    significance = ""
    if before.manifest.identities != after.manifest.identities:
        findings = _changed(before, after, measurements, policy) + findings
        golden = after.manifest.evidence.golden
        significance = describe_metric(
            measurements.behaviour,
            golden.task if golden else "classification",
            max((finding.level for finding in findings), key=lambda level: level.rank),
            policy,
            baseline,
        )
    return Verdict.of(
        (replace(finding, baseline=baseline) for finding in findings),
        profile=policy.profile.name,
        significance=significance,
    )


def _changed(
    before: VersionFacts, after: VersionFacts, measurements: Measurements, policy: ModelPolicy
) -> list[Finding]:
    """Ask every axis; each identity that differs gives at least one finding."""
    return [
        *judge_interface(before, after, policy),
        *judge_labels(before, after),
        *judge_architecture(before, after, policy),
        *judge_files(before, after),
        *judge_behaviour(before, after, measurements.behaviour, policy),
        *judge_environment(before, after, measurements.environment),
        *judge_service(before, after, policy),
        *judge_content(before, after, measurements),
    ]


def check_regression(
    behaviour: PairedBehaviour | None, policy: ModelPolicy
) -> tuple[GateResult, ...]:
    """Return the failing gate ``regression`` on a significant loss, else nothing."""
    if behaviour is None or not is_significant_loss(behaviour, policy):
        return ()
    fixed, broken = behaviour.fixed_count, behaviour.broken_count
    return (
        GateResult(
            gate=REGRESSION,
            has_passed=False,
            actual=f"{fixed} fixed, {broken} broken, {describe_p(fixed, broken)}",
            needed="no significant loss",
        ),
    )
