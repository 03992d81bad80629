"""Publishes routes: rendered from the database, under one lock, by whoever changed something.

Invariants:
    * Rows are read while the lock is held, so of two writers at once the later table is
      the newer one, whichever process it comes from.
    * The revision grows with every change and never otherwise.
    * A killed publisher leaves the old table or the new one; the next one puts it in force.

The server publishes at each round; a rollback publishes by itself, so that it works when
the server is gone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final

import msgspec

from stemma.delivery.layout import ServeLayout
from stemma.delivery.planes.base import DataPlane
from stemma.delivery.production.desired import ModelDesire, SocketsOf, model_route, with_probe
from stemma.delivery.slots.base import SlotStatus
from stemma.domain.routing import Endpoint, RouteTable

ReadDesires = Callable[[], Sequence[ModelDesire]]
_FILE: Final = "routes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """What ``routes.json`` holds.

    Attributes:
        table: The table that was published last.
        probes: Slots that only their header reaches, by model.
        owners: Process that set each probe; a dead one's probe does not count.
    """

    table: RouteTable
    probes: Mapping[str, Endpoint] = field(default_factory=dict)
    owners: Mapping[str, int] = field(default_factory=dict)


@final
class RoutePublisher:
    """Renders the route table and hands it to the data plane."""

    def __init__(
        self, layout: ServeLayout, plane: DataPlane, sockets_of: SocketsOf, control_socket: str
    ) -> None:
        """Publish to ``plane``; ``control_socket`` answers what is no model's path."""
        self._layout = layout
        self._plane = plane
        self._sockets_of = sockets_of
        self._control_socket = control_socket

    def current(self) -> RouteTable:
        """Return the table published last; an empty one of revision 0 before the first."""
        return self._read().table

    def publish(
        self, read: ReadDesires, statuses: Callable[[], Mapping[str, SlotStatus]]
    ) -> RouteTable:
        """Render the table from the rows and put it in force when it changed.

        Args:
            read: Reads what production is to be; called while the lock is held.
            statuses: Reads the slots; called while the lock is held.
        """
        with self._lock():
            return self._render(self._read(), read(), statuses())

    def set_probe(self, model: str, probe: Endpoint | None) -> None:
        """Let requests with the header ``x-stemma-slot`` reach a slot, or no longer.

        Takes effect with the next ``publish``; ends by itself when this process dies.
        """
        with self._lock():
            found = self._read()
            probes, owners = dict(found.probes), dict(found.owners)
            probes.pop(model, None)
            owners.pop(model, None)
            if probe is not None:
                probes[model], owners[model] = probe, os.getpid()
            self._write(_Published(table=found.table, probes=probes, owners=owners))

    def republish(self) -> None:
        """Hand the table published last to the data plane once more (after it was started)."""
        with self._lock():
            self._plane.apply(self._read().table)

    def _render(
        self,
        found: _Published,
        desires: Sequence[ModelDesire],
        statuses: Mapping[str, SlotStatus],
    ) -> RouteTable:
        before = {route.model: route for route in found.table.models}
        probes = {
            model: probe
            for model, probe in found.probes.items()
            if _is_alive(found.owners.get(model, 0))
        }
        routes = [
            with_probe(route, probes.get(route.model))
            for desire in sorted(desires, key=lambda item: item.model)
            if (route := model_route(desire, statuses, before.get(desire.model), self._sockets_of))
            is not None
        ]
        table = RouteTable(
            revision=found.table.revision,
            models=tuple(routes),
            control_socket=self._control_socket,
        )
        if table == found.table and found.table.revision:
            return table
        table = replace(table, revision=table.revision + 1)
        # Handed over first: a publisher killed in between hands the same table over again.
        self._plane.apply(table)
        self._write(_Published(table=table, probes=probes, owners=found.owners))
        return table

    def _read(self) -> _Published:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return _Published(table=RouteTable(revision=0))
        try:
            return msgspec.json.decode(data, type=_Published)
        except msgspec.MsgspecError:
            # Everything in it can be rendered anew; the revision goes on from what is in force.
            return _Published(table=RouteTable(revision=max(self._plane.status().revision, 0)))

    def _write(self, published: _Published) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(published))
        temporary.replace(self._path)

    @property
    def _path(self) -> Path:
        return self._layout.root / _FILE

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self._layout.root.mkdir(parents=True, exist_ok=True)
        with self._layout.routes_lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return pid > 0
