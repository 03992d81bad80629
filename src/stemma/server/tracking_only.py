"""The data plane of a server beyond loopback: it tracks runs, and serves no model.

Invariants:
    * Whoever applies a route table, no route of a model comes into force: the data plane does
      not look at tokens, the control application does.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import Final, final

from stemma.delivery.planes.base import DataPlane, PlaneStatus
from stemma.domain.routing import RouteTable

_LOCALHOST: Final = "localhost"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == _LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@final
class TrackingOnlyPlane:
    """Another data plane, of which every route to a model is kept away."""

    def __init__(self, plane: DataPlane) -> None:
        """Stand before ``plane``."""
        self._plane = plane

    @property
    def name(self) -> str:
        """What is behind."""
        return self._plane.name

    @property
    def access_log(self) -> Path:
        """Its access log."""
        return self._plane.access_log

    def start(self) -> None:
        """Forget routes of an earlier server, and start.

        Raises:
            ConflictError: If the port is taken (``port-in-use``).
            UnavailableError: If it does not come up (``data-plane-failed``).
        """
        self._plane.apply(RouteTable(revision=0))
        self._plane.start()

    def apply(self, table: RouteTable) -> None:
        """Put a route table in force, without its models."""
        self._plane.apply(replace(table, models=()))

    def wait_for(self, revision: int, timeout_seconds: float) -> bool:
        """Return whether a table of at least this revision came into force in time."""
        return self._plane.wait_for(revision, timeout_seconds)

    def rotate(self, max_bytes: int) -> None:
        """Begin a new access log when this one is larger."""
        self._plane.rotate(max_bytes)

    def status(self) -> PlaneStatus:
        """Say how it is; never raises."""
        return self._plane.status()

    def stop(self) -> None:
        """Let requests under way end, then end the process."""
        self._plane.stop()
