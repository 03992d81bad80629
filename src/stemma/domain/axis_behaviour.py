"""The behaviour axis: what paired predictions on the golden set prove.

Invariants:
    * A level is granted only when the one-sided exact bounds lie inside its limits.
    * Missing evidence counts as the worst, and the reason says what to do.
    * Identical artifact, architecture and environment behave the same by construction.
"""

from __future__ import annotations

import math

from stemma.domain import bounds
from stemma.domain.facts import PairedBehaviour, SliceCounts, VersionFacts
from stemma.domain.manifest import Manifest
from stemma.domain.policy import ModelPolicy
from stemma.domain.profiles import Profile
from stemma.domain.verdict import Axis, Finding, Level


def _finding(level: Level, code: str, reason: str) -> Finding:
    return Finding(axis=Axis.BEHAVIOUR, level=level, code=code, reason=reason)


def judge_behaviour(
    before: VersionFacts,
    after: VersionFacts,
    behaviour: PairedBehaviour | None,
    policy: ModelPolicy,
) -> list[Finding]:
    """Return the level that the paired predictions allow."""
    if behaviour is None:
        return [] if _is_same_by_construction(before, after) else [_missing(before, after)]
    profile = policy.profile
    golden_count = behaviour.row_count + behaviour.fix_set_count
    if behaviour.fix_set_count > profile.fix_set_maximum_share * golden_count:
        reason = (
            f"the fix set has {behaviour.fix_set_count} of {golden_count} golden rows, more than "
            f"{percent(profile.fix_set_maximum_share)}: declare a smaller one"
        )
        return [_finding(Level.MAJOR, "fix-set-too-large", reason)]
    if behaviour.row_count < profile.golden_set_minimum_rows:
        reason = (
            f"the golden set has {behaviour.row_count} usable rows{_left_out(behaviour)}, "
            f"{profile.golden_set_minimum_rows} are needed: pass more test rows to run.model"
        )
        return [_finding(Level.MAJOR, "golden-set-too-small", reason)]
    if not behaviour.has_labels:
        reason = (
            f"the golden set has no labels ({behaviour.differ_count} of {behaviour.row_count:,} "
            "predictions differ): pass test=(X, y) to run.model"
        )
        return [_finding(Level.MAJOR, "golden-set-unlabelled", reason)]
    return [_paired(behaviour, profile), *_slices(behaviour.slices, profile)]


def foresee_missing_evidence(manifest: Manifest, policy: ModelPolicy) -> str:
    """Say what a later comparison with this version will lack; empty when nothing.

    Told when the version is recorded, while its evaluation can still be mended.
    """
    golden = manifest.evidence.golden
    so = "so the next version that differs will be MAJOR for want of evidence"
    if golden is None:
        return f"no golden set, {so}: pass test=(X, y) to run.model"
    usable = golden.row_count - golden.training_overlap_count
    needed = policy.profile.golden_set_minimum_rows
    if usable < needed:
        return (
            f"the golden set has {usable} usable rows and {needed} are needed, {so}: "
            "pass more test rows to run.model"
        )
    return ""


def _is_same_by_construction(before: VersionFacts, after: VersionFacts) -> bool:
    old, new = before.manifest.identities, after.manifest.identities
    return all(old[part] == new[part] for part in ("artifact", "architecture", "environment"))


def _missing(before: VersionFacts, after: VersionFacts) -> Finding:
    old, new = before.manifest.evidence.golden, after.manifest.evidence.golden
    if new is None:
        reason = "no golden set: pass test=(X, y) to run.model"
    elif old is None:
        reason = "the version compared with has no golden set, so nothing is known to be kept"
    elif old.identity != new.identity:
        reason = (
            f"the golden sets differ ({old.dataset} {old.identity.short} → "
            f"{new.dataset} {new.identity.short}): evaluate on the same rows"
        )
    else:
        reason = "the predictions could not be compared: run stemma doctor"
    return _finding(Level.MAJOR, "golden-set-missing", reason)


def percent(share: float) -> str:
    """Write a limit: ``2 %``, ``0.5 %``."""
    return f"{100 * share:g} %"


def percent_bound(share: float) -> str:
    """Write an upper bound, rounded up so that it stays true: ``0.6 %``."""
    return f"{math.ceil(1000 * share - 1e-9) / 10:.1f} %"


def _left_out(behaviour: PairedBehaviour) -> str:
    parts: list[str] = []
    if behaviour.training_overlap_count:
        parts.append(f"{behaviour.training_overlap_count} training rows")
    if behaviour.fix_set_count:
        parts.append(f"{behaviour.fix_set_count} rows of the fix set")
    return f" ({' and '.join(parts)} left out)" if parts else ""


