"""What is said of rollbacks and drills, on values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from stemma.cli import rollback_cards as cards
from stemma.cli.commands.rollback import exit_code_of, target_ref
from stemma.cli.exit_codes import ExitCode
from stemma.delivery.values import Phase, Readiness, RollbackReport
from stemma.domain.rollout import Deployed

TRAFFIC = Phase(name="traffic", seconds=0.41, limit_seconds=60, detail="routes confirmed")
SETTINGS = Phase(name="configuration", seconds=1.12, limit_seconds=120, detail="c1 in force")
ARTIFACT = Phase(name="artifacts", seconds=0.0, limit_seconds=300, detail="already warm")
REPORT = RollbackReport(
    model="digits",
    before="1.1.0",
    after="1.0.0",
    phases=(TRAFFIC, SETTINGS, ARTIFACT),
    is_drill=False,
    at=datetime(2026, 5, 3, 12, 0, tzinfo=UTC),
    by="ada",
)
LATE = replace(TRAFFIC, seconds=61.0)


def test_a_rollback_says_what_is_stable_and_how_long_each_part_took() -> None:
    """At night nobody would know whether users are safe again."""
    assert cards.rollback_card(REPORT) == [
        "✓ stable = 1.0.0   traffic 0.4 s · configuration 1.1 s · artifacts already warm",
        "  ✓  traffic        0.4 s  ≤ 60 s   routes confirmed",
        "  ✓  configuration  1.1 s  ≤ 120 s  c1 in force",
        "  ✓  artifacts      0.0 s  ≤ 300 s  already warm",
    ]


def test_a_drill_compares_each_part_with_its_limit() -> None:
    """A drill would not answer whether the real thing is fast enough."""
    line = cards.rollback_card(replace(REPORT, is_drill=True))[0]
    assert line == (
        "✓ drill passed: traffic 0.4 s ≤ 60 s · configuration 1.1 s ≤ 120 s · "
        "artifacts 0.0 s ≤ 300 s   digits 1.1.0 could go back to 1.0.0"
    )


def test_a_part_that_was_too_slow_is_a_no() -> None:
    """A rollback slower than allowed would look as good as a fast one."""
    late = replace(REPORT, phases=(LATE, SETTINGS))
    card = cards.rollback_card(late)
    assert card[0].startswith("✗ stable = 1.0.0")
    assert card[1] == "  ✗  traffic        1:01   > 60 s   routes confirmed"
    drilled = cards.rollback_card(replace(late, is_drill=True))[0]
    assert drilled.startswith("✗ drill failed: traffic 1:01 > 60 s")


def test_a_rollback_that_failed_says_what_serves_still() -> None:
    """The user would believe to be back."""
    failed = replace(
        REPORT,
        after="",
        phases=(),
        failure="no stable version is left",
        skipped=("1.0.0: artifact damaged",),
    )
    assert cards.rollback_card(failed) == [
        "✗ digits was not rolled back   stable = 1.1.0",
        "  passed over   1.0.0: artifact damaged",
        "  because       no stable version is left",
    ]


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (REPORT, ExitCode.DONE),
        (replace(REPORT, phases=(LATE,)), ExitCode.NO),
        (replace(REPORT, failure="x"), ExitCode.FAILED),
        (replace(REPORT, failure="x", is_drill=True), ExitCode.NO),
        (replace(REPORT, phases=(replace(TRAFFIC, is_verified=False),)), ExitCode.NO),
    ],
)
def test_the_exit_code_tells_done_late_and_failed_apart(
    report: RollbackReport, code: ExitCode
) -> None:
    """A script could not know whether production is back."""
    assert exit_code_of(report) is code
    assert cards.rollback_payload(report)["passed"] is (code is ExitCode.DONE)


def test_an_unverified_part_says_so() -> None:
    """A part that nothing confirmed would look done."""
    unsure = replace(REPORT, phases=(replace(ARTIFACT, is_verified=False),))
    assert cards.rollback_card(unsure)[1].endswith("not verified: already warm")
    assert cards.phase_rows(unsure) == [["fail", "artifacts", "0.000", "300", "already warm"]]


def test_history_and_readiness_are_tables() -> None:
    """Nobody could see when the last drill was, or what there is to go back to."""
    row = cards.history_rows([replace(REPORT, is_drill=True)], is_precise=False)[0]
    assert row[:5] == ["2026-05-03 12:00", "drill", "1.1.0", "1.0.0", "passed"]
    deployed = Deployed(version="1.0.0", manifest="m", configuration="c")
    ready = Readiness(
        deployed=deployed,
        is_current=False,
        is_warm=True,
        has_environment=True,
        has_artifact=False,
        detail="artifact damaged",
    )
    assert cards.readiness_rows([ready]) == [
        ["1.0.0", "", "warm", "built", "not materialised", "artifact damaged"]
    ]


@pytest.mark.parametrize(
    ("target", "ref"), [("", ""), ("1.0.0", "digits@1.0.0"), ("digits@1.0.0", "digits@1.0.0")]
)
def test_a_target_may_be_a_version_alone(target: str, ref: str) -> None:
    """The model's name would have to be typed twice."""
    assert target_ref("digits", target) == ref
