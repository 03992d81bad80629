"""What verbs say about what serves: pure functions from a ``ServingView`` to lines.

Invariants:
    * Pure: the view and the time come in, lines and rows go out.
    * What production is to be (the deployment) and what is there (the slots) are told
      apart; where they differ, the difference is a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from stemma.cli import render
from stemma.cli.plain import plain
from stemma.cli.rollout_cards import rollout_line, rollout_payload
from stemma.delivery.slots.base import SlotState, SlotStatus
from stemma.delivery.values import ModelServing, RolloutView, ServerView, ServingView


def predict_url(address: str, model: str) -> str:
    """Return the URL that answers a model's requests."""
    return f"{address}/v1/models/{model}:predict"


def ready_line(server: ServerView, model: ModelServing) -> str:
    """Say where a model is served: address, channel and version."""
    version = model.deployment.deployed.version
    channel = "stable = " if model.stable_channel == version else ""
    url = predict_url(server.address, model.deployment.model)
    return f"{render.DONE} {url}   → {channel}{version}"


def stable_slot(model: ModelServing) -> SlotStatus | None:
    """Return the slot of what production is to be; ``None`` while there is none."""
    deployed = model.deployment.deployed
    for slot in model.slots:
        spec = slot.spec
        is_same = spec.version == deployed.version
        if is_same and spec.configuration_digest == deployed.configuration:
            return slot
    return None


def serving_rows(view: ServingView, now: datetime) -> list[list[str]]:
    """Return rows of model, version, what, state, detail; the server's row is the last."""
    rows: list[list[str]] = []
    for model in view.models:
        version = model.deployment.deployed.version
        name = model.deployment.model
        rows += [[name, version, *row] for row in _model_rows(view.server, model, now)]
    if view.models or view.server.is_running or view.server.is_answering:
        rows.append(["", "", "server", *_server_state(view.server, now)])
    return rows


def _server_state(server: ServerView, now: datetime) -> tuple[str, str]:
    if server.is_running:
        since = f"since {render.ago(server.since, now)}" if server.since is not None else ""
        parts = [server.address, server.plane, f"pid {server.pid}", since, server.detail]
        return "running", "  ".join(part for part in parts if part)
    if server.is_answering:
        what = "requests are answered, but nobody looks after them: stemma serve"
        return "gone", server.detail or what
    return "not running", f"{server.detail}: stemma serve" if server.detail else "stemma serve"


def _model_rows(
    server: ServerView, model: ModelServing, now: datetime
) -> Iterator[tuple[str, str, str]]:
    """Yield what, state and detail."""
    deployment, slot = model.deployment, stable_slot(model)
    since = f"since {deployment.since:%Y-%m-%d %H:%M} UTC ({render.ago(deployment.since, now)})"
    by = f"by {deployment.kind}" + (f" of {deployment.by}" if deployment.by else "")
    state = slot.state.value if slot is not None else "not there yet"
    if not (server.is_running or server.is_answering):
        state = "not served"
    parts = [f"{deployment.deployed.version} with c{model.configuration.number}", since, by]
    if server.address:
        parts.append(predict_url(server.address, deployment.model))
    yield "serving", state, "  ".join(parts)
    for found in model.slots:
        yield from _slot_rows(found, now)
    if model.rollout is not None:
        yield "rollout", model.rollout.state.value, rollout_line(model.rollout)
    channel = model.stable_channel
    if channel and channel != deployment.deployed.version:
        what = f"the channel stable says {channel}, but {deployment.deployed.version} serves"
        yield "channel", "differs", f"{what}: stemma rollout {deployment.model}@{channel}"


def _slot_rows(slot: SlotStatus, now: datetime) -> Iterator[tuple[str, str, str]]:
    """Yield the health of a slot's processes, and what happened to them."""
    ready = sum(replica.state is SlotState.READY for replica in slot.replicas)
    memory = sum(replica.memory_bytes for replica in slot.replicas)
    restarts = sum(replica.restarts for replica in slot.replicas)
    parts = [slot.spec.version, slot.spec.name]
    parts += [render.size(memory)] if memory else []
    parts += [render.count(restarts, "restart")] if restarts else []
    wanted = max(len(slot.replicas), slot.spec.configuration.replicas)
    yield "replicas", f"{ready} of {wanted} ready", "  ".join(parts)
    if slot.detail and not any(replica.detail == slot.detail for replica in slot.replicas):
        yield "incident", slot.state.value, f"{slot.detail} ({render.ago(slot.since, now)})"
    for number, replica in enumerate(slot.replicas):
        if replica.detail:
            when = render.ago(replica.since, now)
            what = f"{slot.spec.version} replica {number}: {replica.detail} ({when})"
            yield "incident", replica.state.value, what


def serving_payload(view: ServingView) -> dict[str, Any]:
    """Return what serves as JSON values, models by name."""
    return {
        "server": plain(view.server),
        "models": {model.deployment.model: _model_payload(view, model) for model in view.models},
    }


def _model_payload(view: ServingView, model: ModelServing) -> dict[str, Any]:
    payload: dict[str, Any] = plain(model)
    slot = stable_slot(model)
    payload["rollout"] = (
        rollout_payload(RolloutView(rollout=model.rollout), has_events=False)
        if model.rollout is not None
        else None
    )
    url = predict_url(view.server.address, model.deployment.model) if view.server.address else ""
    is_ready = slot is not None and slot.state is SlotState.READY
    return {**payload, "url": url, "is_ready": is_ready}
