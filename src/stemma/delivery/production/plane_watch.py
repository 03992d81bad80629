"""Watches the data plane: the newest routes get in force, and one that died is started again.

Invariants:
    * A plane whose process is gone is started again at the next look; one that runs without
      answering keeps its users for a while, for a busy machine is slow to answer too.
    * Routes that were handed over and are not in force are handed over again.
    * A plane is asked rarely once the newest routes are in force.

It renders no routes; see ``routes``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, final

from stemma.delivery.planes.base import DataPlane, PlaneStatus
from stemma.delivery.production.routes import RoutePublisher

LAG_SECONDS: Final = 0.5
"""After so long routes that are not in force are handed over again."""

SILENCE_SECONDS: Final = 15.0
"""After so long a plane that runs and does not answer is ended and started again."""

_LOOK_SECONDS: Final = 0.5


@final
class PlaneWatch:
    """What is known of one data plane."""

    def __init__(
        self,
        plane: DataPlane,
        routes: RoutePublisher,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch ``plane``; ``routes`` hands its table over again."""
        self._plane = plane
        self._routes = routes
        self._monotonic = monotonic
        self._status: PlaneStatus | None = None
        self._looked_at = 0.0
        self._silent_since: float | None = None
        self._behind_since: float | None = None

    def look(self, revision: int) -> PlaneStatus:
        """Return how the plane is; ``revision`` is the table that is to be in force."""
        now = self._monotonic()
        known = self._status
        if known is not None and known.is_alive and known.revision >= revision:
            is_recent = now - self._looked_at < _LOOK_SECONDS
            if is_recent:
                return known
        status = self._plane.status()
        self._status, self._looked_at = status, now
        self._silent_since = None if status.is_alive else (self._silent_since or now)
        if not status.is_alive or status.revision >= revision:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since > LAG_SECONDS:
            self._behind_since = now
            self._routes.republish()
        return status

    def keep(self) -> bool:
        """Start the plane again when it is gone; returns whether it was.

        Raises:
            ConflictError: If somebody took its port meanwhile (``port-in-use``).
            UnavailableError: If it does not come up (``data-plane-failed``).
        """
        status = self._status
        if status is None or status.is_alive:
            return False
        silent = self._monotonic() - (self._silent_since or self._monotonic())
        if status.pid and silent < SILENCE_SECONDS:
            return False
        self._status = None
        self._plane.start()
        return True
