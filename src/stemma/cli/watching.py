"""Following a rollout: looks at it again and again, and shows what changed.

Invariants:
    * Watching changes nothing: whoever stops watching leaves the rollout running.
    * On a terminal the view is redrawn in place and taken away at the end; elsewhere there
      is a line at the start, at each change, each ten seconds and at the end.
    * JSON lines carry ``message_type``: ``status``, and ``summary`` at the end.

This module decides nothing about a rollout and sends no requests.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, TextIO, final

from stemma.cli.console import ProgressMode
from stemma.cli.rollout_cards import (
    rollout_card,
    rollout_line,
    rollout_payload,
    silence_text,
    standings,
)
from stemma.delivery.values import RolloutView
from stemma.domain.judge import Assessment
from stemma.domain.rollout import Rollout, RolloutState

LOOK_SECONDS: Final = 0.5
_LINE_SECONDS: Final = 10.0


class Watched(Protocol):
    """What a rollout is read from."""

    def rollout(self, model: str) -> RolloutView:
        """Return the rollout under way, else the newest one."""
        ...


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The clocks of a watch.

    Attributes:
        now: Returns the present, for ages.
        clock: Returns seconds that never go back.
        sleep: Waits.
    """

    now: Callable[[], datetime] = _now
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@final
class Screen:
    """Shows one rollout over time on a stream."""

    def __init__(self, mode: ProgressMode, stream: TextIO, pace: Pace) -> None:
        self.seen: dict[int, Assessment] = {}
        """Last assessment of each step, for the lines of past steps."""
        self._mode = mode
        self._stream = stream
        self._pace = pace
        self._height = 0
        self._told: object = None
        self._told_at = 0.0
        self._sequence = -1
        self._remark = ""

    def show(self, view: RolloutView) -> None:
        """Show the rollout as it stands, if there is anything to show now."""
        rollout = view.rollout
        if rollout.state is RolloutState.CANARY and rollout.assessment is not None:
            self.seen[rollout.step] = rollout.assessment
        match self._mode:
            case ProgressMode.BAR:
                card = rollout_card(view, self._pace.now(), seen=self.seen)
                self._redraw([*card, *self._remarks()])
            case ProgressMode.LINES | ProgressMode.AUTO:
                self._show_line(view)
            case ProgressMode.JSON:
                if rollout.state.is_final or self._is_due(rollout):
                    self._write_json(view)
            case ProgressMode.NONE:
                pass
        self._stream.flush()

    @property
    def is_live(self) -> bool:
        """Whether somebody looks at it as it changes."""
        return self._mode is ProgressMode.BAR

    def remark(self, text: str) -> None:
        """Warn of something beside the rollout, until there is something else to warn of.

        An empty text takes it back.
        """
        is_new, self._remark = text not in {"", self._remark}, text
        if is_new and self._mode in {ProgressMode.LINES, ProgressMode.AUTO}:
            self._stream.write(f"warning: {text}\n")
        if is_new and self._mode is ProgressMode.JSON:
            line = json.dumps({"message_type": "warning", "text": text}, ensure_ascii=False)
            self._stream.write(f"{line}\n")

    def _remarks(self) -> list[str]:
        return [f"warning: {self._remark}"] if self._remark else []

    def finish(self) -> None:
        """Take the view away: what is to stay is the verb's answer, and the last warning."""
        if self._mode is ProgressMode.BAR:
            self._redraw([])
            self._stream.writelines(f"{line}\n" for line in self._remarks())
            self._stream.flush()

    def _redraw(self, lines: list[str]) -> None:
        size = shutil.get_terminal_size()
        # A line that wraps would shift every later redraw.
        shown = [line[: size.columns - 1] for line in lines[: size.lines - 1]]
        up = f"\x1b[{self._height}A" if self._height else ""
        self._stream.write(f"{up}\r\x1b[J" + "".join(f"{line}\n" for line in shown))
        self._height = len(shown)

    def _is_due(self, rollout: Rollout) -> bool:
        """Whether something changed, or ten seconds passed, since the last line."""
        state = (rollout.state, rollout.step, rollout.weight_bp, standings(rollout))
        clock = self._pace.clock()
        if state == self._told and clock - self._told_at < _LINE_SECONDS:
            return False
        self._told, self._told_at = state, clock
        return True

    def _show_line(self, view: RolloutView) -> None:
        fresh = [event for event in view.events if event.sequence > self._sequence]
        is_first = self._sequence < 0
        self._sequence = max((event.sequence for event in view.events), default=0)
        for event in fresh:
            # Looks that decided nothing are in the log; here they would drown the rest.
            if not is_first and event.decision.kind != "look":
                self._stream.write(f"{event.at:%H:%M:%S}  {event.decision.text}\n")
        if self._is_due(view.rollout):
            now = self._pace.now()
            silence = silence_text(view.rollout, now)
            has_reason = view.rollout.reason not in {event.decision.text for event in fresh}
            line = f"{now:%H:%M:%S}  {rollout_line(view.rollout, has_reason=has_reason)}"
            self._stream.write(f"{line}  {silence}".rstrip() + "\n")

    def _write_json(self, view: RolloutView) -> None:
        kind = "summary" if view.rollout.state.is_final else "status"
        payload = {"message_type": kind, **rollout_payload(view, has_events=False)}
        self._stream.write(json.dumps(payload, ensure_ascii=False, default=str) + "\n")


def watch(
    hub: Watched, model: str, screen: Screen, pace: Pace, *, each: Callable[[], str] | None = None
) -> RolloutView:
    """Show a rollout until it ends, and return how it ended.

    Where nobody looks (a pipe, a script) it also ends when the rollout waits for a person.

    Args:
        hub: Where it is read from.
        model: Name of the model.
        screen: Where it is shown; taken away at the end, whatever ends it.
        pace: The clocks.
        each: Called at each look for what else is to be watched; returns a warning, or nothing.
    """
    try:
        while True:
            view = hub.rollout(model)
            screen.show(view)
            is_waiting = view.rollout.state is RolloutState.PAUSED and not screen.is_live
            if view.rollout.state.is_final or is_waiting:
                return view
            if each is not None:
                screen.remark(each())
            pace.sleep(LOOK_SECONDS)
    finally:
        screen.finish()
