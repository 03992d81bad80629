"""Following a rollout, with a clock and a hub of the test's own."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import pytest

from stemma.cli.console import ProgressMode
from stemma.cli.telling import Teller
from stemma.cli.watching import LOOK_SECONDS, Pace, Screen, watch
from stemma.delivery.values import RolloutView
from stemma.domain.judge import Assessment
from stemma.domain.rollout import Rollout, RolloutState

Rollouts = Callable[..., Rollout]
Views = Callable[..., RolloutView]


class Played:
    """Answers with one view after the other; the last one again and again."""

    def __init__(self, views: Iterable[RolloutView]) -> None:
        self._views = list(views)
        self.looks = 0

    def rollout(self, model: str) -> RolloutView:
        assert model == "digits"
        self.looks += 1
        return self._views.pop(0) if len(self._views) > 1 else self._views[0]


class Clock:
    """Goes on only when somebody sleeps."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self.seconds = 0.0

    def pace(self) -> Pace:
        return Pace(
            now=lambda: self._start + timedelta(seconds=self.seconds),
            clock=lambda: self.seconds,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def _follow(
    mode: ProgressMode, views: Iterable[RolloutView], when: datetime
) -> tuple[RolloutView, str, Screen]:
    clock, out = Clock(when), io.StringIO()
    screen = Screen(mode, out, clock.pace())
    view = watch(Played(views), "digits", screen, clock.pace())
    return view, out.getvalue(), screen


def test_a_watch_ends_with_the_rollout(
    rollout_of: Rollouts, view_of: Views, when: datetime
) -> None:
    """A script would wait for ever, or stop too early."""
    views = [view_of(rollout_of()), view_of(rollout_of(state=RolloutState.LIVE, step=2))]
    view, out, screen = _follow(ProgressMode.NONE, views, when)
    assert view.rollout.state is RolloutState.LIVE
    assert out == ""
    assert set(screen.seen) == {1}, "the step's evidence is kept for the final card"


def test_in_a_pipe_there_is_a_line_at_each_change_and_each_ten_seconds(
    rollout_of: Rollouts, view_of: Views, when: datetime
) -> None:
    """A log would be flooded, or silent for a day."""
    looks = int(25 / LOOK_SECONDS)
    waiting = view_of(rollout_of(), "begun")
    decided = view_of(
        rollout_of(state=RolloutState.PROMOTING, step=2),
        "begun",
        "look: nothing",
        "promoted by ada",
    )
    live = view_of(
        rollout_of(state=RolloutState.LIVE, step=2),
        "begun",
        "look: nothing",
        "promoted by ada",
        "stable is 1.1.0 now",
    )
    _, out, _ = _follow(ProgressMode.LINES, [*[waiting] * looks, decided, live], when)
    lines = out.splitlines()
    assert [line[:8] for line in lines[:3]] == ["12:00:00", "12:00:10", "12:00:20"]
    assert lines[3:] == [
        "12:00:00  promoted by ada",
        "12:00:25  digits 1.0.0 → 1.1.0  promoting",
        "12:00:00  stable is 1.1.0 now",
        "12:00:25  digits 1.0.0 → 1.1.0  stable = 1.1.0, previous 1.0.0 kept warm",
    ]
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("mode", "ends_as"),
    [(ProgressMode.LINES, RolloutState.PAUSED), (ProgressMode.BAR, RolloutState.LIVE)],
)
def test_a_script_does_not_wait_for_a_person_and_a_terminal_does(
    rollout_of: Rollouts, view_of: Views, when: datetime, mode: ProgressMode, ends_as: RolloutState
) -> None:
    """A pipeline would hang until its time limit when evidence is missing."""
    paused = rollout_of(state=RolloutState.PAUSED, resume_to=RolloutState.CANARY)
    views = [view_of(paused), view_of(rollout_of(state=RolloutState.LIVE, step=2))]
    view, _, _ = _follow(mode, views, when)
    assert view.rollout.state is ends_as


