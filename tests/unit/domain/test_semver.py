"""Release numbers and ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.domain.errors import InvalidInputError
from stemma.domain.semver import FIRST, Range, SemVer
from stemma.domain.verdict import Level

NUMBERS = st.integers(min_value=0, max_value=30)
PRERELEASES = st.sampled_from(["", "", "pre.1", "pre.2", "alpha", "alpha.1", "1", "a-b.0"])
VERSIONS = st.builds(SemVer, NUMBERS, NUMBERS, NUMBERS, PRERELEASES)


@given(VERSIONS)
def test_a_number_reads_back_as_it_was_written(version: SemVer) -> None:
    """A stored release would come back under another number."""
    assert SemVer.parse(str(version)) == version
    assert SemVer.parse(f"v{version}") == version


@given(VERSIONS, VERSIONS)
def test_order_is_total_and_agrees_with_equality(one: SemVer, other: SemVer) -> None:
    """``newest`` would depend on the order in which releases were listed."""
    assert (one < other) + (other < one) + (one == other) == 1
    assert (one <= other) == (one < other or one == other)


def test_order_is_the_example_of_the_specification() -> None:
    """``stable`` could point to a pre-release (SemVer 2.0.0 §11)."""
    texts = ["alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1"]
    versions = [SemVer.parse(f"1.0.0-{text}") for text in texts] + [SemVer(1, 0, 0)]
    assert sorted(versions) == versions


@given(VERSIONS, st.sampled_from([Level.PATCH, Level.MINOR, Level.MAJOR]))
def test_a_bump_is_higher_and_a_higher_level_bumps_at_least_as_far(
    version: SemVer, level: Level
) -> None:
    """A new release would sort before the old one."""
    assert version < version.bump(level)
    assert version.bump(Level.PATCH) <= version.bump(level) <= version.bump(Level.MAJOR)
    assert version.bump(level).prerelease == ""


@pytest.mark.parametrize(
    ("version", "level", "expected"),
    [
        ("1.2.3", Level.NONE, "1.2.3"),
        ("1.2.3", Level.PATCH, "1.2.4"),
        ("1.2.3", Level.MINOR, "1.3.0"),
        ("1.2.3", Level.MAJOR, "2.0.0"),
        ("2.0.0-pre.1", Level.MAJOR, "2.0.0"),
        ("2.0.0-pre.1", Level.PATCH, "2.0.0"),
        ("1.3.0-pre.1", Level.MINOR, "1.3.0"),
        ("1.3.0-pre.1", Level.MAJOR, "2.0.0"),
        ("1.3.4-pre.1", Level.PATCH, "1.3.4"),
        ("1.3.4-pre.1", Level.MINOR, "1.4.0"),
    ],
)
def test_a_bump_resets_what_stands_behind_it(version: str, level: Level, expected: str) -> None:
    """Numbers would skip or repeat."""
    assert str(SemVer.parse(version).bump(level)) == expected


def test_pre_releases_count_up_within_their_number() -> None:
    """A second ``--pre`` would collide with the first."""
    existing = [SemVer.parse(text) for text in ("2.0.0-pre.1", "2.0.0-pre.2", "3.0.0-pre.7")]
    others = [SemVer.parse(text) for text in ("2.0.0-rc.9", "2.0.0-pre.x", "1.0.0")]
    assert str(SemVer(2, 0, 0).next_prerelease()) == "2.0.0-pre.1"
    assert str(SemVer(2, 0, 0).next_prerelease([*existing, *others])) == "2.0.0-pre.3"
    assert FIRST.core == FIRST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.2.3-",
        "1.2.3-01",
        "1.2.3+build",
        "1.2.x",
        "a.b.c",
        "1.2.3\n",
        "-1.2.3",
        "1.2.3-pre..1",
        "1" * 200,
        "١.٢.٣",
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    """A typing mistake would become a release."""
    with pytest.raises(InvalidInputError, match="not a version number") as caught:
        SemVer.parse(text)
    assert caught.value.code == "bad-version"
    assert "1.4.2" in caught.value.hint


def test_a_number_cannot_be_made_from_wrong_parts() -> None:
    """Code could make a number that no ref can name."""
    with pytest.raises(InvalidInputError, match="not a version number"):
        SemVer(-1, 0, 0)
    with pytest.raises(InvalidInputError, match="not a version number"):
        SemVer(1, 0, 0, "a b")


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("^1", "1.0.0 1.9.9", "0.9.9 2.0.0 2.0.0-pre.1 1.5.0-pre.1"),
        ("^1.2", "1.2.0 1.9.0", "1.1.9 2.0.0"),
        ("^1.2.3", "1.2.3 1.3.0", "1.2.2 2.0.0"),
        ("^0", "0.0.0 0.9.9", "1.0.0"),
        ("^0.2", "0.2.0 0.2.9", "0.1.9 0.3.0"),
        ("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0"),
        ("^0.0", "0.0.0 0.0.9", "0.1.0"),
        ("^0.0.3", "0.0.3", "0.0.2 0.0.4"),
        ("~1", "1.0.0 1.9.0", "2.0.0"),
        ("~1.2", "1.2.0 1.2.9", "1.3.0"),
        ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
        ("1", "1.0.0 1.9.0", "0.9.0 2.0.0"),
        ("1.2", "1.2.0 1.2.9", "1.3.0"),
        ("1.x", "1.0.0 1.9.0", "2.0.0"),
        ("1.2.X", "1.2.0 1.2.9", "1.3.0"),
        ("1.*", "1.0.0", "2.0.0"),
        ("*", "0.0.0 9.9.9", "1.0.0-pre.1"),
        ("1.4.2", "1.4.2", "1.4.1 1.4.3 1.4.2-pre.1"),
        ("=1.4.2", "1.4.2", "1.4.3"),
        (">=1.4,<2", "1.4.0 1.9.9", "1.3.9 2.0.0 2.0.0-pre.1"),
        (">= 1.4, < 2", "1.4.0", "2.0.0"),
        (">1.4", "1.5.0 2.0.0", "1.4.0 1.4.9"),
        (">1.4.2", "1.4.3", "1.4.2"),
        ("<=1.4", "1.4.9 0.1.0", "1.5.0"),
        ("<=1.4.2", "1.4.2", "1.4.3"),
        (">=1.3.0-pre.1", "1.3.0-pre.1 1.3.0-pre.2 1.3.0 2.0.0", "1.4.0-pre.1 1.2.0"),
        ("1.3.0-pre.1", "1.3.0-pre.1", "1.3.0 1.3.0-pre.2"),
    ],
)
def test_a_range_holds_what_its_text_says(text: str, inside: str, outside: str) -> None:
    """``digits@^1`` would load a version that breaks its caller."""
    range_ = Range.parse(text)
    assert all(range_.matches(SemVer.parse(version)) for version in inside.split())
    assert not any(range_.matches(SemVer.parse(version)) for version in outside.split())
    assert Range.parse(str(range_)) == range_


@pytest.mark.parametrize(
    "text",
    [
        "",
        "^",
        "~",
        "^x",
        "1.x.2",
        ">=",
        "=1.4",
        "a",
        "1.2.3.4",
        ">=1,,<2",
        "1 2",
        "^1 || ^2",
        "^" * 300,
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    """A malformed range would silently match everything or nothing."""
    with pytest.raises(InvalidInputError, match="not a version") as caught:
        Range.parse(text)
    assert "^1" in caught.value.hint or "1.4.2" in caught.value.hint


@given(VERSIONS)
def test_an_exact_range_holds_exactly_its_number(version: SemVer) -> None:
    """A pinned version would resolve to another one."""
    assert Range.parse(str(version)).matches(version)
    assert not Range.parse(str(version)).matches(version.bump(Level.PATCH))
