"""The number of a release, over three baselines and a person's word."""

from __future__ import annotations

import pytest

from stemma.domain.combine import (
    Bump,
    Comparisons,
    apply_bump,
    combine,
    propose,
    propose_first,
)
from stemma.domain.errors import InvalidInputError
from stemma.domain.semver import SemVer
from stemma.domain.verdict import Axis, Finding, Level, Verdict


def verdict(level: Level, baseline: str = "1.2.3", code: str = "behaviour") -> Verdict:
    finding = Finding(
        axis=Axis.BEHAVIOUR, level=level, code=code, reason=f"asks {level.value}", baseline=baseline
    )
    findings = [] if level is Level.NONE else [finding]
    return Verdict.of(findings, profile="default", significance=f"accuracy since {baseline}")


AUTO = Bump()


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Level.NONE, "1.2.3"),
        (Level.PATCH, "1.2.4"),
        (Level.MINOR, "1.3.0"),
        (Level.MAJOR, "2.0.0"),
    ],
)
def test_the_number_follows_the_level(level: Level, expected: str) -> None:
    """The number would not say what the evidence says."""
    proposal = propose(
        Comparisons(previous=verdict(level)), SemVer(1, 2, 3), [SemVer(1, 2, 3)], AUTO
    )
    assert (str(proposal.version), proposal.level) == (expected, level)
    assert proposal.override_reason == ""


def test_a_number_never_exists_twice() -> None:
    """Two versions would share one number."""
    existing = [SemVer(1, 0, 0), SemVer(1, 0, 1), SemVer(2, 0, 0)]
    comparisons = Comparisons(previous=verdict(Level.PATCH))
    assert str(propose(comparisons, SemVer(1, 0, 0), existing, AUTO).version) == "1.0.2"


def test_a_pre_release_prepares_the_number_it_would_get() -> None:
    """``--pre`` would take the number itself."""
    comparisons = Comparisons(previous=verdict(Level.MAJOR))
    bump = Bump(is_prerelease=True)
    first = propose(comparisons, SemVer(1, 2, 3), [], bump).version
    second = propose(comparisons, SemVer(1, 2, 3), [first], bump).version
    assert (str(first), str(second)) == ("2.0.0-pre.1", "2.0.0-pre.2")


def test_a_first_release_is_one() -> None:
    """A model's first number would depend on its evidence."""
    assert str(propose_first([], AUTO).version) == "1.0.0"
    bump = Bump(is_prerelease=True)
    assert str(propose_first([SemVer(1, 0, 0, "pre.1")], bump).version) == "1.0.0-pre.2"


def test_small_steps_cannot_hide_a_minor() -> None:
    """Ten patches in a row would change what ten patches must not."""
    combined = combine(
        Comparisons(previous=verdict(Level.PATCH), minor_base=verdict(Level.MINOR, "1.2.0"))
    )
    assert combined.level is Level.MINOR
    assert combined.findings[0].code == "drift-behaviour"
    assert combined.sentence == "minor: since 1.2.0: asks minor"
    assert combined.significance == "accuracy since 1.2.3"


def test_small_steps_cannot_hide_a_major() -> None:
    """A chain of minors would end in another model."""
    combined = combine(
        Comparisons(
            previous=verdict(Level.MINOR),
            minor_base=verdict(Level.MINOR, "1.2.0"),
            major_base=verdict(Level.MAJOR, "1.0.0"),
        )
    )
    assert combined.level is Level.MAJOR
    assert [finding.baseline for finding in combined.findings] == ["1.0.0", "1.2.3"]
    assert combined.significance == "accuracy since 1.0.0"


def test_what_a_baseline_does_not_exceed_adds_nothing() -> None:
    """Every release would repeat the findings of all baselines."""
    previous = verdict(Level.MAJOR)
    combined = combine(
        Comparisons(
            previous=previous,
            minor_base=verdict(Level.MAJOR, "1.2.0"),
            major_base=verdict(Level.MINOR, "1.0.0"),
        )
    )
    assert combined.findings == previous.findings
    assert combined.significance == "accuracy since 1.2.3"


def test_the_metric_of_a_major_is_told_since_the_line_began() -> None:
    """The tutorial's line on 2.0.0 would compare with the wrong number."""
    combined = combine(
        Comparisons(previous=verdict(Level.MAJOR), minor_base=verdict(Level.MAJOR, "1.0.0"))
    )
    assert combined.significance == "accuracy since 1.0.0"


def test_nothing_changed_stays_nothing_whatever_came_before() -> None:
    """The same model would be released again and again."""
    comparisons = Comparisons(
        previous=verdict(Level.NONE), minor_base=verdict(Level.MAJOR, "1.2.0")
    )
    assert combine(comparisons).level is Level.NONE


def test_raising_is_free_and_recorded() -> None:
    """A person could not be more careful than the evidence."""
    bump = Bump(requested=Level.MAJOR, reason="new contract")
    proposal = propose(Comparisons(previous=verdict(Level.PATCH)), SemVer(1, 2, 3), [], bump)
    assert (str(proposal.version), proposal.override_reason) == ("2.0.0", "new contract")
    assert apply_bump(verdict(Level.PATCH), Bump(requested=Level.MINOR)) is Level.MINOR


def test_lowering_needs_a_reason() -> None:
    """A breaking version could be called a patch without a trace."""
    for reason in ("", "  "):
        with pytest.raises(InvalidInputError, match="asks for major, patch is lower") as caught:
            apply_bump(verdict(Level.MAJOR), Bump(requested=Level.PATCH, reason=reason))
        assert caught.value.code == "bump-needs-reason"
        assert "--bump patch --reason" in caught.value.hint
    bump = Bump(requested=Level.PATCH, reason="the rows were mislabelled")
    assert apply_bump(verdict(Level.MAJOR), bump) is Level.PATCH


def test_asking_for_what_is_computed_is_no_override() -> None:
    """Every explicit ``--bump`` would look like an override."""
    bump = Bump(requested=Level.MINOR, reason="as computed")
    proposal = propose(Comparisons(previous=verdict(Level.MINOR)), SemVer(1, 0, 0), [], bump)
    assert proposal.override_reason == ""
