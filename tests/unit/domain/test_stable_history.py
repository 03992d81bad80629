"""Which version to fall back to, from histories that are easy to read wrongly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stemma.domain.release import STABLE, ChannelMove
from stemma.domain.stable_history import stable_stack, three_newest


def moves(versions: str) -> list[ChannelMove]:
    """Return the moves of ``stable`` to these versions; ``-`` removes it."""
    return [
        ChannelMove(
            model="digits",
            channel=STABLE,
            version="" if version == "-" else version,
            sequence=sequence,
            moved_at=datetime(2026, 5, 1, tzinfo=UTC),
            moved_by="ada",
        )
        for sequence, version in enumerate(versions.split(), 1)
    ]


@pytest.mark.parametrize(
    ("history", "stack"),
    [
        ("", ""),
        ("1.0.0", "1.0.0"),
        ("1.0.0 1.1.0 1.2.0", "1.2.0 1.1.0 1.0.0"),
        # Rolled back: what was rolled back from is no candidate.
        ("1.0.0 1.1.0 1.0.0", "1.0.0"),
        ("1.0.0 1.1.0 1.2.0 1.1.0", "1.1.0 1.0.0"),
        ("1.0.0 1.1.0 1.2.0 1.0.0", "1.0.0"),
        # Rolled back twice, one step each.
        ("1.0.0 1.1.0 1.2.0 1.1.0 1.0.0", "1.0.0"),
        # Rolled back, then forward to a fixed version: the bad one stays out.
        ("1.0.0 1.1.0 1.0.0 1.1.1", "1.1.1 1.0.0"),
        ("1.0.0 1.1.0 1.2.0 1.1.0 1.3.0", "1.3.0 1.1.0 1.0.0"),
        # Rolled back and made stable again: it is a candidate once more.
        ("1.0.0 1.1.0 1.0.0 1.1.0 1.2.0", "1.2.0 1.1.0 1.0.0"),
        # A later number may be made stable before an earlier one.
        ("2.0.0 1.0.1", "1.0.1 2.0.0"),
        # Removed: nothing is stable; set again, the old ones are candidates.
        ("1.0.0 -", ""),
        ("1.0.0 1.1.0 - 1.2.0", "1.2.0 1.1.0 1.0.0"),
        ("1.0.0 1.1.0 - 1.0.0", "1.0.0"),
        ("1.0.0 1.1.0 - 1.1.0", "1.1.0 1.0.0"),
        ("- 1.0.0", "1.0.0"),
        # Pre-releases in the history of an older program.
        ("1.0.0 2.0.0-pre.1", "1.0.0"),
        ("1.0.0 2.0.0-pre.1 2.0.0", "2.0.0 1.0.0"),
        ("2.0.0-pre.1", ""),
        # The same version twice in a row.
        ("1.0.0 1.0.0 1.1.0 1.1.0", "1.1.0 1.0.0"),
    ],
)
def test_the_stack_is_what_to_fall_back_to(history: str, stack: str) -> None:
    """A rollback would go to a version that failed before."""
    expected = tuple(stack.split())
    assert stable_stack(moves(history)) == expected
    assert stable_stack(moves(history)[::-1]) == expected
    assert three_newest(moves(history)) == expected[:3]


def test_three_versions_are_kept_ready() -> None:
    """Disk and memory would fill with versions nobody falls back to."""
    assert three_newest(moves("1.0.0 1.1.0 1.2.0 1.3.0")) == ("1.3.0", "1.2.0", "1.1.0")
