"""What is to run, from what is to serve: pure functions of rows and rollouts.

Invariants:
    * What a route table names is wanted, so no request is sent to a slot that is being stopped.
    * A version in CANARY stays in the table while its processes are down: stable answers
      for it, and the judge sees each failure.
    * Until a new stable slot has been ready, the old one goes on serving.

This module starts nothing and writes nothing; ``controller`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stemma.delivery.slots.base import SlotSpec, SlotState, SlotStatus
from stemma.delivery.values import ConfigurationVersion, Deployment
from stemma.domain.rollout import Deployed, Rollout
from stemma.domain.routing import Endpoint, ModelRoute

SocketsOf = Callable[[str, int], tuple[str, ...]]
"""From a slot's name and its number of replicas to the paths of their sockets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDesire:
    """What one model's production is to be.

    Attributes:
        deployment: What serves when no rollout changes it.
        rollout: The rollout under way; ``None`` when there is none.
        standby: Earlier stable versions to keep warm, the nearest first.
        earlier: Every earlier stable version that can be rolled back to, the nearest first.
        configurations: Configurations by digest, at least those named here.
    """

    deployment: Deployment
    rollout: Rollout | None
    standby: tuple[Deployed, ...]
    earlier: tuple[Deployed, ...]
    configurations: Mapping[str, ConfigurationVersion]

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.deployment.model

    def spec(self, deployed: Deployed, suffix: str = "") -> SlotSpec:
        """Return the slot that serves a version of this model with its configuration."""
        found = self.configurations[deployed.configuration]
        return SlotSpec(
            name=f"{slot_name(self.model, deployed.version, found.number)}{suffix}",
            model=self.model,
            version=deployed.version,
            manifest=deployed.manifest,
            configuration_digest=deployed.configuration,
            configuration=found.configuration,
        )

    @property
    def stable_spec(self) -> SlotSpec:
        """The slot of what serves."""
        return self.spec(self.deployment.deployed)

    @property
    def canary_spec(self) -> SlotSpec | None:
        """The slot on trial; ``None`` when none is needed."""
        if self.rollout is None or not self.rollout.needs_canary:
            return None
        return self.spec(self.rollout.canary)


def slot_name(model: str, version: str, configuration_number: int) -> str:
    """Return the name of the slot of a version with a configuration."""
    return f"{model}-{version}-c{configuration_number}"


def wanted_slots(desires: Iterable[ModelDesire]) -> tuple[SlotSpec, ...]:
    """Return every slot that must run: stable first, then canary, then standby."""
    wanted: dict[str, SlotSpec] = {}
    for desire in desires:
        canary = desire.canary_spec
        for spec in (
            desire.stable_spec,
            *(() if canary is None else (canary,)),
            *(desire.spec(deployed) for deployed in desire.standby),
        ):
            wanted.setdefault(spec.name, spec)
    return tuple(wanted.values())


def model_route(
    desire: ModelDesire,
    statuses: Mapping[str, SlotStatus],
    current: ModelRoute | None,
    sockets_of: SocketsOf,
) -> ModelRoute | None:
    """Return the model's route; ``None`` until its first version has been ready.

    Args:
        desire: What is to be.
        statuses: Slots by name as the supervisor sees them.
        current: The route in force; ``None`` when there is none.
        sockets_of: Where a slot's processes listen.
    """

    def endpoint(spec: SlotSpec) -> Endpoint:
        sockets = sockets_of(spec.name, spec.configuration.replicas)
        return Endpoint(slot=spec.name, version=spec.version, sockets=sockets)

    known = _known(current)
    wanted = desire.stable_spec
    if is_ready(statuses, wanted.name) or wanted.name in known:
        stable = endpoint(wanted)
    elif current is not None:
        stable = current.stable
    else:
        return None
    canary_spec, weight = desire.canary_spec, 0
    canary = None
    if canary_spec is not None and canary_spec.name != stable.slot:
        weight = 0 if desire.rollout is None else desire.rollout.weight_bp
        if weight or is_ready(statuses, canary_spec.name):
            canary = endpoint(canary_spec)
    standby = [
        endpoint(spec)
        for spec in (desire.spec(deployed) for deployed in desire.standby)
        if is_ready(statuses, spec.name) or spec.name in known
    ]
    used = {stable.slot, canary.slot if canary else ""}
    return ModelRoute(
        model=desire.model,
        stable=stable,
        canary=canary,
        canary_weight_bp=weight if canary else 0,
        standby=tuple(item for item in standby if item.slot not in used),
        timeout_seconds=float(wanted.configuration.timeout_seconds),
    )


def is_ready(statuses: Mapping[str, SlotStatus], name: str) -> bool:
    """Whether at least one process of the slot answered its golden request."""
    found = statuses.get(name)
    return found is not None and (found.state is SlotState.READY or bool(found.sockets))


def with_probe(route: ModelRoute, probe: Endpoint | None) -> ModelRoute:
    """Return the route with a slot that only its own header reaches."""
    return replace(route, probe=probe)


def routed_slots(routes: Sequence[ModelRoute]) -> frozenset[str]:
    """Return the names of every slot that a table sends requests to."""
    return frozenset(
        endpoint.slot
        for route in routes
        for endpoint in (route.stable, route.canary, route.probe)
        if endpoint is not None
    )


def _known(current: ModelRoute | None) -> frozenset[str]:
    """Return slots that were ready before: they are in the table in force."""
    if current is None:
        return frozenset()
    endpoints = (current.stable, current.canary, *current.standby)
    return frozenset(endpoint.slot for endpoint in endpoints if endpoint is not None)
