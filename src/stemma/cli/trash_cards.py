"""What verbs say about the trash and the scrub of the store: pure text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.cli import render

if TYPE_CHECKING:
    from stemma.server.scrub import ScrubState
    from stemma.store.trash import TrashHolding


def trash_line(holding: TrashHolding) -> str:
    """Say how much the trash holds and since when; nothing when it is empty."""
    if holding.oldest_at is None:
        return ""
    what = f"{render.count(holding.count, 'object')}, {render.size(holding.size_bytes)}"
    since = holding.oldest_at.date().isoformat()
    return f"the trash holds {what}, since {since}   (stemma gc --restore, --empty-trash)"


def scrub_line(state: ScrubState) -> str:
    """Say when all that is stored was read last, how far this pass is, and what it found."""
    whole = "never yet" if state.finished_at is None else state.finished_at.date().isoformat()
    text = f"store read whole: {whole}"
    if state.after and state.total_bytes:
        text += f", {min(99, 100 * state.checked_bytes // state.total_bytes)} % of this time"
    if state.findings:
        found = render.count(len(state.findings), "damaged object")
        return f"{render.REFUSED} {text}; {found}   (stemma doctor --repair)"
    return f"{text}; no damage found"
