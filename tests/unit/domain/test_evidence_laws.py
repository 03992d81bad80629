"""Laws that hold for every pair of versions, not only for the cases of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.domain.combine import Comparisons, combine
from stemma.domain.evidence import assess
from stemma.domain.facts import Measurements, PairedBehaviour, VersionFacts
from stemma.domain.policy import ModelPolicy
from stemma.domain.profiles import PROFILES
from stemma.domain.verdict import Level, Verdict

Build = Callable[[Mapping[str, Any]], VersionFacts]
COUNTS = st.integers(min_value=0, max_value=60)
ROWS = st.integers(min_value=250, max_value=3000)
PROFILE_NAMES = st.sampled_from(sorted(PROFILES))
CHANGES = st.dictionaries(
    st.sampled_from(["weights", "lock", "data", "pipeline", "passed", "source"]),
    st.sampled_from(["a", "b"]),
)


def judge(build_facts: Build, behaviour: PairedBehaviour, profile: str) -> Verdict:
    return assess(
        build_facts({}),
        build_facts({"weights": "b"}),
        Measurements(behaviour=behaviour),
        ModelPolicy(profile=PROFILES[profile]),
        "1.0.0",
    )


@pytest.mark.slow
@given(rows=ROWS, broken=COUNTS, more=COUNTS, profile=PROFILE_NAMES)
def test_more_broken_rows_never_lower_the_level(
    build_facts: Build, rows: int, broken: int, more: int, profile: str
) -> None:
    """A worse version would get a smaller number."""
    behaviour = PairedBehaviour(row_count=rows, differ_count=broken, broken_count=broken)
    worse = replace(behaviour, differ_count=broken + more, broken_count=broken + more)
    one, other = (judge(build_facts, counts, profile) for counts in (behaviour, worse))
    assert one.level.rank <= other.level.rank


@pytest.mark.slow
@given(rows=ROWS, fixed=COUNTS, broken=COUNTS, more=COUNTS, profile=PROFILE_NAMES)
def test_more_broken_rows_never_lower_a_major(
    build_facts: Build, rows: int, fixed: int, broken: int, more: int, profile: str
) -> None:
    """Breaking further rows would make a breaking version compatible."""
    behaviour = PairedBehaviour(
        row_count=rows, differ_count=fixed + broken, broken_count=broken, fixed_count=fixed
    )
    worse = replace(
        behaviour, differ_count=behaviour.differ_count + more, broken_count=broken + more
    )
    if judge(build_facts, behaviour, profile).level is Level.MAJOR:
        assert judge(build_facts, worse, profile).level is Level.MAJOR


@pytest.mark.slow
@given(rows=ROWS, fixed=COUNTS, broken=COUNTS, churn=COUNTS)
def test_a_stricter_profile_never_gives_a_lower_level(
    build_facts: Build, rows: int, fixed: int, broken: int, churn: int
) -> None:
    """``strict`` would let through what ``lenient`` stops."""
    behaviour = PairedBehaviour(
        row_count=rows,
        differ_count=fixed + broken + churn,
        broken_count=broken,
        fixed_count=fixed,
    )
    ranks = [
        judge(build_facts, behaviour, name).level.rank for name in ("lenient", "default", "strict")
    ]
    assert ranks == sorted(ranks)


@pytest.mark.slow
@given(change=CHANGES, rows=ROWS, broken=COUNTS)
def test_the_level_is_the_highest_finding_and_nothing_changed_is_none(
    build_facts: Build, change: dict[str, str], rows: int, broken: int
) -> None:
    """The shown reasons would not explain the number."""
    behaviour = PairedBehaviour(row_count=rows, differ_count=broken, broken_count=broken)
    before, after = build_facts({}), build_facts(change)
    verdict = assess(before, after, Measurements(behaviour=behaviour), ModelPolicy(), "1.0.0")
    ranks = [finding.level.rank for finding in verdict.findings]
    assert verdict.level.rank == max(ranks, default=0)
    assert ranks == sorted(ranks, reverse=True)
    is_same = before.manifest.identities == after.manifest.identities
    assert (verdict.level is Level.NONE) == is_same
    assert all(finding.baseline == "1.0.0" for finding in verdict.findings)


@given(rows=ROWS, broken=COUNTS, drifted=COUNTS)
@pytest.mark.slow
def test_a_baseline_never_lowers_the_level(
    build_facts: Build, rows: int, broken: int, drifted: int
) -> None:
    """Comparing with an older number would weaken the newest comparison."""
    step = PairedBehaviour(row_count=rows, differ_count=broken, broken_count=broken)
    whole = replace(step, differ_count=drifted, broken_count=drifted)
    previous, base = (judge(build_facts, counts, "default") for counts in (step, whole))
    combined = combine(Comparisons(previous=previous, minor_base=base, major_base=base))
    least = base.level.rank if base.level.rank > Level.PATCH.rank else 0
    assert combined.level.rank == max(previous.level.rank, least)
