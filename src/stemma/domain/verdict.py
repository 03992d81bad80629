"""The verdict: which level a comparison asks for, and why, in a form that is stored.

Invariants:
    * The level of a verdict is the highest level of its findings.
    * Every finding names its axis, the level it asks for and the reason in words with figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

NOTHING_CHANGED: Final = "all five components identical"
"""Sentence of a verdict without findings."""


class Level(Enum):
    """How much a release changes; ``NONE`` means nothing changed."""

    NONE = "none"
    PATCH = "patch"
    MINOR = "minor"
    MAJOR = "major"

    @property
    def rank(self) -> int:
        """0 for ``NONE`` up to 3 for ``MAJOR``."""
        return list(Level).index(self)


class Axis(Enum):
    """The rows of the SemVer table in ``docs/explanation/semver-from-evidence.md``."""

    INTERFACE = "interface"
    LABELS = "labels"
    ARCHITECTURE = "architecture"
    FILES = "files"
    BEHAVIOUR = "behaviour"
    ENVIRONMENT = "environment"
    SERVICE = "service"
    CONTENT = "content"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one axis asks for.

    Attributes:
        axis: The row of the table.
        level: The level it asks for.
        code: Stable machine name of the rule that fired, kebab-case.
        reason: One clause with figures, for people.
        baseline: Version compared with, e.g. ``1.0.0``.
    """

    axis: Axis
    level: Level
    code: str
    reason: str
    baseline: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The level a comparison asks for, and why.

    Attributes:
        level: Highest level of the findings.
        findings: Every axis that asks for something, highest level first.
        sentence: The verdict in one sentence.
        profile: Policy profile that was applied.
        significance: One clause on the judged metric, e.g.
            ``accuracy 0.9722 → 0.9759: not a significant change (McNemar p = 0.50)``; may be empty.
    """

    level: Level
    findings: tuple[Finding, ...]
    sentence: str
    profile: str = "default"
    significance: str = ""

    @classmethod
    def of(cls, findings: Iterable[Finding], *, profile: str, significance: str = "") -> Verdict:
        """Conclude from findings: the highest level, and a sentence with its reasons."""
        ordered = tuple(sorted(findings, key=lambda finding: -finding.level.rank))
        level = ordered[0].level if ordered else Level.NONE
        reasons = [finding.reason for finding in ordered if finding.level is level]
        sentence = f"{level.value}: {'; '.join(reasons)}" if reasons else NOTHING_CHANGED
        return cls(
            level=level,
            findings=ordered,
            sentence=sentence,
            profile=profile,
            significance=significance,
        )
