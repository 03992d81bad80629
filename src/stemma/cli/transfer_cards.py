"""What push and pull tell while they copy and when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.cli import render
from stemma.cli.console import Answer
from stemma.cli.exit_codes import ExitCode
from stemma.cli.plain import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stemma.cli.progress import Reporter
    from stemma.hub.remotes import Refusal, TrackedTransfer, TransferOutcome, VersionTransfer
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
    card += [f"  {_tracked(it)}" for it in outcome.tracked if it.is_copied or it.written_count]
    card += [f"{render.NOTED} {it.path}: {it.note}" for it in outcome.tracked if it.note]
    card += [line for refusal in outcome.refused for line in _refused(refusal)]
    hints = [it.hint for it in outcome.tracked] + [it.hint for it in outcome.refused]
    return Answer(
        payload=plain(outcome),
        card=card,
        rows=[
            [version.label, str(version.copied_bytes), str(version.file_bytes)]
            for version in outcome.versions
        ]
        + [[it.path, "", str(it.file_bytes)] for it in outcome.tracked],
        hints=[f"hint: {hint}" for hint in dict.fromkeys(hints) if hint],
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
    sides = (
        ("ahead", ahead, moves_ahead, standing.tracked_ahead, "push"),
        ("behind", behind, moves_behind, 0, "pull"),
    )
    parts = [
        f"{word} by {_amount(counts)} (stemma {verb})"
        for word, *counts, verb in sides
        if any(counts)
    ]
    seen_at = f"as of {standing.seen_at:%Y-%m-%d %H:%M} UTC"
    state = " and ".join(word for word, *counts, _ in sides if any(counts))
    return ["", "", f"remote {standing.name}", state or "same", ", ".join([*parts, seen_at])]


def _amount(counts: Sequence[int]) -> str:
    nouns = ("version", "channel move", "tracked path")
    parts = [render.count(count, noun) for count, noun in zip(counts, nouns, strict=True) if count]
    return " and ".join(parts)


def _headline(outcome: TransferOutcome, words: str) -> str:
    mark = render.NOTED if outcome.is_dry_run or outcome.refused else render.DONE
    where = outcome.remote.label
    tracked = [it for it in outcome.tracked if it.is_copied or it.written_count]
    is_nothing = not (outcome.versions or outcome.move_count or outcome.copied_bytes)
    if is_nothing and not tracked:
        what = "nothing else" if outcome.refused else "nothing"
        return f"{render.NOTED} {where}: {what} to copy"
    parts = [] if tracked and not outcome.versions else [_versions(outcome)]
    if tracked:
        parts.append(render.count(len(tracked), "tracked path"))
    if outcome.move_count:
        parts.append(render.count(outcome.move_count, "channel move"))
    parts.append(render.size(outcome.copied_bytes))
    return f"{mark} {words} {where}   {', '.join(parts)}"


def _versions(outcome: TransferOutcome) -> str:
    return render.count(len(outcome.versions), "version")


def _tracked(item: TrackedTransfer) -> str:
    written = f", {render.count(item.written_count, 'file')} written" if item.written_count else ""
    return f"{item.path}   {render.size(item.file_bytes)}{written}"


def _line(version: VersionTransfer) -> str:
    saved = version.file_bytes - version.copied_bytes
    extra = f"   {render.size(saved)} saved" if saved > 0 else ""
    return (
        f"{version.label}   {render.size(version.copied_bytes)}"
        f" of {render.size(version.file_bytes)}{extra}"
    )


def _refused(refusal: Refusal) -> list[str]:
    return [f"{render.REFUSED} {refusal.what}: {refusal.detail}"]
