"""The number of a release: verdicts against three baselines, and a person's word, combined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stemma.domain.semver import SemVer
from stemma.domain.verdict import Level, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Verdicts of one candidate against the releases before it.

    Attributes:
        previous: Against the newest release (not pre-release).
        minor_base: Against x.y.0 of that release; ``None`` when that is the newest itself.
        major_base: Against x.0.0 of that release; ``None`` when that is one of the others.
    """

    previous: Verdict
    minor_base: Verdict | None = None
    major_base: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bump:
    """What a person asks for.

    Attributes:
        requested: ``None`` for what the evidence says (``auto``).
        reason: Why, when it is lower than what the evidence says.
        is_prerelease: Keep it as a pre-release of the number.
    """

    requested: Level | None = None
    reason: str = ""
    is_prerelease: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The number a candidate would get.

    Attributes:
        version: The number; the last one when nothing changed.
        level: The level that was applied.
        verdict: The computed verdict over all baselines; ``None`` for a first version.
        override_reason: Why a person set another level; empty when nobody did.
    """

    version: SemVer
    level: Level
    verdict: Verdict | None
    override_reason: str = ""


def combine(comparisons: Comparisons) -> Verdict:
    """Return one verdict over all baselines, so that small steps cannot hide a large one."""
    raise NotImplementedError


def apply_bump(verdict: Verdict, bump: Bump) -> Level:
    """Return the level to apply: raising is free, lowering needs a reason.

    Raises:
        InvalidInputError: ``bump-needs-reason`` if lower than the verdict without a reason.
    """
    raise NotImplementedError


def propose(
    comparisons: Comparisons, last: SemVer, existing: Iterable[SemVer], bump: Bump
) -> Proposal:
    """Return the number a candidate would get after ``last`` among ``existing`` numbers."""
    raise NotImplementedError


def propose_first(existing: Iterable[SemVer], bump: Bump) -> Proposal:
    """Return the number of a model's first release: 1.0.0, or 1.0.0-pre.n."""
    raise NotImplementedError
