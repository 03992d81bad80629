"""What is said of a rollout, on values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from stemma.cli import rollout_cards as cards
from stemma.delivery.values import RolloutView
from stemma.domain.judge import Assessment, Standing
from stemma.domain.rollout import Rollout, RolloutState

Rollouts = Callable[..., Rollout]
Views = Callable[..., RolloutView]


def _card(rollout: Rollout, now: datetime) -> list[str]:
    return cards.rollout_card(RolloutView(rollout=rollout), now)


def test_a_canary_shows_its_step_its_evidence_and_what_comes_next(
    rollout_of: Rollouts, when: datetime
) -> None:
    """Who is asked at night whether it goes well would have to read logs."""
    assert _card(rollout_of(), when) == [
        "• digits  1.0.0 → 1.1.0   canary at 25 %   started just now by ada",
        "     5 %  █░░░░░░░░░░░░░░░░░░░                           held 20 s              ✓",
        "    25 %  █████░░░░░░░░░░░░░░░  errors 0.0 %  p99 −14 %  holding 7.0 s of 20 s",
        "   100 %  ░░░░░░░░░░░░░░░░░░░░",
        "  guardrail    canary  stable  evidence      requests  standing",
        "  errors       0.0 %   0.1 %   e 0.4 of 300  1,204     holds",
        "  latency_p99  1.2 ms  1.4 ms  e 0.0 of 300  1,204     holds",
        "  judge       no guardrail is breached",
        "  next        100 % in 13 s, if every guardrail holds",
    ]


def test_a_rollout_that_is_live_says_what_is_stable_now(
    rollout_of: Rollouts, when: datetime, holding: Assessment
) -> None:
    """The user would look up whether the channel had moved."""
    view = RolloutView(rollout=rollout_of(state=RolloutState.LIVE, step=2, ended_at=when))
    lines = cards.rollout_card(view, when, seen={0: holding})
    assert lines[0].startswith("✓ digits  1.0.0 → 1.1.0   stable = 1.1.0, previous 1.0.0 kept warm")
    assert [line.split()[-1] for line in lines[1:4]] == ["✓", "✓", "✓"]
    assert "p99 −14 %" in lines[1], "a watcher saw this step"
    assert not any(line.startswith("  next") for line in lines)


def test_a_rollout_that_was_taken_back_says_why_at_its_step(
    rollout_of: Rollouts, when: datetime
) -> None:
    """The reason would have to be looked for in the log."""
    why = "errors: 12 of 24 canary requests failed, 1 of 480 of stable"
    lines = _card(rollout_of(state=RolloutState.ROLLED_BACK, reason=why), when)
    assert lines[0].startswith("✗ digits  1.0.0 → 1.1.0   rolled back, stable = 1.0.0")
    assert lines[2].endswith("✗")
    assert f"  because     {why}" in lines


def test_a_version_refused_before_traffic_shows_no_step_as_tried(
    rollout_of: Rollouts, when: datetime
) -> None:
    """It would look as if users had met the version."""
    lines = _card(rollout_of(state=RolloutState.FAILED, step=0, assessment=None), when)
    assert not any("✗" in line or "█" in line for line in lines[1:])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": RolloutState.VALIDATING}, "1.1.0 is validated in staging"),
        ({"state": RolloutState.WARMING}, "5 % of the requests, as soon as 1.1.0 answers"),
        ({"held_seconds": 25.0}, "100 % at the next look"),
        ({"state": RolloutState.PROMOTING, "step": 2}, "the channel stable moves to 1.1.0"),
        ({"state": RolloutState.PAUSED}, "nothing until: stemma rollout resume digits"),
        ({"state": RolloutState.ROLLING_BACK}, "every request goes to 1.0.0"),
        ({"state": RolloutState.LIVE}, ""),
    ],
)
def test_the_next_thing_is_told_in_every_state(
    rollout_of: Rollouts, changes: dict[str, object], expected: str
) -> None:
    """Nobody would know what the rollout waits for."""
    text = cards.next_text(rollout_of(**changes))
    assert text.startswith(expected)
    assert bool(text) == bool(expected)


def test_too_little_traffic_is_told_with_the_time_that_is_left(
    rollout_of: Rollouts, holding: Assessment
) -> None:
    """A step that waits for requests would look like one that hangs."""
    waiting = replace(holding, is_sufficient=False)
    text = cards.next_text(rollout_of(held_seconds=25.0, assessment=waiting))
    assert text == "100 % as soon as enough was seen; paused in 15 s otherwise"


def test_what_was_not_measured_is_no_value(rollout_of: Rollouts, holding: Assessment) -> None:
    """No traffic would read as an error rate of zero."""
    unseen = replace(
        holding.guardrails[0],
        canary_trials=0,
        canary_value=math.nan,
        e_value=1.0,
        standing=Standing.COLLECTING,
    )
    row = cards.guardrail_rows([unseen])[0]
    assert row == ["errors", "–", "–", "e 1 of 300", "0", "collecting"]
    rollout = rollout_of(assessment=replace(holding, guardrails=(unseen,)))
    assert "errors 0" not in cards.rollout_line(rollout)


def test_json_has_no_number_that_json_cannot_write(
    rollout_of: Rollouts, holding: Assessment
) -> None:
    """A script's parser would stop at Infinity."""
    certain = replace(holding.guardrails[0], e_value=math.inf, stable_value=math.nan)
    rollout = rollout_of(assessment=replace(holding, guardrails=(certain,)))
    payload = cards.rollout_payload(RolloutView(rollout=rollout))
    found = json.loads(json.dumps(payload, allow_nan=False))
    assert found["assessment"]["guardrails"][0]["e_value"] is None
    assert (found["state"], found["weight_bp"], found["is_final"]) == ("canary", 2500, False)
    assert "judge" not in found