def test_json_lines_end_with_a_summary(
    rollout_of: Rollouts, view_of: Views, when: datetime, holding: Assessment
) -> None:
    """A program that follows could not know the end."""
    views = [
        view_of(rollout_of()),
        view_of(rollout_of()),
        view_of(rollout_of(state=RolloutState.ROLLED_BACK)),
    ]
    _, out, _ = _follow(ProgressMode.JSON, views, when)
    found = [json.loads(line) for line in out.splitlines()]
    assert [item["message_type"] for item in found] == ["status", "summary"]
    assert found[0]["assessment"]["guardrails"][0]["e_value"] == holding.guardrails[0].e_value


def test_on_a_terminal_the_view_is_redrawn_and_taken_away(
    rollout_of: Rollouts, view_of: Views, when: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal would fill with copies of the view."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "6")
    views = [view_of(rollout_of()), view_of(rollout_of(state=RolloutState.LIVE, step=2))]
    _, out, _ = _follow(ProgressMode.BAR, views, when)
    first, second, last = out.split("\r\x1b[J")[1:]
    assert max(len(line) for line in first.splitlines()[:5]) <= 59
    assert len(first.splitlines()[:-1]) == 5
    assert first.endswith("\x1b[5A"), "the next one is drawn over it"
    assert "stable = 1.1.0" in second
    assert last == ""


def test_ctrl_c_takes_the_view_away_and_leaves_the_rollout(
    rollout_of: Rollouts, view_of: Views, when: datetime
) -> None:
    """Ctrl-C would leave half a view, or end the rollout."""
    clock, out, hub = Clock(when), io.StringIO(), Played([view_of(rollout_of())])

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    pace = Pace(now=clock.pace().now, clock=clock.pace().clock, sleep=interrupt)
    with pytest.raises(KeyboardInterrupt):
        watch(hub, "digits", Screen(ProgressMode.BAR, out, pace), pace)
    assert out.getvalue().endswith("\r\x1b[J")
    assert hub.looks == 1


def test_what_is_beside_the_rollout_is_looked_at_each_time(
    rollout_of: Rollouts, view_of: Views, when: datetime
) -> None:
    """Demo traffic that died would not be noticed."""
    clock, out = Clock(when), io.StringIO()
    views = [view_of(rollout_of())] * 4 + [view_of(rollout_of(state=RolloutState.LIVE))]
    screen = Screen(ProgressMode.LINES, out, clock.pace())
    watch(
        Played(views),
        "digits",
        screen,
        clock.pace(),
        each=lambda: "no server runs" if clock.seconds in {0.5, 1.0} else "",
    )
    warnings = [line for line in out.getvalue().splitlines() if line.startswith("warning")]
    assert warnings == ["warning: no server runs"]


def test_a_warning_stays_when_the_view_is_taken_away(
    rollout_of: Rollouts, view_of: Views, when: datetime
) -> None:
    """On a terminal nobody would see why the rollout starved."""
    clock, out = Clock(when), io.StringIO()
    views = [view_of(rollout_of())] * 2 + [view_of(rollout_of(state=RolloutState.LIVE))]
    screen = Screen(ProgressMode.BAR, out, clock.pace())
    watch(Played(views), "digits", screen, clock.pace(), each=lambda: "the demo traffic ended")
    assert out.getvalue().endswith("\r\x1b[Jwarning: the demo traffic ended\n")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (ProgressMode.LINES, "one\ntwo\n"),
        (ProgressMode.NONE, ""),
        (ProgressMode.BAR, "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"),
        (
            ProgressMode.JSON,
            "".join(f'{{"message_type": "status", "text": "{word}"}}\n' for word in ("one", "two")),
        ),
    ],
)
def test_sentences_of_progress_are_told_once_each(mode: ProgressMode, expected: str) -> None:
    """A log would repeat what did not change."""
    out = io.StringIO()
    teller = Teller(mode, out)
    for text in ("one", "one", "two"):
        teller(text)
    teller.finish()
    assert out.getvalue() == expected
