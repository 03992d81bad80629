"""Which stable versions production can fall back to, read from the moves of ``stable``.

Invariants:
    * The history is read as a stack: a new version goes on top; moving back to a version
      that is in the stack takes off everything above it.  A version that was rolled back
      from is therefore no candidate, until it is made stable again.
    * A pre-release is no candidate, whatever an old history says.

This module knows nothing of whether a version is ready; see ``stemma.delivery``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stemma.domain.release import ChannelMove
from stemma.domain.semver import SemVer

READY_COUNT: Final = 3
"""How many stable versions are kept ready, the current one included."""


def stable_stack(moves: Sequence[ChannelMove]) -> tuple[str, ...]:
    """Return the current stable version, then the earlier ones in the order to fall back to.

    Args:
        moves: Moves of one model's channel ``stable``, in any order.

    Returns:
        SemVer texts; nothing while the channel points nowhere.
    """
    stack: list[str] = []
    is_removed = False
    for move in sorted(moves, key=lambda move: move.sequence):
        is_removed = not move.version
        if is_removed or SemVer.parse(move.version).prerelease:
            continue
        if move.version in stack:
            del stack[stack.index(move.version) :]
        stack.append(move.version)
    return () if is_removed else tuple(reversed(stack))


def three_newest(moves: Sequence[ChannelMove]) -> tuple[str, ...]:
    """Return the versions that are kept ready: the current one and the next two behind it."""
    return stable_stack(moves)[:READY_COUNT]
