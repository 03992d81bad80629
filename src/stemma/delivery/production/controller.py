"""The controller: makes what runs and what is routed follow what is decided.

One round (``tick``): read what is to be from the database, publish routes, let the
supervisor start and stop, look at each rollout, publish what was decided.

Invariants:
    * Everything it knows is in the database or can be seen again; it may be killed at any
      instant, and a new one goes on.
    * A decision is committed before the routes follow, and routes follow in the same round.
    * A request is counted once: the position in the log is committed with the counts.
    * A slot is stopped only after the table without it is in force, and after the longest
      time that a request sent to it before may take.

This module decides nothing about rollouts (``domain.rollout_steps``) and starts no process
itself (``slots.supervisor``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, final

from stemma.delivery.access_log import read_intervals
from stemma.delivery.planes.base import DataPlane, PlaneStatus
from stemma.delivery.production.desired import ModelDesire, routed_slots, wanted_slots
from stemma.delivery.production.plane_watch import PlaneWatch
from stemma.delivery.production.reading import DesireReader
from stemma.delivery.production.routes import RoutePublisher
from stemma.delivery.records.service import DeliveryService
from stemma.delivery.slots.base import SlotSpec, SlotState, SlotStatus
from stemma.delivery.slots.supervisor import Supervisor
from stemma.domain.rollout import Observations, Rollout, RolloutState, Step
from stemma.domain.rollout_steps import advance, is_judged
from stemma.domain.routing import RouteTable
from stemma.domain.traffic import Interval, MetricCounts

LOOK_SECONDS: Final = 0.5
"""How often a rollout is looked at."""


class Validations(Protocol):
    """Runs the validation of rollouts beside the controller's rounds."""

    def result(self, rollout: Rollout) -> tuple[bool, str] | None:
        """Return passed and reason; ``None`` while it runs. The first call starts it."""
        ...


class PromotionGuard(Protocol):
    """Says whether something forbids a promotion."""

    def __call__(self, desire: ModelDesire) -> str:
        """Return why the model may not be promoted; empty when it may."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerParts:
    """What a controller is composed of.

    Attributes:
        service: Rows of delivery.
        reader: Reads what production is to be.
        supervisor: Starts, watches and stops processes.
        plane: Spreads requests.
        routes: Publishes routes.
        validations: Validates before traffic moves.
        promotion_guard: Says whether drills forbid a promotion.
        clock: Aware current time.
        asked: Slots that commands under way need beside what the database says.
    """

    service: DeliveryService
    reader: DesireReader
    supervisor: Supervisor
    plane: DataPlane
    routes: RoutePublisher
    validations: Validations
    promotion_guard: PromotionGuard
    clock: Callable[[], datetime]
    asked: Callable[[], Sequence[SlotSpec]] = tuple


@final
class Controller:
    """Runs the rounds; one per project at a time, held by the server's lock."""

    def __init__(self, parts: ControllerParts) -> None:
        """Compose; nothing runs before the first ``tick``."""
        self._parts = parts
        self._last_look = 0.0
        self._watch = PlaneWatch(parts.plane, parts.routes)
        self._routed_at: dict[str, float] = {}

    def tick(self) -> None:
        """Do one round; takes milliseconds and never waits for a process."""
        parts = self._parts
        table = parts.routes.publish(parts.reader.read, parts.supervisor.statuses)
        desires = parts.reader.read()
        plane = self._watch.look(table.revision)
        parts.supervisor.want(self._wanted(desires, table, plane))
        parts.supervisor.tick()
        now = time.monotonic()
        if now - self._last_look >= LOOK_SECONDS:
            self._last_look = now
            going_on = [desire for desire in desires if desire.rollout is not None]
            if [self._look(desire, table, plane) for desire in going_on]:
                parts.routes.publish(parts.reader.read, parts.supervisor.statuses)

    def keep_plane(self) -> bool:
        """Start the data plane again when it is gone; returns whether it was.

        Raises:
            ConflictError: If somebody took its port meanwhile (``port-in-use``).
            UnavailableError: If it does not come up (``data-plane-failed``).
        """
        return self._watch.keep()

    def _wanted(
        self, desires: Sequence[ModelDesire], table: RouteTable, plane: PlaneStatus
    ) -> tuple[SlotSpec, ...]:
        """Return what must run, and what requests may still be on their way to."""
        wanted = {spec.name: spec for spec in wanted_slots(desires)}
        served = {desire.model for desire in desires}
        for spec in self._parts.asked():
            if spec.model in served:
                wanted.setdefault(spec.name, spec)
        statuses = self._parts.supervisor.statuses()
        # What the table names stays; when a newer table is not yet in force, so does the rest.
        is_settled = plane.revision >= table.revision
        now = time.monotonic()
        self._routed_at |= dict.fromkeys(routed_slots(table.models), now)
        for name, status in statuses.items():
            # A request sent there just before the routes changed may take its whole time.
            patience = status.spec.configuration.timeout_seconds
            is_busy = now - self._routed_at.get(name, -patience) < patience
            if status.spec.model in served and (is_busy or not is_settled):
                wanted.setdefault(name, status.spec)
        return tuple(wanted.values())

    def _look(self, desire: ModelDesire, table: RouteTable, plane: PlaneStatus) -> Step | None:
        rollout = desire.rollout
        if rollout is None:
            return None
        canary = desire.spec(rollout.canary).name
        weight_bp = _weight_in_force(rollout.model, canary, table, plane)
        observations = self._observe(desire, rollout, weight_bp)
        now = self._parts.clock()

        def look(newest: Rollout, metrics: Mapping[str, MetricCounts]) -> Step:
            if newest.state.is_final or newest.position != rollout.position:
                return Step(rollout=newest)  # somebody ended it, or counted this already
            interval = replace(observations.interval, metrics=metrics)
            return advance(newest, replace(observations, interval=interval), now)

        return self._parts.service.look_at_rollout(rollout.id, look)

    def _observe(
        self, desire: ModelDesire, rollout: Rollout, weight_in_force_bp: int | None
    ) -> Observations:
        parts = self._parts
        canary = desire.spec(rollout.canary)
        status = parts.supervisor.statuses().get(canary.name)
        intervals, position = read_intervals(
            parts.plane.access_log, rollout.position, is_from_end=not is_judged(rollout)
        )
        validation = (
            parts.validations.result(rollout) if rollout.state is RolloutState.VALIDATING else None
        )
        return Observations(
            interval=intervals.get(rollout.model, Interval()),
            position=position,
            validation=None if validation is None else validation[0],
            validation_reason="" if validation is None else validation[1],
            is_canary_ready=status is not None and status.state is SlotState.READY,
            canary_failure=_failure(status),
            weight_in_force_bp=weight_in_force_bp,
            promotion_block=parts.promotion_guard(desire),
        )


def _weight_in_force(
    model: str, canary_slot: str, table: RouteTable, plane: PlaneStatus
) -> int | None:
    """Return the canary's weight when the plane confirms it."""
    if not plane.is_alive or plane.revision < table.revision:
        return None
    route = next((route for route in table.models if route.model == model), None)
    if route is None:
        return None
    return 10_000 if route.stable.slot == canary_slot else route.canary_weight_bp


def _failure(status: SlotStatus | None) -> str:
    return status.detail if status is not None and status.state is SlotState.FAILED else ""