def _paired(behaviour: PairedBehaviour, profile: Profile) -> Finding:
    """Judge churn, negative flips and the metric by their bounds."""
    rows, confidence = behaviour.row_count, profile.confidence
    churn = bounds.upper_bound(behaviour.differ_count, rows, confidence)
    broken = bounds.upper_bound(behaviour.broken_count, rows, confidence)
    low, high = bounds.metric_change_bounds(
        behaviour.fixed_count, behaviour.broken_count, rows, confidence
    )
    reason = _describe(behaviour, broken if behaviour.differ_count else churn, confidence)
    if (
        churn <= profile.churn_patch
        and broken <= profile.broken_patch
        and -profile.metric_patch_points <= low
        and high <= profile.metric_patch_points
    ):
        return _finding(Level.PATCH, "behaviour-same", reason)
    if broken > profile.broken_minor:
        limit = f"a minor allows {percent(profile.broken_minor)} broken"
        return _finding(Level.MAJOR, "behaviour-broken", f"{reason}; {limit}")
    if low < -profile.metric_minor_points:
        limit = (
            f"the metric may have fallen {-100 * low:.1f} points, "
            f"a minor allows {100 * profile.metric_minor_points:g}"
        )
        return _finding(Level.MAJOR, "behaviour-metric", f"{reason}; {limit}")
    return _finding(Level.MINOR, "behaviour-changed", reason)


def _describe(behaviour: PairedBehaviour, bound: float, confidence: float) -> str:
    text = f"{behaviour.differ_count} of {behaviour.row_count:,} predictions differ"
    if behaviour.tolerance:
        text += f" by more than {behaviour.tolerance:.3g}"
    if behaviour.differ_count:
        text += f": {behaviour.fixed_count} fixed, {behaviour.broken_count} broken"
    return f"{text} (≤ {percent_bound(bound)} at {percent(confidence)}){_left_out(behaviour)}"


def _slices(slices: tuple[SliceCounts, ...], profile: Profile) -> list[Finding]:
    """Find slices that are large enough to judge and fell too far."""
    findings: list[Finding] = []
    for part in slices:
        lost = part.right_before_count - part.right_after_count
        limit = profile.slice_drop_points * part.row_count
        if part.row_count >= profile.slice_minimum_rows and lost > limit + 1e-9:
            reason = (
                f"slice {part.name} falls {100 * lost / part.row_count:.1f} points on "
                f"{part.row_count:,} rows, {100 * profile.slice_drop_points:g} are allowed"
            )
            findings.append(_finding(Level.MAJOR, "slice-drop", reason))
    return findings


def describe_p(fixed: int, broken: int) -> str:
    """Write the exact McNemar p value: ``McNemar p = 0.50``, ``McNemar p < 0.001``."""
    p = bounds.mcnemar_p(fixed, broken)
    if p < 0.001:  # noqa: PLR2004 - the customary floor of printed p values
        return "McNemar p < 0.001"
    decimals = 2 if p >= 0.1 else 3  # noqa: PLR2004 - two significant figures
    return f"McNemar p = {p:.{decimals}f}"


def describe_metric(
    behaviour: PairedBehaviour | None, task: str, level: Level, policy: ModelPolicy, baseline: str
) -> str:
    """Return one clause on how the share of right answers changed, and whether that is chance.

    For a MAJOR the versions are alternatives, so each is given on the common rows;
    else the change is given.  Empty without labelled pairs.
    """
    if behaviour is None or not behaviour.has_labels or not behaviour.row_count:
        return ""
    name = "accuracy" if task == "classification" else "within-tolerance"
    gained = behaviour.fixed_count - behaviour.broken_count
    old = behaviour.right_before_count / behaviour.row_count
    new = (behaviour.right_before_count + gained) / behaviour.row_count
    answer = _significance(behaviour, policy.profile)
    if level is Level.MAJOR:
        rows = f"{behaviour.row_count:,} rows"
        return f"{name} {new:.4f} on the same {rows}, {old:.4f} at {baseline}: {answer}"
    p = describe_p(behaviour.fixed_count, behaviour.broken_count)
    return f"{name} {old:.4f} → {new:.4f}: {answer} ({p})"


def _significance(behaviour: PairedBehaviour, profile: Profile) -> str:
    fixed, broken = behaviour.fixed_count, behaviour.broken_count
    if bounds.mcnemar_p(fixed, broken) >= 1.0 - profile.confidence:
        return "not a significant change"
    return "a significant gain" if fixed > broken else "a significant loss"


def is_significant_loss(behaviour: PairedBehaviour | None, policy: ModelPolicy) -> bool:
    """Whether more rows broke than were fixed, beyond chance at the profile's confidence."""
    if behaviour is None or not behaviour.has_labels:
        return False
    fixed, broken = behaviour.fixed_count, behaviour.broken_count
    return broken > fixed and bounds.mcnemar_p(fixed, broken) < 1.0 - policy.profile.confidence
