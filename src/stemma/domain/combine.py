"""The number of a release: verdicts against three baselines, and a person's word, combined.

Invariants:
    * A number never exists twice, and nothing changed means no new number.
    * No chain of small steps ends further from x.y.0 or x.0.0 than its number says.
    * A person may raise the level; lowering it takes a reason, which is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from stemma.domain.errors import InvalidInputError
from stemma.domain.semver import FIRST, SemVer
from stemma.domain.verdict import Finding, Level, Verdict


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
    """Return one verdict over all baselines, so that small steps cannot hide a large one.

    More than PATCH since x.y.0 raises to that level; MAJOR since x.0.0 raises to
    MAJOR.  A finding that raises says since which number, and its code begins
    with ``drift-``.
    """
    previous = comparisons.previous
    if previous.level is Level.NONE:
        return previous
    findings = list(previous.findings)
    for base, least in (
        (comparisons.minor_base, Level.MINOR),
        (comparisons.major_base, Level.MAJOR),
    ):
        if base is not None:
            findings += _drift(base, least, _highest(findings))
    verdict = Verdict.of(findings, profile=previous.profile)
    return replace(verdict, significance=_significance(comparisons, verdict.level))


def _highest(findings: list[Finding]) -> Level:
    return max((finding.level for finding in findings), key=lambda level: level.rank)


def _drift(base: Verdict, least: Level, reached: Level) -> list[Finding]:
    """Return the findings of ``base`` that ask for ``least`` and for more than is reached."""
    return [
        replace(
            finding,
            code=f"drift-{finding.code}",
            reason=f"since {finding.baseline}: {finding.reason}",
        )
        for finding in base.findings
        if finding.level.rank >= least.rank and finding.level.rank > reached.rank
    ]


def _significance(comparisons: Comparisons, level: Level) -> str:
    """Return the clause on the metric: since x.0.0 for a MAJOR, else since the newest."""
    base = comparisons.major_base or comparisons.minor_base
    if level is Level.MAJOR and base is not None and base.level is Level.MAJOR:
        return base.significance
    return comparisons.previous.significance


def apply_bump(verdict: Verdict, bump: Bump) -> Level:
    """Return the level to apply: raising is free, lowering needs a reason.

    Raises:
        InvalidInputError: ``bump-needs-reason`` if lower than the verdict without a reason.
    """
    requested = bump.requested
    if requested is None:
        return verdict.level
    if requested.rank < verdict.level.rank and not bump.reason.strip():
        raise InvalidInputError(
            f"the evidence asks for {verdict.level.value}, {requested.value} is lower "
            f"({verdict.sentence})",
            code="bump-needs-reason",
            hint=f'--bump {requested.value} --reason "why this is no {verdict.level.value}"',
        )
    return requested


def propose(
    comparisons: Comparisons, last: SemVer, existing: Iterable[SemVer], bump: Bump
) -> Proposal:
    """Return the number a candidate would get after ``last`` among ``existing`` numbers."""
    verdict = combine(comparisons)
    level = apply_bump(verdict, bump)
    taken = set(existing)
    version = last
    if level is not Level.NONE:
        version = last.bump(level)
        while version in taken:
            version = version.bump(level)
        if bump.is_prerelease:
            version = version.next_prerelease(taken)
    reason = bump.reason if level is not verdict.level else ""
    return Proposal(version=version, level=level, verdict=verdict, override_reason=reason)


def propose_first(existing: Iterable[SemVer], bump: Bump) -> Proposal:
    """Return the number of a model's first release: 1.0.0, or 1.0.0-pre.n."""
    version = FIRST.next_prerelease(existing) if bump.is_prerelease else FIRST
    return Proposal(version=version, level=Level.MAJOR, verdict=None)
