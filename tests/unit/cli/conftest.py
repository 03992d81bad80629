"""Rollouts and what serves, built by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from stemma.delivery.slots.base import ReplicaStatus, SlotSpec, SlotState, SlotStatus
from stemma.delivery.values import (
    ConfigurationVersion,
    Deployment,
    ModelServing,
    RolloutEvent,
    RolloutView,
    ServerView,
    ServingView,
)
from stemma.domain.configuration import Configuration
from stemma.domain.judge import Assessment, Guardrail, Standing
from stemma.domain.rollout import Decision, Deployed, Rollout, RolloutId, RolloutPlan, RolloutState

WHEN = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "cd" * 32
STABLE = Deployed(version="1.0.0", manifest="sha256:" + "ab" * 32, configuration=DIGEST)
CANARY = Deployed(version="1.1.0", manifest="sha256:" + "ba" * 32, configuration=DIGEST)
HOLDING = Assessment(
    guardrails=(
        Guardrail(
            metric="errors",
            standing=Standing.HOLDS,
            canary_value=0.0,
            stable_value=0.001,
            e_value=0.4,
            limit=300.0,
            canary_trials=1204,
        ),
        Guardrail(
            metric="latency_p99",
            standing=Standing.HOLDS,
            canary_value=1204.0,
            stable_value=1400.0,
            e_value=0.02,
            limit=300.0,
            canary_trials=1204,
        ),
    ),
    is_breached=False,
    is_sufficient=True,
    reason="no guardrail is breached",
)


@pytest.fixture
def when() -> datetime:
    """Return when everything here began."""
    return WHEN


@pytest.fixture
def holding() -> Assessment:
    """Return an assessment in which nothing is wrong."""
    return HOLDING


@pytest.fixture
def rollout_of() -> Callable[..., Rollout]:
    """Return what makes a rollout in its second step of three, changed as asked."""
    rollout = Rollout(
        id=RolloutId("ro-12345678"),
        model="digits",
        canary=CANARY,
        stable=STABLE,
        plan=RolloutPlan(steps_bp=(500, 2500, 10_000), hold_seconds=20, hold_limit_seconds=40),
        state=RolloutState.CANARY,
        step=1,
        held_seconds=7.0,
        started_at=WHEN,
        last_look_at=WHEN,
        started_by="ada",
        assessment=HOLDING,
    )

    def make(**changes: Any) -> Rollout:
        return replace(rollout, **changes)

    return make


@pytest.fixture
def view_of() -> Callable[..., RolloutView]:
    """Return what gives a rollout a log, one line per text; ``look: …`` makes a look."""

    def make(rollout: Rollout, *texts: str) -> RolloutView:
        events = tuple(
            RolloutEvent(
                sequence=number,
                at=WHEN,
                decision=Decision(
                    kind="look" if text.startswith("look") else "step",
                    text=text,
                    weight_bp=rollout.weight_bp,
                    state=rollout.state,
                ),
            )
            for number, text in enumerate(texts, start=1)
        )
        return RolloutView(rollout=rollout, events=events)

    return make


@pytest.fixture
def configuration_of() -> Callable[..., ConfigurationVersion]:
    """Return what makes the n-th configuration of digits."""

    def make(number: int = 1, *proven_with: str, **settings: Any) -> ConfigurationVersion:
        return ConfigurationVersion(
            model="digits",
            number=number,
            digest=DIGEST,
            configuration=Configuration(**settings),
            created_at=WHEN,
            by="ada",
            proven_with=proven_with,
        )

    return make


@pytest.fixture
def serving_of(configuration_of: Callable[..., ConfigurationVersion]) -> Callable[..., ServingView]:
    """Return what makes a view of digits 1.0.0 served by one ready process, changed as asked."""
    spec = SlotSpec(
        name="digits-1.0.0-c1",
        model="digits",
        version="1.0.0",
        manifest=STABLE.manifest,
        configuration_digest=DIGEST,
        configuration=Configuration(),
    )
    ready = ReplicaStatus(
        pid=77,
        state=SlotState.READY,
        socket="/run/s",
        since=WHEN,
        memory_bytes=120_000_000,
    )
    slot = SlotStatus(spec=spec, state=SlotState.READY, since=WHEN, replicas=(ready,))
    server = ServerView(
        is_running=True,
        is_answering=True,
        pid=42,
        address="http://127.0.0.1:8700",
        plane="envoy",
        since=WHEN,
    )

    def make(
        *, server_changes: Any = None, slot_changes: Any = None, replica: Any = None, **changes: Any
    ) -> ServingView:
        replicas = (replace(ready, **(replica or {})),)
        model = ModelServing(
            deployment=Deployment(
                model="digits", deployed=STABLE, sequence=1, kind="serve", since=WHEN, by="ada"
            ),
            configuration=configuration_of(3),
            slots=(replace(slot, replicas=replicas, **(slot_changes or {})),),
            stable_channel="1.0.0",
        )
        return ServingView(
            server=replace(server, **(server_changes or {})), models=(replace(model, **changes),)
        )

    return make
