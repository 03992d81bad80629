"""Verbs that move traffic, in this process; what they decide the server carries out.

Invariants:
    * A verb writes a decision into the database and returns; only ``rollback`` also moves
      routes itself, so that it works when the server is gone.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Final

from typing_extensions import override

from stemma.delivery.access_log import arrival_times_ms, end_of
from stemma.delivery.production.deploying import (
    check_methods,
    check_servable,
    configuration_of,
    to_deployed,
)
from stemma.delivery.recovery.drill import Drill, DrillRequest
from stemma.delivery.recovery.rollback import Rollback, RollbackRequest, find_desire
from stemma.delivery.server_file import is_server_running
from stemma.delivery.serving_view import read_serving, readiness_of
from stemma.delivery.slots.base import SlotSpec
from stemma.delivery.staging.run import SUFFIX, StagingOptions, StagingSubject
from stemma.delivery.values import (
    ConfigurationVersion,
    Deployment,
    Readiness,
    RollbackReport,
    RolloutView,
    ServingView,
    StagingReport,
)
from stemma.domain.configuration import Configuration, configuration_digest
from stemma.domain.errors import ConflictError, NotFoundError, UnavailableError
from stemma.domain.release import STABLE, refuse_prerelease_on_stable
from stemma.domain.rollout import Rollout, RolloutCommand, RolloutId, Step
from stemma.domain.rollout_commands import command as commanded
from stemma.domain.rollout_steps import begin
from stemma.hub.base import VersionView
from stemma.hub.delivery import DeliveryVerbs, RolloutRequest, StagingRequest, Told
from stemma.hub.local_parts import LocalParts
from stemma.hub.local_versions import LocalVersions

_STAGING_SECONDS: Final = 10.0
_LEAST_STAGING_SECONDS: Final = 3.0
"""In less time one pause of a busy machine looks like a version that cannot keep up."""

_PATTERN_SECONDS: Final = 60.0
"""How far back production's arrivals are looked at."""


