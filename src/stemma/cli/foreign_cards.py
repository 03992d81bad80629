"""What pull and push tell of somebody else's server while they copy and when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stemma.cli import render
from stemma.cli.console import Answer
from stemma.cli.exit_codes import ExitCode
from stemma.cli.plain import plain

if TYPE_CHECKING:
    from stemma.cli.progress import Reporter
    from stemma.hub.foreign.outcome import ForeignOutcome

_LEFT_SHOWN: Final = 20


class TellingForeign:
    """Passes what an import or export tells on to the progress line."""

    def __init__(self, reporter: Reporter) -> None:
        """Write to this reporter."""
        self._reporter = reporter
        self._label = reporter.meter.label

    def at(self, doing: str) -> None:
        """Take in what is being done, with counts."""
        self._reporter.meter.label = f"{self._label}  {doing}"
        self._reporter.advance(0)

    def advance(self, size_bytes: int) -> None:
        """Count bytes that were copied."""
        self._reporter.advance(size_bytes)


def pull_answer(outcome: ForeignOutcome) -> Answer:
    """Return the answer of an import."""
    return _answer(outcome, "would pull from" if outcome.is_dry_run else "pulled from")


def push_answer(outcome: ForeignOutcome) -> Answer:
    """Return the answer of an export."""
    return _answer(outcome, "would push to" if outcome.is_dry_run else "pushed to")


def exit_code(outcome: ForeignOutcome) -> ExitCode:
    """Return 1 when something could not be copied that should have been."""
    return ExitCode.DONE if outcome.is_whole else ExitCode.FAILED


def _answer(outcome: ForeignOutcome, words: str) -> Answer:
    counted = [render.count(count, noun) for noun, count in outcome.copied.items()]
    if outcome.file_count:
        files = render.count(outcome.file_count, "file")
        counted.append(f"{files} of {render.size(outcome.file_bytes)}")
    if counted:
        mark = render.NOTED if outcome.is_dry_run or not outcome.is_whole else render.DONE
        headline = f"{mark} {words} {outcome.server}   {', '.join(counted)}"
    else:
        what = "nothing new" if outcome.is_whole else "nothing else"
        headline = f"{render.NOTED} {outcome.server}: {what} to copy"
    seen = ", ".join(render.count(count, noun) for noun, count in outcome.seen.items())
    card = [headline]
    if seen:
        card.append(f"  looked at {seen}; asked {outcome.request_count} times")
    if outcome.url:
        card.append(f"  {outcome.url}")
    for item in outcome.left[:_LEFT_SHOWN]:
        mark = render.REFUSED if item.is_refused else render.NOTED
        card.append(f"{mark} {item.what}: {item.detail}")
    if len(outcome.left) > _LEFT_SHOWN:
        card.append(f"… and {len(outcome.left) - _LEFT_SHOWN} more; --json names them all")
    return Answer(
        payload=plain(outcome),
        card=card,
        rows=[[noun, str(outcome.copied.get(noun, 0)), str(count)] for noun, count in _all(outcome)]
        + [["file", str(outcome.file_count), ""]],
        hints=[f"hint: {hint}" for hint in dict.fromkeys(it.hint for it in outcome.left) if hint],
    )


def _all(outcome: ForeignOutcome) -> list[tuple[str, int]]:
    return [
        (noun, outcome.seen.get(noun, 0))
        for noun in dict.fromkeys([*outcome.seen, *outcome.copied])
    ]
