"""A load as one value, as it goes to the process that sends it.

This module sends nothing; see ``driver``.
"""

from __future__ import annotations

import msgspec

from stemma.delivery.load.requests import LoadRequest


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A load, whole.

    Attributes:
        requests: What is sent, in turn.
        offsets: When, in seconds from the start (see ``schedule``).
        seconds: Length of the schedule.
        url: e.g. ``http://127.0.0.1:8700``; not used when there are sockets.
        sockets: Unix sockets, taken in turn.
        connections: Most connections to each of them.
        timeout_seconds: How long a request may take.
        warm_up: Requests that are sent one after the other beforehand, and not counted.
    """

    requests: tuple[LoadRequest, ...]
    offsets: tuple[float, ...]
    seconds: float
    url: str = ""
    sockets: tuple[str, ...] = ()
    connections: int = 128
    timeout_seconds: float = 30.0
    warm_up: int = 0
