"""What verbs say about the trash: pure text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.cli import render

if TYPE_CHECKING:
    from stemma.store.trash import TrashHolding


def trash_line(holding: TrashHolding) -> str:
    """Say how much the trash holds and since when; nothing when it is empty."""
    if holding.oldest_at is None:
        return ""
    what = f"{render.count(holding.count, 'object')}, {render.size(holding.size_bytes)}"
    since = holding.oldest_at.date().isoformat()
    return f"the trash holds {what}, since {since}   (stemma gc --restore, --empty-trash)"