class LocalDelivery(LocalVersions, DeliveryVerbs):
    """Serving, rollouts and rollbacks of one project."""

    _parts: LocalParts

    @override
    def check_deploy(self, ref: str, *, is_stable: bool = False) -> None:
        view = self._servable(ref)
        if is_stable:
            refuse_prerelease_on_stable(view.model, STABLE, view.version)
        current = self._parts.delivery.service.deployment(view.model)
        if current is not None and current.deployed.version != view.version:
            raise ConflictError(
                f"{view.model} {current.deployed.version} serves already",
                code="another-version-serves",
                hint=f"stemma rollout {view.label}, or stemma rollback {view.model}",
            )

    @override
    def deploy(self, ref: str, *, is_stable: bool = False, reason: str = "") -> Deployment:
        service = self._parts.delivery.service
        with self._parts.writing():
            self.check_deploy(ref, is_stable=is_stable)
            view = self.resolve(ref)
            configuration = service.put_configuration(
                view.model, self._configuration_of(view), by=self._parts.user
            )
            wanted = to_deployed(view.version, view.digest, configuration)
            current = service.deployment(view.model)
            is_moved = is_stable and view.version != self._stable_version(view.model)
            if current is not None and current.deployed == wanted and not is_moved:
                return current
            kind = "serve" if current is None else "reconfigure"
            return service.deploy(
                view.model,
                wanted,
                kind=kind,
                by=self._parts.user,
                reason=reason,
                moves_stable=is_stable,
            )

    @override
    def withdraw(self, model: str, *, reason: str = "") -> None:
        with self._parts.writing():
            self._parts.delivery.service.withdraw(model, by=self._parts.user, reason=reason)

    @override
    def serving(self) -> ServingView:
        return read_serving(self._parts.delivery, self._stable_version)

    @override
    def validate(self, request: StagingRequest, told: Told) -> StagingReport:
        view = self._servable(request.ref)
        configuration = self._configuration_of(view)
        digest = str(configuration_digest(configuration))
        spec = SlotSpec(
            name=f"{view.model}-{view.version}{SUFFIX}",
            model=view.model,
            version=view.version,
            manifest=str(view.digest),
            configuration_digest=digest,
            configuration=configuration,
        )
        options = StagingOptions(
            requests_path=request.requests_path,
            seconds=request.seconds,
            rate_per_second=request.rate_per_second,
        )
        return self._parts.delivery.stage(self._subject(spec), options, told)

    def stage_rollout(self, rollout: Rollout) -> StagingReport:
        """Validate what a rollout is to put before users, with the configuration it will have."""
        delivery, canary = self._parts.delivery, rollout.canary
        found = delivery.service.configuration(rollout.model, canary.configuration)
        spec = SlotSpec(
            name=f"{rollout.model}-{canary.version}{SUFFIX}",
            model=rollout.model,
            version=canary.version,
            manifest=canary.manifest,
            configuration_digest=canary.configuration,
            configuration=found.configuration,
        )
        asked = rollout.plan.hold_seconds / 4
        seconds = min(_STAGING_SECONDS, max(_LEAST_STAGING_SECONDS, asked))
        # Drills are asked of the promotion: what fails here could not be drilled better meanwhile.
        subject = replace(self._subject(spec), is_drill_asked=False)
        return delivery.stage(subject, StagingOptions(seconds=seconds), _tell_nobody)

    def _subject(self, spec: SlotSpec) -> StagingSubject:
        delivery = self._parts.delivery
        current = delivery.service.deployment(spec.model)
        log = delivery.plane().access_log
        return StagingSubject(
            spec=spec,
            policy=self._parts.policy(spec.model),
            deployed_version="" if current is None else current.deployed.version,
            deployed_manifest="" if current is None else current.deployed.manifest,
            last_drill=delivery.service.last_drill(spec.model),
            arrival_times_ms=arrival_times_ms(log, spec.model, _PATTERN_SECONDS),
        )

    @override
    def start_rollout(self, request: RolloutRequest) -> RolloutView:
        view = self._servable(request.ref)
        refuse_prerelease_on_stable(view.model, STABLE, view.version)
        delivery = self._parts.delivery
        desire = find_desire(delivery.reader, view.model)
        if not is_server_running(delivery.layout):
            raise UnavailableError(
                "no server runs, so nobody would carry the rollout on",
                code="no-server",
                hint="stemma serve",
            )
        if desire.rollout is None and desire.deployment.deployed.version == view.version:
            raise ConflictError(
                f"{view.label} serves already", code="serves-already", hint="stemma status"
            )
        with self._parts.writing():
            configuration = delivery.service.put_configuration(
                view.model, self._configuration_of(view), by=self._parts.user
            )
            step = begin(
                Rollout(
                    id=RolloutId(f"ro-{secrets.token_hex(4)}"),
                    model=view.model,
                    canary=to_deployed(view.version, view.digest, configuration),
                    stable=desire.deployment.deployed,
                    plan=request.plan,
                    position=end_of(delivery.plane().access_log),
                    started_at=self._parts.clock(),
                    started_by=self._parts.user,
                    reason=request.reason,
                )
            )
            delivery.service.begin_rollout(step.rollout, step.decisions)
        return self.rollout(view.model)

    @override
    def rollout(self, model: str) -> RolloutView:
        service = self._parts.delivery.service
        found = service.newest_rollout(model)
        if found is None:
            raise NotFoundError(
                f"{model} was never rolled out",
                code="no-rollout",
                hint=f"stemma rollout {model}@VERSION",
            )
        return RolloutView(rollout=found, events=tuple(service.events(found.id)))

    @override
    def command_rollout(
        self, model: str, command: RolloutCommand, *, reason: str = ""
    ) -> RolloutView:
        found = self._parts.delivery.service.active_rollout(model)
        if found is None:
            raise ConflictError(
                f"{model}: no rollout is under way",
                code="no-active-rollout",
                hint=f"stemma rollout status {model}",
            )

        def make(newest: Rollout) -> Step:
            return _command(newest, command, self._parts, reason)

        with self._parts.writing():
            self._parts.delivery.service.step_rollout(found.id, make, by=self._parts.user)
        return self.rollout(model)

    @override
    def rollback(
        self, model: str, told: Told, *, to: str = "", is_drill: bool = False, reason: str = ""
    ) -> RollbackReport:
        delivery, user = self._parts.delivery, self._parts.user
        version = self.resolve(to if "@" in to else f"{model}@{to}").version if to else ""
        if is_drill:
            with delivery.drill_parts() as parts:
                return Drill(parts, told).run(DrillRequest(model=model, to=version, by=user))
        with self._parts.writing(), delivery.rollback_parts() as rollback_parts:
            return Rollback(rollback_parts, told).run(
                RollbackRequest(model=model, to=version, by=user, reason=reason)
            )

    @override
    def drills(self, model: str) -> list[RollbackReport]:
        return self._parts.delivery.service.rollbacks(model)

    @override
    def readiness(self, model: str) -> list[Readiness]:
        return readiness_of(self._parts.delivery, model)

    @override
    def configurations(self, model: str) -> list[ConfigurationVersion]:
        return self._parts.delivery.service.configurations(model)

    def _servable(self, ref: str) -> VersionView:
        view = self.resolve(ref)
        check_servable(view.label, view.version, view.manifest)
        self._configuration_of(view)
        return view

    def _configuration_of(self, view: VersionView) -> Configuration:
        """Return what ``stemma.toml`` says now, if the version can do it."""
        found = configuration_of(self._parts.models, view.model)
        check_methods(view.label, view.manifest, found)
        return found

    def _stable_version(self, model: str) -> str:
        return self._parts.catalog.channels(model).get(STABLE, "")


def _command(rollout: Rollout, asked: RolloutCommand, parts: LocalParts, reason: str) -> Step:
    return commanded(rollout, asked, by=parts.user, reason=reason, now=parts.clock())


def _tell_nobody(_: str) -> None:
    """Take a sentence that nobody waits for."""
