"""The Protocol that every data plane implements; its suite is ``testing.data_plane_contract``.

Invariants:
    * ``apply`` is idempotent and atomic: a killed writer leaves the old table or the new one.
    * Routes survive the death of whoever applied them.
    * Each request that was answered, or given up, is one line of the access log, written
      within a second; a line is never changed afterwards.
    * A request the canary fails (5xx, reset, not there) is answered by stable when it can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stemma.domain.routing import RouteTable


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneStatus:
    """How a data plane is.

    Attributes:
        is_alive: Whether its process runs and answers.
        pid: Its process; 0 when there is none.
        revision: Route table in force; -1 when unknown.
        detail: What is wrong; empty when nothing is.
    """

    is_alive: bool
    pid: int = 0
    revision: int = -1
    detail: str = ""


class DataPlane(Protocol):
    """What spreads requests over versions."""

    @property
    def name(self) -> str:
        """``envoy`` or ``builtin``."""
        ...

    @property
    def access_log(self) -> Path:
        """Its access log: one JSON object per line, read by ``delivery.access_log``."""
        ...

    def start(self) -> None:
        """Start its process, or adopt the one that runs already; returns when it answers.

        Raises:
            ConflictError: If the port is taken (``port-in-use``).
            UnavailableError: If it does not come up (``data-plane-failed``).
        """
        ...

    def apply(self, table: RouteTable) -> None:
        """Put a route table in force; returns once written, before it is confirmed."""
        ...

    def wait_for(self, revision: int, timeout_seconds: float) -> bool:
        """Return whether a table of at least this revision came into force in time."""
        ...

    def rotate(self, max_bytes: int) -> None:
        """Rename the access log when it is larger, so that a new one begins; no line is lost."""
        ...

    def status(self) -> PlaneStatus:
        """Say how it is; never raises."""
        ...

    def stop(self) -> None:
        """Let requests under way end (at most 5 s), then end the process; safe to repeat."""
        ...
