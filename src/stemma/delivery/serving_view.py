"""What serves, put together from rows and from what can be seen on this machine."""

from __future__ import annotations

from collections.abc import Callable

from stemma.delivery.parts import DeliveryParts
from stemma.delivery.production.desired import ModelDesire, is_ready
from stemma.delivery.recovery.rollback import find_desire
from stemma.delivery.server_file import is_server_running, read_server
from stemma.delivery.slots.base import SlotStatus
from stemma.delivery.slots.environments import is_built
from stemma.delivery.slots.materialise import is_materialised
from stemma.delivery.slots.statuses import read_statuses
from stemma.delivery.values import ModelServing, Readiness, ServerView, ServingView
from stemma.domain.rollout import Deployed


def read_serving(parts: DeliveryParts, stable_version: Callable[[str], str]) -> ServingView:
    """Return everything that serves.

    Args:
        parts: What delivery is composed of.
        stable_version: Where the channel ``stable`` of a model points.
    """
    statuses = read_statuses(parts.layout)
    return ServingView(
        server=read_server_view(parts),
        models=tuple(
            _model(desire, statuses, stable_version(desire.model)) for desire in parts.reader.read()
        ),
    )


def read_server_view(parts: DeliveryParts) -> ServerView:
    """Return how the server and its data plane are."""
    record = read_server(parts.layout)
    if record is None:
        return ServerView(is_running=False, is_answering=False)
    is_running = is_server_running(parts.layout)
    plane = parts.plane().status()
    detail = plane.detail
    if plane.is_alive and not is_running:
        detail = "the server is gone, its data plane and model processes go on: stemma serve"
    elif is_running and not plane.is_alive:
        detail = detail or "the data plane does not answer"
    return ServerView(
        is_running=is_running,
        is_answering=plane.is_alive,
        pid=record.pid if is_running else 0,
        address=record.address,
        plane=record.plane,
        since=record.since if is_running else None,
        detail=detail,
    )


def _model(
    desire: ModelDesire, statuses: dict[str, SlotStatus], stable_channel: str
) -> ModelServing:
    own = {name: status for name, status in statuses.items() if status.spec.model == desire.model}
    first = desire.stable_spec.name
    return ModelServing(
        deployment=desire.deployment,
        configuration=desire.configurations[desire.deployment.deployed.configuration],
        slots=tuple(own[name] for name in sorted(own, key=lambda name: (name != first, name))),
        rollout=desire.rollout,
        stable_channel=stable_channel,
        weight_bp=0 if desire.rollout is None else desire.rollout.weight_bp,
    )


def readiness_of(parts: DeliveryParts, model: str) -> list[Readiness]:
    """Return the newest stable versions and how ready each is, the one that serves first.

    Raises:
        NotFoundError: If the model is not served.
    """
    desire = find_desire(parts.reader, model)
    statuses = read_statuses(parts.layout)
    present = desire.deployment.deployed
    return [
        _readiness(parts, desire, deployed, statuses, is_current=deployed == present)
        for deployed in (present, *desire.earlier)
    ]


def _readiness(
    parts: DeliveryParts,
    desire: ModelDesire,
    deployed: Deployed,
    statuses: dict[str, SlotStatus],
    *,
    is_current: bool,
) -> Readiness:
    identity = str(parts.preparer.load_manifest(deployed.manifest).environment.identity)
    has_environment = is_built(parts.layout, identity)
    has_artifact = is_materialised(parts.layout, deployed.manifest)
    missing = [
        name
        for name, is_there in (("environment", has_environment), ("artifact", has_artifact))
        if not is_there
    ]
    return Readiness(
        deployed=deployed,
        is_current=is_current,
        is_warm=is_ready(statuses, desire.spec(deployed).name),
        has_environment=has_environment,
        has_artifact=has_artifact,
        detail=f"{' and '.join(missing)} not made ready yet" if missing else "",
    )
