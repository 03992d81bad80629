"""Rolling back: production goes back to a version that was stable before, traffic first.

A warm version gets the traffic at once, by a change of routes alone; configuration,
dependencies and artifacts are verified right after.  A cold one is made ready first, for
there is nothing yet that could answer.

Invariants:
    * The decision is committed before traffic moves; killed in between, the server or the
      next rollback carries it out.
    * Works without the server, without the package index, and while the bad version hangs.
    * A version whose files are damaged beyond mending is passed over, and the report says so.
    * Traffic never goes to a version that has not answered its golden request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, final

from stemma.delivery.planes.base import DataPlane
from stemma.delivery.production.desired import ModelDesire
from stemma.delivery.production.reading import DesireReader
from stemma.delivery.production.routes import RoutePublisher
from stemma.delivery.records.service import DeliveryService
from stemma.delivery.slots.base import SlotSpec, SlotState, SlotStatus
from stemma.delivery.slots.preparing import Preparer
from stemma.delivery.slots.starting import SlotStarter
from stemma.delivery.values import Phase, RollbackReport
from stemma.domain.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)
from stemma.domain.rollout import Deployed, Rollout, RolloutCommand, RolloutState, Step
from stemma.domain.rollout_commands import command

LIMITS_SECONDS: Final = {
    "traffic": 60.0,
    "configuration": 120.0,
    "dependencies": 600.0,
    "artifacts": 300.0,
}
"""What the mission allows each part."""

_CONFIRM_SECONDS: Final = 10.0
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackParts:
    """What a rollback is composed of.

    Attributes:
        service: Rows of delivery.
        reader: Reads what production is to be, and what it can fall back to.
        routes: Publishes routes.
        plane: The data plane.
        preparer: Makes and verifies environments and artifacts.
        starter: Waits for slots, or starts them when no server runs.
        is_answering: Asks a slot's processes now whether they answer.
        ask_golden: Sends the golden request through the data plane; returns what is wrong.
        clock: Aware current time.
    """

    service: DeliveryService
    reader: DesireReader
    routes: RoutePublisher
    plane: DataPlane
    preparer: Preparer
    starter: SlotStarter
    is_answering: Callable[[SlotStatus], bool]
    ask_golden: Callable[[SlotSpec, str], str]
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRequest:
    """A rollback that is asked for.

    Attributes:
        model: Name of the model.
        to: SemVer text of the version to go back to; empty: the nearest.
        by: User name.
        reason: Why, in the user's words.
    """

    model: str
    to: str = ""
    by: str = ""
    reason: str = ""


@final
class Rollback:
    """One rollback at a time; see the module."""

    def __init__(self, parts: RollbackParts, told: Told) -> None:
        """Compose; ``told`` takes sentences of progress."""
        self._parts = parts
        self._told = told

    def run(self, request: RollbackRequest) -> RollbackReport:
        """Bring production back, and record how long each part took.

        Raises:
            NotFoundError: If the model is not served, or there is nothing to go back to.
            ConflictError: If ``to`` was never stable, or serves already.
            UnavailableError: If no version could be made ready.
        """
        try:
            return self._run(request)
        except ConflictError as error:
            if error.code != "rollout-running":
                raise
            # A rollout began after production was read: it is part of what is to be undone.
            self._told(f"{error.message}; rolling that back")
            return self._run(request)

    def _run(self, request: RollbackRequest) -> RollbackReport:
        began = self._parts.clock()
        desire = find_desire(self._parts.reader, request.model)
        candidates = choose(desire, request.to)
        skipped: list[str] = []
        for deployed in candidates:
            spec = desire.spec(deployed)
            try:
                phases = self._go_back(request, desire, deployed, spec)
            except (IntegrityError, NotFoundError, UnavailableError) as error:
                if error.code == "disk-full":
                    # No version is to blame, and every other one would meet the same.
                    raise
                skipped.append(f"{deployed.version}: {error.message}")
                self._told(f"{deployed.version} cannot serve: {error.message}")
                continue
            report = RollbackReport(
                model=request.model,
                before=_before(desire),
                after=deployed.version,
                phases=phases,
                is_drill=False,
                at=began,
                by=request.by,
                skipped=tuple(skipped),
            )
            self._parts.service.record_rollback(report)
            return report
        raise UnavailableError(
            f"{request.model}: no stable version could take over ({'; '.join(skipped)})",
            code="no-ready-version",
            hint=f"stemma rollback {request.model} --list, then stemma doctor",
        )

    def _go_back(
        self, request: RollbackRequest, desire: ModelDesire, deployed: Deployed, spec: SlotSpec
    ) -> tuple[Phase, ...]:
        status = self._parts.starter.status(spec.name)
        if (
            status is not None
            and status.state is SlotState.READY
            and self._parts.is_answering(status)
        ):
            traffic = self._move_traffic(request, desire, deployed, spec)
            return (
                traffic,
                self._configuration(spec, is_warm=True),
                self._checked("dependencies", lambda: self._parts.preparer.environment(spec)),
                self._checked("artifacts", lambda: self._parts.preparer.artifact(spec)),
            )
        self._told(f"{deployed.version} is not warm: making it ready")
        if desire.rollout is not None:
            # What serves beside the canary is better than the canary while this one starts.
            self._abort(request, desire.rollout)
        artifacts = self._timed("artifacts", lambda: self._parts.preparer.artifact(spec))
        dependencies = self._timed("dependencies", lambda: self._parts.preparer.environment(spec))
        configuration = self._configuration(spec, is_warm=False)
        traffic = self._move_traffic(request, desire, deployed, spec)
        return (traffic, configuration, dependencies, artifacts)

    def _move_traffic(
        self, request: RollbackRequest, desire: ModelDesire, deployed: Deployed, spec: SlotSpec
    ) -> Phase:
        parts = self._parts
        started = time.monotonic()
        reason = _reason(request, desire)
        parts.service.roll_back_to(
            request.model,
            deployed,
            by=request.by,
            reason=reason,
            abort=None if desire.rollout is None else desire.rollout.id,
            make=self._aborting(request, reason),
        )
        table = parts.routes.publish(parts.reader.read, parts.starter.statuses)
        if not parts.plane.status().is_alive:
            seconds = time.monotonic() - started
            return _phase("traffic", seconds, "nothing serves now; decided for the next start")
        is_confirmed = parts.plane.wait_for(table.revision, _CONFIRM_SECONDS)
        seconds = time.monotonic() - started
        self._told(f"traffic is at {deployed.version}")
        wrong = parts.ask_golden(spec, "") if is_confirmed else "the data plane did not confirm"
        return _phase("traffic", seconds, wrong or "golden request answered", is_right=not wrong)

    def _abort(self, request: RollbackRequest, rollout: Rollout) -> None:
        parts = self._parts
        reason = request.reason or f"rollback from {rollout.canary.version}"
        parts.service.step_rollout(rollout.id, self._aborting(request, reason), by=request.by)
        parts.routes.publish(parts.reader.read, parts.starter.statuses)

    def _aborting(self, request: RollbackRequest, reason: str) -> Callable[[Rollout], Step]:
        def abort(rollout: Rollout) -> Step:
            if rollout.state is RolloutState.ROLLING_BACK or rollout.state.is_final:
                return Step(rollout=rollout)
            now = self._parts.clock()
            return command(rollout, RolloutCommand.ABORT, by=request.by, reason=reason, now=now)

        return abort

    def _configuration(self, spec: SlotSpec, *, is_warm: bool) -> Phase:
        started = time.monotonic()
        status = self._parts.starter.ensure(spec, spec.configuration.start_timeout_seconds)
        seconds = time.monotonic() - started
        is_right = status.spec.configuration_digest == spec.configuration_digest
        detail = "already in force" if is_warm else "started with it, golden request answered"
        return _phase("configuration", seconds, detail, is_right=is_right)

    def _timed(self, name: str, work: Callable[[], str]) -> Phase:
        started = time.monotonic()
        detail = work()
        return _phase(name, time.monotonic() - started, detail)

    def _checked(self, name: str, work: Callable[[], str]) -> Phase:
        """Like ``_timed`` for what serves already: what is wrong is told, and changes nothing."""
        started = time.monotonic()
        try:
            return self._timed(name, work)
        except StemmaError as error:
            seconds = time.monotonic() - started
            return _phase(name, seconds, error.message, is_right=False)


def find_desire(reader: DesireReader, model: str) -> ModelDesire:
    """Return what the model's production is to be.

    Raises:
        NotFoundError: If the model is not served.
    """
    found = next((item for item in reader.read() if item.model == model), None)
    if found is None:
        raise NotFoundError(
            f"{model} is not served",
            code="not-served",
            hint=f"stemma serve {model}@stable",
        )
    return found


def choose(desire: ModelDesire, to: str) -> tuple[Deployed, ...]:
    """Return the versions to try, the wanted one first.  Pure.

    While a rollout is under way, going back means to what serves beside it.

    Raises:
        NotFoundError: If there is nothing to go back to.
        ConflictError: If ``to`` was never stable, or serves already with no rollout under way.
    """
    model, current = desire.model, desire.deployment.deployed
    known = (current, *desire.earlier) if desire.rollout is not None else desire.earlier
    if not to:
        if not known:
            raise NotFoundError(
                f"{model} {current.version} is the only version that was ever stable",
                code="nothing-to-roll-back-to",
                hint=f"stemma log {model} --channel stable",
            )
        return known
    for index, deployed in enumerate(known):
        if deployed.version == to:
            return known[index:]
    if to == current.version:
        raise ConflictError(
            f"{model} {to} serves already", code="serves-already", hint="stemma status"
        )
    raise ConflictError(
        f"{model} {to} was never stable, so it is not known to serve well",
        code="never-stable",
        hint=f"stemma rollout {model}@{to}, or one of: "
        + (", ".join(item.version for item in known) or "none"),
    )


def _reason(request: RollbackRequest, desire: ModelDesire) -> str:
    return request.reason or f"rollback from {_before(desire)}"


def _before(desire: ModelDesire) -> str:
    rollout = desire.rollout
    return desire.deployment.deployed.version if rollout is None else rollout.canary.version


def _phase(name: str, seconds: float, detail: str, *, is_right: bool = True) -> Phase:
    return Phase(
        name=name,
        seconds=seconds,
        limit_seconds=LIMITS_SECONDS[name],
        detail=detail,
        is_verified=is_right,
    )
