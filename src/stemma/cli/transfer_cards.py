"""What push and pull tell while they copy and when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.cli import render
from stemma.cli.console import Answer
from stemma.cli.exit_codes import ExitCode
from stemma.cli.plain import plain

if TYPE_CHECKING:
    from stemma.cli.progress import Reporter
    from stemma.hub.remotes import Refusal, TransferOutcome, VersionTransfer
    from stemma.hub.seen_remotes import RemoteStanding


class Telling:
    """Passes what a copy tells on to the progress line."""

    def __init__(self, reporter: Reporter) -> None:
        """Write to this reporter."""
        self._reporter = reporter

    def planned(self, total_bytes: int, saved_bytes: int) -> None:
        """Take in how much will be copied, and how much of the files need not be."""
        self._reporter.meter.total_bytes = total_bytes
        self._reporter.meter.saved_bytes = saved_bytes

    def advance(self, size_bytes: int) -> None:
        """Count bytes that were copied."""
        self._reporter.advance(size_bytes)


def answer(outcome: TransferOutcome, done: str, would: str) -> Answer:
    """Return the answer of a push or pull.

    Args:
        outcome: What became of it.
        done: ``pushed to`` or ``pulled from``.
        would: ``would push to`` or ``would pull from``.
    """
    card = [_headline(outcome, would if outcome.is_dry_run else done)]
    card += [f"  {_line(version)}" for version in outcome.versions]
    card += [line for refusal in outcome.refused for line in _refused(refusal)]
    return Answer(
        payload=plain(outcome),
        card=card,
        rows=[
            [version.label, str(version.copied_bytes), str(version.file_bytes)]
            for version in outcome.versions
        ],
        hints=[
            f"hint: {hint}" for hint in dict.fromkeys(it.hint for it in outcome.refused if it.hint)
        ],
    )


def exit_code(outcome: TransferOutcome) -> ExitCode:
    """Return 12 for a conflict, 1 for anything else that was not copied, else 0."""
    if any(refusal.is_conflict for refusal in outcome.refused):
        return ExitCode.CONFLICT
    return ExitCode.FAILED if outcome.refused else ExitCode.DONE


def standing_row(standing: RemoteStanding) -> list[str]:
    """Return a row of ``status``: how far we are from a remote as it was last seen."""
    models = standing.models
    ahead, behind = sum(it.ahead for it in models), sum(it.behind for it in models)
    moves_ahead = sum(it.moves_ahead for it in models)
    moves_behind = sum(it.moves_behind for it in models)
    sides = (("ahead", ahead, moves_ahead, "push"), ("behind", behind, moves_behind, "pull"))
    parts = [
        f"{word} by {_both(releases, moves)} (stemma {verb})"
        for word, releases, moves, verb in sides
        if releases or moves
    ]
    seen_at = f"as of {standing.seen_at:%Y-%m-%d %H:%M} UTC"
    state = " and ".join(word for word, releases, moves, _ in sides if releases or moves)
    return ["", "", f"remote {standing.name}", state or "same", ", ".join([*parts, seen_at])]


def _both(releases: int, moves: int) -> str:
    parts = [render.count(releases, "version")] if releases else []
    return " and ".join([*parts, render.count(moves, "channel move")] if moves else parts)


def _headline(outcome: TransferOutcome, words: str) -> str:
    mark = render.NOTED if outcome.is_dry_run or outcome.refused else render.DONE
    where = outcome.remote.label
    if not outcome.versions and not outcome.move_count and not outcome.copied_bytes:
        what = "nothing else" if outcome.refused else "nothing"
        return f"{render.NOTED} {where}: {what} to copy"
    parts = [render.count(len(outcome.versions), "version")]
    if outcome.move_count:
        parts.append(render.count(outcome.move_count, "channel move"))
    parts.append(render.size(outcome.copied_bytes))
    return f"{mark} {words} {where}   {', '.join(parts)}"


def _line(version: VersionTransfer) -> str:
    saved = version.file_bytes - version.copied_bytes
    extra = f"   {render.size(saved)} saved" if saved > 0 else ""
    return (
        f"{version.label}   {render.size(version.copied_bytes)}"
        f" of {render.size(version.file_bytes)}{extra}"
    )


def _refused(refusal: Refusal) -> list[str]:
    return [f"{render.REFUSED} {refusal.what}: {refusal.detail}"]
