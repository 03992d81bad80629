"""What release, check, diff and log say, on values."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stemma.cli import cards
from stemma.domain.digest import Digest
from stemma.domain.manifest import Metric
from stemma.domain.release import ChannelMove, GateResult
from stemma.domain.run import RunId
from stemma.domain.verdict import Axis, Finding, Level, Verdict
from stemma.hub.base import (
    CheckReport,
    ComponentDiff,
    LogRow,
    ReleaseOutcome,
    ReleaseStatus,
    VersionDiff,
)

MANIFEST = Digest.sha256("ab" * 32)
WHEN = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
PASSED = GateResult(gate="accuracy", has_passed=True, actual="0.9722", needed="≥ 0.965")
FAILED = GateResult(gate="accuracy", has_passed=False, actual="0.8296", needed="≥ 0.965")
WORST = GateResult(gate="recall[class=8]", has_passed=False, actual="0.192", needed="≥ 0.90")
PATCH = Verdict(
    level=Level.PATCH,
    sentence="patch",
    findings=(
        Finding(
            axis=Axis.BEHAVIOUR,
            level=Level.PATCH,
            code="same",
            reason="0 of 540 predictions differ (≤ 0.6 % at 95 %)",
        ),
        Finding(
            axis=Axis.CONTENT,
            level=Level.PATCH,
            code="hyperparameters-changed",
            reason="hyperparameters C 1.0 → 0.9",
        ),
    ),
)


def _outcome(
    status: ReleaseStatus,
    version: str = "1.0.0",
    verdict: Verdict | None = None,
    gates: tuple[GateResult, ...] = (),
) -> ReleaseOutcome:
    return ReleaseOutcome(
        status=status,
        model="digits",
        version=version,
        previous="",
        run=RunId("r-081cc8"),
        manifest=MANIFEST,
        verdict=verdict,
        gates=gates,
    )


def test_a_first_release_counts_its_gates() -> None:
    """The user would not know whether gates were asked at all."""
    gate = GateResult(gate="recall[class=1]", has_passed=True, actual="1", needed="≥ 0.90")
    assert cards.release_card(_outcome(ReleaseStatus.RELEASED, gates=(PASSED, gate))) == [
        "✓ digits 1.0.0   first version   gates: 2 of 2 passed"
    ]


def test_a_release_names_the_channel_it_moved() -> None:
    """The user would look it up, not knowing whether the channel had moved."""
    assert cards.release_card(_outcome(ReleaseStatus.RELEASED), channel="stable") == [
        "✓ digits 1.0.0   first version",
        "  channel     stable points here now",
    ]
    assert cards.release_card(_outcome(ReleaseStatus.UNCHANGED), channel="stable")[1:] == [
        "  channel     stable points here now"
    ]
    lines = cards.release_card(_outcome(ReleaseStatus.RELEASED, "1.0.1", PATCH), channel="eu")
    assert lines[-1] == "  channel     eu points here now"


def test_an_unchanged_release_says_so() -> None:
    """The user would wait for a number that never comes."""
    assert cards.release_card(_outcome(ReleaseStatus.UNCHANGED)) == [
        "• digits 1.0.0 already is this: all five components identical. Nothing to release."
    ]


def test_a_release_explains_its_number() -> None:
    """The number would look arbitrary."""
    assert cards.release_card(_outcome(ReleaseStatus.RELEASED, "1.0.1", PATCH)) == [
        "✓ digits 1.0.1   patch",
        "  behaviour   0 of 540 predictions differ (≤ 0.6 % at 95 %)",
        "  because     hyperparameters C 1.0 → 0.9; everything else same",
    ]


def test_a_dry_run_says_would_be() -> None:
    """A dry run would read as if it had released."""
    first = cards.release_card(_outcome(ReleaseStatus.WOULD_RELEASE, "1.0.1", PATCH))[0]
    assert first == "• digits would be 1.0.1   patch"


def test_a_refusal_lists_what_failed_and_the_way_out() -> None:
    """The user would not know which gate failed by how much."""
    outcome = _outcome(ReleaseStatus.REFUSED, gates=(FAILED, WORST))
    assert cards.release_card(outcome) == [
        "✗ not released: 2 gates failed",
        "  accuracy         0.8296   needs ≥ 0.965",
        "  recall[class=8]  0.192    needs ≥ 0.90",
    ]
    assert cards.release_hints(outcome) == [
        "  keep it anyway as a pre-release: stemma release digits --pre"
    ]


@pytest.mark.parametrize(
    ("results", "head"),
    [
        ((), "✓ digits@1.0.0 may ship: stemma.toml names no gates"),
        ((PASSED,), "✓ digits@1.0.0 may ship   1 of 1 passed"),
        ((FAILED, WORST), "✗ digits@1.0.0 may not ship: 2 checks failed"),
        ((FAILED,), "✗ digits@1.0.0 may not ship: 1 check failed"),
    ],
)
def test_check_answers_in_its_first_line(results: tuple[GateResult, ...], head: str) -> None:
    """The answer would have to be searched in the table."""
    report = CheckReport(label="digits@1.0.0", results=results)
    assert cards.check_card(report)[0] == head


def test_check_rows_say_pass_and_fail_in_words() -> None:
    """A script would have to match a typographic mark."""
    assert cards.check_rows([FAILED]) == [["fail", "accuracy", "0.8296", "≥ 0.965"]]


DIFF = VersionDiff(
    before="digits@1.0.0",
    after="digits@1.1.0",
    components=(
        ComponentDiff(component="architecture", is_same=True, summary="same"),
        ComponentDiff(component="pipeline", is_same=False, summary="train.py  1 line changed"),
        ComponentDiff(
            component="hyperparameters", is_same=False, summary="a|b 1 → 2", details=("<x>",)
        ),
    ),
    patch="-a\n+b\n",
)


def test_a_diff_is_one_line_per_component() -> None:
    """What changed could not be seen at a glance."""
    assert cards.diff_card(DIFF.components, has_patch=True) == [
        "architecture     same",
        "pipeline         train.py  1 line changed  (--patch to see)",
        "hyperparameters  a|b 1 → 2",
        "                 <x>",
    ]


def test_only_selects_components() -> None:
    """`--only hyperparameters` would show everything."""
    chosen = cards.select_components(DIFF, ["hyperparameters"])
    assert [item.component for item in chosen] == ["hyperparameters"]
    assert len(cards.select_components(DIFF, [])) == 3


def test_markdown_survives_pipes_and_tags() -> None:
    """A parameter's value would break the table of a review's comment."""
    lines = cards.diff_markdown(DIFF, DIFF.components)
    assert lines[0] == "### digits@1.0.0 → digits@1.1.0"
    assert "| hyperparameters | **changed** | a\\|b 1 → 2<br>&lt;x> |" in lines
    assert lines[-4:] == ["````diff", "-a", "+b", "````"]


def test_a_channel_move_says_whether_anything_moved() -> None:
    """Repeating a move would look like a second one."""
    move = ChannelMove(
        model="digits",
        channel="stable",
        version="1.0.0",
        manifest=MANIFEST,
        sequence=1,
        moved_at=WHEN,
        moved_by="ada",
    )
    assert cards.channel_line(move) == "✓ digits stable = 1.0.0"
    assert cards.channel_line(move, is_new=False) == "• digits stable = 1.0.0   (it already was)"
    assert cards.move_rows([move], is_precise=False) == [["2026-05-03 12:00", "1.0.0", "ada", ""]]


def test_the_log_shows_the_message_else_the_reason() -> None:
    """A release without message would say nothing."""
    row = LogRow(
        version="1.0.0",
        level=Level.PATCH,
        why="first version",
        metric=Metric(name="accuracy", value="0.9722222", sample_size=540),
        channels=("canary", "stable"),
        released_at=WHEN,
        released_by="ada",
        message="",
        digest=MANIFEST,
    )
    assert cards.log_rows([row], is_precise=False) == [
        [
            "1.0.0",
            "patch",
            "accuracy 0.9722",
            "canary,stable",
            "2026-05-03 12:00",
            "ada",
            "first version",
        ]
    ]
