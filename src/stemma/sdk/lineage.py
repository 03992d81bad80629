"""What a run descends from: versions loaded while it is open become its parents.

Invariants:
    * Only loads inside the run's own context count: another thread's run has its own parents.
    * Order is that of loading; loading twice is one parent.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from stemma.domain.digest import Digest

_OPEN: Final[ContextVar[tuple[list[Digest], ...]]] = ContextVar("stemma_open_runs", default=())


class Parents:
    """The parents of one open run; counts from its making until ``close``."""

    def __init__(self) -> None:
        """Start counting in this context."""
        self._digests: list[Digest] = []
        _OPEN.set((*_OPEN.get(), self._digests))

    @property
    def digests(self) -> tuple[Digest, ...]:
        """Manifests loaded so far, in order."""
        return tuple(self._digests)

    def close(self) -> None:
        """Stop counting."""
        _OPEN.set(tuple(held for held in _OPEN.get() if held is not self._digests))


def note_parent(manifest: Digest) -> None:
    """Say that every open run of this context descends from this version."""
    for digests in _OPEN.get():
        if manifest not in digests:
            digests.append(manifest)
