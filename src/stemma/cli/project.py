"""The project that a verb works on: opened late, closed always."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stemma.domain.errors import StemmaError

if TYPE_CHECKING:
    from stemma.hub.base import Hub


@contextmanager
def opened_hub() -> Iterator[Hub]:
    """Open the project's hub, and close it at the end.

    Raises:
        NoProjectError: If there is no project here or above.
    """
    # Loaded here: opening costs half a second of imports that --help must not pay.
    wiring = importlib.import_module("stemma.server.wiring")
    hub: Hub = wiring.open_hub()
    try:
        yield hub
    finally:
        hub.close()


def complete(prefix: str) -> Sequence[str]:
    """Return names that begin with ``prefix``; nothing when the project cannot be opened."""
    try:
        with opened_hub() as hub:
            return hub.completions(prefix)
    except StemmaError:
        return ()
