"""Drills: the way of a rollback, gone on an idle slot and timed, without moving a user.

Everything is made afresh in a folder of its own: the artifact from the store, the
environment from its lock without the package index, the process with its configuration.
Then a route that only a header reaches is put in force, and the golden request goes that way.

Invariants:
    * No user's request reaches the drill's slot.
    * Times and verdict are recorded also when the drill fails; a failed one blocks promotion.
    * Nothing of it is left: neither process, nor route, nor folder.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, final

from stemma.delivery.layout import ServeLayout
from stemma.delivery.planes.base import DataPlane
from stemma.delivery.production.reading import DesireReader
from stemma.delivery.production.routes import RoutePublisher
from stemma.delivery.records.service import DeliveryService
from stemma.delivery.recovery.rollback import LIMITS_SECONDS, Told, choose, find_desire
from stemma.delivery.slots.base import SlotSpec, SlotStatus
from stemma.delivery.slots.preparing import Preparer
from stemma.delivery.slots.starting import OwnSlots, SlotStarter
from stemma.delivery.slots.supervisor import Supervisor
from stemma.delivery.values import Phase, RollbackReport
from stemma.domain.errors import StemmaError, UnavailableError
from stemma.domain.routing import Endpoint

_CONFIRM_SECONDS: Final = 10.0
SUFFIX: Final = "-drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillParts:
    """What a drill is composed of.

    Attributes:
        service: Rows of delivery.
        reader: Reads what production is to be, and what it can fall back to.
        routes: Publishes routes.
        plane: The data plane.
        production: Knows production's slots, which routes are rendered from.
        layout: The drill's own folder.
        preparer: Makes everything in that folder, offline.
        supervisor: Starts and stops the drill's process.
        ask_golden: Sends the golden request to a slot; returns what is wrong.
        clock: Aware current time.
    """

    service: DeliveryService
    reader: DesireReader
    routes: RoutePublisher
    plane: DataPlane
    production: SlotStarter
    layout: ServeLayout
    preparer: Preparer
    supervisor: Supervisor
    ask_golden: Callable[[SlotSpec, str], str]
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRequest:
    """A drill that is asked for.

    Attributes:
        model: Name of the model.
        to: Version to go back to; empty: the one a rollback would take, else the present one.
        by: User name.
    """

    model: str
    to: str = ""
    by: str = ""


@final
class Drill:
    """One drill; see the module."""

    def __init__(self, parts: DrillParts, told: Told) -> None:
        """Compose; ``told`` takes sentences of progress."""
        self._parts = parts
        self._told = told
        self._phases: list[Phase] = []

    def run(self, request: DrillRequest) -> RollbackReport:
        """Go the way, and record it.

        Raises:
            NotFoundError: If the model is not served.
            ConflictError: If ``to`` was never stable.
        """
        parts, began = self._parts, self._parts.clock()
        desire = find_desire(parts.reader, request.model)
        present = desire.deployment.deployed
        # With a single stable version there is none to fall back to; its own way is drilled.
        is_alone = not desire.earlier and not request.to
        target = present if is_alone else choose(desire, request.to)[0]
        spec = desire.spec(target, SUFFIX)
        failure = ""
        try:
            self._go(spec)
        except StemmaError as error:
            failure = error.message
            self._told(f"the drill failed: {failure}")
        finally:
            self._clear(request.model)
        report = RollbackReport(
            model=request.model,
            before=present.version,
            after=target.version,
            phases=tuple(self._phases),
            is_drill=True,
            at=began,
            by=request.by,
            failure=failure,
        )
        parts.service.record_rollback(report)
        return report

    def _go(self, spec: SlotSpec) -> None:
        parts = self._parts
        self._told(f"{spec.version}: files from the store")
        self._timed("artifacts", lambda: parts.preparer.artifact(spec))
        self._told(f"{spec.version}: environment from its lock, without the package index")
        self._timed("dependencies", lambda: parts.preparer.environment(spec))
        self._told(f"{spec.version}: process with its configuration")
        self._timed("configuration", lambda: self._start(spec))
        self._told(f"{spec.version}: route, and the golden request")
        self._timed("traffic", lambda: self._route(spec))

    def _start(self, spec: SlotSpec) -> str:
        slots = OwnSlots(self._parts.supervisor)
        slots.ensure(spec, spec.configuration.start_timeout_seconds)
        return "started with it, golden request answered"

    def _route(self, spec: SlotSpec) -> str:
        parts = self._parts
        if not parts.plane.status().is_alive:
            raise UnavailableError(
                "no data plane answers, so traffic cannot be drilled",
                code="no-server",
                hint="stemma serve",
            )
        sockets = self._status(spec).sockets
        probe = Endpoint(slot=spec.name, version=spec.version, sockets=sockets)
        parts.routes.set_probe(spec.model, probe)
        table = parts.routes.publish(parts.reader.read, parts.production.statuses)
        if not parts.plane.wait_for(table.revision, _CONFIRM_SECONDS):
            raise UnavailableError("the data plane did not confirm the route", code="no-route")
        wrong = parts.ask_golden(spec, spec.name)
        if wrong:
            raise UnavailableError(wrong, code="golden-not-answered", hint="stemma status")
        return "golden request answered, no user moved"

    def _status(self, spec: SlotSpec) -> SlotStatus:
        return self._parts.supervisor.statuses()[spec.name]

    def _timed(self, name: str, work: Callable[[], str]) -> None:
        started = time.monotonic()
        detail, is_right = "", False
        try:
            detail, is_right = work(), True
        except StemmaError as error:
            detail = error.message
            raise
        finally:
            self._phases.append(
                Phase(
                    name=name,
                    seconds=time.monotonic() - started,
                    limit_seconds=LIMITS_SECONDS[name],
                    detail=detail,
                    is_verified=is_right,
                )
            )

    def _clear(self, model: str) -> None:
        parts = self._parts
        parts.routes.set_probe(model, None)
        if parts.plane.status().is_alive:
            table = parts.routes.publish(parts.reader.read, parts.production.statuses)
            parts.plane.wait_for(table.revision, _CONFIRM_SECONDS)
        parts.supervisor.stop_all()
        shutil.rmtree(parts.layout.root, ignore_errors=True)
