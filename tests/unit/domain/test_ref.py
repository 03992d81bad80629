"""Refs: how people name a version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.domain.errors import InvalidInputError
from stemma.domain.ref import (
    ChannelName,
    ExactVersion,
    ManifestPrefix,
    Newest,
    Ref,
    RunPrefix,
    Selector,
    VersionRange,
    parse_selector,
    suggest,
)
from stemma.domain.semver import Range, SemVer


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("digits", Newest()),
        ("digits@1.1.0", ExactVersion(SemVer(1, 1, 0))),
        ("digits@v1.1.0", ExactVersion(SemVer(1, 1, 0))),
        ("digits@2.0.0-pre.1", ExactVersion(SemVer(2, 0, 0, "pre.1"))),
        ("digits@^1", VersionRange(Range.parse("^1"))),
        ("digits@~1.2", VersionRange(Range.parse("~1.2"))),
        ("digits@>=1.4,<2", VersionRange(Range.parse(">=1.4,<2"))),
        ("digits@1.x", VersionRange(Range.parse("1.x"))),
        ("digits@*", VersionRange(Range.parse("*"))),
        ("digits@stable", ChannelName("stable")),
        ("digits@r-7f3c", RunPrefix("r-7f3c")),
        ("digits@sha256:ab12", ManifestPrefix("ab12")),
        (" digits@sha256:" + "0" * 64, ManifestPrefix("0" * 64)),
    ],
)
def test_each_form_of_a_ref_is_understood(text: str, selector: Selector) -> None:
    """A documented way to name a version would not work."""
    ref = Ref.parse(text)
    assert ref == Ref("digits", selector)
    assert Ref.parse(str(ref)) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "digits@",
        "@1.0.0",
        "digits@sha256:abc",
        "digits@sha256:xyz1",
        "digits@1.2.3.4",
        "digits@1.2.3-",
        "digits@^",
        "digits@Stable",
        "digits@latest",
        "digits@a@b",
        "digits@../x",
    ],
)
def test_what_is_no_ref_is_refused_with_an_example(text: str) -> None:
    """The user would not learn what a ref looks like."""
    with pytest.raises(InvalidInputError) as caught:
        Ref.parse(text)
    assert caught.value.code == "bad-ref"
    assert "digits@^1" in caught.value.hint


def test_a_number_without_its_model_is_told_what_is_missing() -> None:
    """`stemma diff digits 1.0.0` would be answered with a lecture on model names."""
    with pytest.raises(InvalidInputError, match="names no model") as caught:
        Ref.parse("1.0.0")
    assert caught.value.hint == "put the model before it: digits@1.0.0"


def test_a_ref_with_a_bad_model_name_says_so() -> None:
    """A path could be given as a model."""
    with pytest.raises(InvalidInputError, match="model name"):
        Ref.parse("../../etc@1.0.0")


@pytest.mark.slow
@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_never_a_crash(text: str) -> None:
    """A stray argument would end in a traceback."""
    try:
        selector = parse_selector(text)
    except InvalidInputError:
        return
    assert parse_selector(str(selector)) == selector


def test_suggestions_are_the_nearest_names() -> None:
    """``did you mean`` would be useless."""
    assert suggest("digts", ["digits", "fraud", "digit-ocr"])[0] == "digits"
    assert suggest("zzz", ["digits", "fraud"]) == []