def test_a_rollout_nobody_looks_after_says_so(rollout_of: Rollouts, when: datetime) -> None:
    """After the server died the view would stand still without a word."""
    later = when + timedelta(seconds=30)
    silent = "no look for 30 s; does the server run? stemma status"
    assert f"  silent      {silent}" in _card(rollout_of(), later)
    assert cards.silence_text(rollout_of(), when) == ""
    assert cards.silence_text(rollout_of(state=RolloutState.WARMING), later) == ""


def test_a_new_configuration_of_one_version_is_told_as_such(rollout_of: Rollouts) -> None:
    """`1.0.0 → 1.0.0` would look like a mistake."""
    rollout = rollout_of()
    same = replace(rollout, canary=rollout.stable)
    assert cards.change_text(same) == "1.0.0 → 1.0.0 with another configuration"


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("errors", 0.0, "0.0 %"),
        ("errors", 0.0001, "0.01 %"),
        ("errors", 0.512, "51.2 %"),
        ("latency_p95", 1234.0, "1.2 ms"),
        ("errors", math.nan, "unknown"),
    ],
)
def test_values_read_as_people_write_them(metric: str, value: float, text: str) -> None:
    """One failure in ten thousand would read as none."""
    assert cards.value_text(metric, value) == text


@pytest.mark.parametrize(
    ("canary", "text"), [(0.86, "−14 %"), (1.1, "+10 %"), (1.001, "±0 %"), (math.inf, "unknown")]
)
def test_a_change_has_a_sign(canary: float, text: str) -> None:
    """Faster and slower would look alike."""
    assert cards.relative_text(canary, 1.0) == text


def test_the_log_and_the_row_for_scripts_name_state_and_decision(
    rollout_of: Rollouts, view_of: Callable[..., RolloutView]
) -> None:
    """A script would have to parse sentences."""
    view = view_of(rollout_of(), "25 % of the requests go to 1.1.0")
    assert cards.rollout_rows(view)[0][:6] == ["canary", "digits", "1.0.0", "1.1.0", "2500", "2/3"]
    assert "errors holds, e 0.4 of 300, 0.0 % against 0.1 %" in cards.rollout_rows(view)[0][-1]
    row = cards.event_rows(view.events, is_precise=True)[0]
    assert row[1:] == ["step", "2500", "canary", "server", "25 % of the requests go to 1.1.0"]
