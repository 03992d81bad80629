"""Where the built-in proxy sends one request: the same rules that Envoy is told, as a function.

Invariants:
    * Pure: the draw that decides between canary and stable is passed in.
    * The last attempt of a request meant for the canary is stable's.

It sends nothing; see ``builtin_proxy``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from stemma.delivery.planes.paths import (
    EVERY_HOST,
    LOOPBACK_HOSTS,
    NOT_RUNNING,
    REFUSED_HOST,
    REFUSED_ORIGIN,
    SLOT_HEADER,
    UNKNOWN_MODEL_PATTERN,
    model_pattern,
    origin_pattern,
    unknown_model,
    unknown_slot,
)
from stemma.domain.routing import ALL_TRAFFIC_BP, Endpoint, ModelRoute, RouteTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The proxy answers itself.

    Attributes:
        status: HTTP status.
        text: Why.
    """

    status: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToControl:
    """The control application answers.

    Attributes:
        socket: Where it listens.
    """

    socket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One slot to ask.

    Attributes:
        endpoint: The slot.
        timeout_seconds: How long it has.
        is_final_on_error: Its 5xx is the answer; otherwise the next one is asked.
    """

    endpoint: Endpoint
    timeout_seconds: float
    is_final_on_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToModel:
    """A slot answers.

    Attributes:
        model: Name of the model.
        side: ``stable``, ``canary`` or ``probe``.
        timeout_seconds: How long the whole request may take.
        attempts: Slots to ask in turn.
    """

    model: str
    side: str
    timeout_seconds: float
    attempts: tuple[Attempt, ...]


@final
class Routing:
    """A route table, made ready for asking."""

    def __init__(self, table: RouteTable, hosts: Sequence[str]) -> None:
        """Compile the patterns of ``table``; ``hosts`` are allowed beside loopback."""
        self.revision = table.revision
        self._control_socket = table.control_socket
        self._hosts = frozenset((*LOOPBACK_HOSTS, *hosts))
        self._origin = re.compile(origin_pattern(hosts))
        self._names = [route.model for route in table.models]
        self._models = [
            (re.compile(model_pattern(route.model, is_default=number == 0)), route)
            for number, route in enumerate(table.models)
        ]
        self._unknown = re.compile(UNKNOWN_MODEL_PATTERN)

    def decide(
        self, path: str, headers: Mapping[str, str], draw: float
    ) -> Refusal | ToControl | ToModel:
        """Return who answers a request.

        Args:
            path: Without the query.
            headers: Of the request; names in any case must be found.
            draw: Uniform in [0, 1).
        """
        host = _without_port(headers.get("Host", "")).lower()
        if host not in self._hosts and EVERY_HOST not in self._hosts:
            return Refusal(status=403, text=REFUSED_HOST)
        origin = headers.get("Origin")
        if origin is not None and not self._origin.fullmatch(origin):
            return Refusal(status=403, text=REFUSED_ORIGIN)
        for pattern, route in self._models:
            if pattern.fullmatch(path):
                return _to_model(route, headers.get(SLOT_HEADER), draw)
        if self._unknown.fullmatch(path):
            return Refusal(status=404, text=unknown_model(self._names))
        if self._control_socket:
            return ToControl(socket=self._control_socket)
        return Refusal(status=503, text=NOT_RUNNING)


def _to_model(route: ModelRoute, slot: str | None, draw: float) -> Refusal | ToModel:
    if slot is not None:
        if route.probe is None or route.probe.slot != slot:
            return Refusal(status=404, text=unknown_slot(route.model))
        return _alone(route, route.probe, "probe")
    if route.canary is None or draw * ALL_TRAFFIC_BP >= route.canary_weight_bp:
        return _alone(route, route.stable, "stable")
    # A canary that hangs leaves stable the other half of the time.
    on_trial = Attempt(
        endpoint=route.canary,
        timeout_seconds=route.timeout_seconds / 2,
        is_final_on_error=False,
    )
    return ToModel(
        model=route.model,
        side="canary",
        timeout_seconds=route.timeout_seconds,
        attempts=(on_trial, _last(route, route.stable)),
    )


def _alone(route: ModelRoute, endpoint: Endpoint, side: str) -> ToModel:
    """Ask one slot, its next replica when the first is not there or hangs up."""
    attempt = _last(route, endpoint)
    return ToModel(
        model=route.model,
        side=side,
        timeout_seconds=route.timeout_seconds,
        attempts=(attempt, attempt),
    )


def _last(route: ModelRoute, endpoint: Endpoint) -> Attempt:
    return Attempt(endpoint=endpoint, timeout_seconds=route.timeout_seconds, is_final_on_error=True)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
