"""What is to run and where requests go, as pure functions of rows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stemma.delivery.production.desired import ModelDesire, model_route, routed_slots, wanted_slots
from stemma.delivery.recovery.rollback import choose
from stemma.delivery.slots.base import ReplicaStatus, SlotSpec, SlotState, SlotStatus
from stemma.delivery.values import ConfigurationVersion, Deployment
from stemma.domain.configuration import Configuration
from stemma.domain.errors import ConflictError, NotFoundError
from stemma.domain.rollout import Deployed, Rollout, RolloutId, RolloutPlan, RolloutState
from stemma.domain.routing import ModelRoute

NOW = datetime(2026, 5, 3, tzinfo=UTC)
CONFIGURATION = ConfigurationVersion(
    model="digits",
    number=1,
    digest="sha256:c1",
    configuration=Configuration(replicas=2),
    created_at=NOW,
    by="ada",
)


def deployed(version: str) -> Deployed:
    return Deployed(version=version, manifest=f"sha256:{version}", configuration="sha256:c1")


def desire(
    version: str = "1.0.0", *, rollout: Rollout | None = None, earlier: tuple[str, ...] = ()
) -> ModelDesire:
    return ModelDesire(
        deployment=Deployment(
            model="digits",
            deployed=deployed(version),
            sequence=1,
            kind="serve",
            since=NOW,
            by="ada",
        ),
        rollout=rollout,
        standby=tuple(deployed(item) for item in earlier[:1]),
        earlier=tuple(deployed(item) for item in earlier),
        configurations={"sha256:c1": CONFIGURATION},
    )


def rollout(state: RolloutState, step: int = 0) -> Rollout:
    return Rollout(
        id=RolloutId("ro-00000001"),
        model="digits",
        canary=deployed("1.1.0"),
        stable=deployed("1.0.0"),
        plan=RolloutPlan(steps_bp=(500, 10_000)),
        state=state,
        step=step,
        started_at=NOW,
    )


def ready(name: str, version: str, state: SlotState = SlotState.READY) -> dict[str, SlotStatus]:
    spec = SlotSpec(
        name=name,
        model="digits",
        version=version,
        manifest=f"sha256:{version}",
        configuration_digest="sha256:c1",
        configuration=CONFIGURATION.configuration,
    )
    replica = ReplicaStatus(pid=1, state=state, socket=f"/s/{name}-0", since=NOW)
    return {name: SlotStatus(spec=spec, state=state, since=NOW, replicas=(replica,))}


def sockets(slot: str, replicas: int) -> tuple[str, ...]:
    return tuple(f"/s/{slot}-{index}" for index in range(replicas))


def route(
    wanted: ModelDesire, statuses: dict[str, SlotStatus], current: ModelRoute | None = None
) -> ModelRoute | None:
    return model_route(wanted, statuses, current, sockets)


def test_a_model_has_no_route_before_its_first_version_is_ready() -> None:
    """Users would be sent to a process that has not loaded its model."""
    starting = ready("digits-1.0.0-c1", "1.0.0", SlotState.STARTING)
    assert route(desire(), starting) is None
    found = route(desire(), ready("digits-1.0.0-c1", "1.0.0"))
    assert found is not None
    assert found.stable.sockets == ("/s/digits-1.0.0-c1-0", "/s/digits-1.0.0-c1-1")


def test_the_old_version_serves_until_the_new_one_has_been_ready() -> None:
    """A rollback to a cold version, or a reconfiguration, would cut users off."""
    before = route(desire("1.0.0"), ready("digits-1.0.0-c1", "1.0.0"))
    waiting = route(desire("1.1.0"), ready("digits-1.0.0-c1", "1.0.0"), before)
    assert waiting is not None
    assert waiting.stable.version == "1.0.0"
    done = route(desire("1.1.0"), ready("digits-1.1.0-c1", "1.1.0"), waiting)
    assert done is not None
    assert done.stable.version == "1.1.0"


def test_a_version_that_served_stays_routed_while_it_restarts() -> None:
    """A crash would remove the route instead of being waited out."""
    before = route(desire(), ready("digits-1.0.0-c1", "1.0.0"))
    restarting = ready("digits-1.0.0-c1", "1.0.0", SlotState.RESTARTING)
    assert route(desire(), restarting, before) == before


@pytest.mark.parametrize(
    ("state", "step", "weight_bp"),
    [
        (RolloutState.WARMING, 0, 0),
        (RolloutState.CANARY, 0, 500),
        (RolloutState.PROMOTING, 1, 10_000),
        (RolloutState.ROLLING_BACK, 0, 0),
    ],
)
def test_a_canary_gets_the_weight_of_its_state(
    state: RolloutState, step: int, weight_bp: int
) -> None:
    """The share of users that a rollout decided would not be the one that is routed."""
    statuses = ready("digits-1.0.0-c1", "1.0.0") | ready("digits-1.1.0-c1", "1.1.0")
    found = route(desire(rollout=rollout(state, step)), statuses)
    assert found is not None
    assert found.canary_weight_bp == weight_bp


def test_a_canary_whose_process_died_stays_routed_so_that_it_is_judged() -> None:
    """A dead canary would silently get no traffic, and the rollout would go on for ever."""
    statuses = ready("digits-1.0.0-c1", "1.0.0") | ready(
        "digits-1.1.0-c1", "1.1.0", SlotState.RESTARTING
    )
    found = route(desire(rollout=rollout(RolloutState.CANARY)), statuses)
    assert found is not None
    assert found.canary is not None


def test_the_previous_version_stands_by_and_is_no_target_of_requests() -> None:
    """A rollback would have to wait for a process, or users would reach an old version."""
    statuses = ready("digits-1.1.0-c1", "1.1.0") | ready("digits-1.0.0-c1", "1.0.0")
    found = route(desire("1.1.0", earlier=("1.0.0",)), statuses)
    assert found is not None
    assert [item.version for item in found.standby] == ["1.0.0"]
    assert routed_slots([found]) == {"digits-1.1.0-c1"}


def test_wanted_are_the_serving_the_tried_and_the_nearest_earlier_version() -> None:
    """A version that users or a rollback need would not run."""
    wanted = wanted_slots(
        [desire(rollout=rollout(RolloutState.CANARY), earlier=("0.9.0", "0.8.0"))]
    )
    assert [spec.version for spec in wanted] == ["1.0.0", "1.1.0", "0.9.0"]


def test_going_back_means_the_nearest_earlier_stable_version() -> None:
    """A rollback without a name would take the wrong version."""
    found = choose(desire("1.2.0", earlier=("1.1.0", "1.0.0")), "")
    assert [item.version for item in found] == ["1.1.0", "1.0.0"]


def test_going_back_during_a_rollout_means_what_serves_beside_it() -> None:
    """Ending a bad canary would also throw away the good version it was tried against."""
    found = choose(desire(rollout=rollout(RolloutState.CANARY), earlier=("0.9.0",)), "")
    assert [item.version for item in found] == ["1.0.0", "0.9.0"]


def test_a_version_that_was_never_stable_is_refused_by_name() -> None:
    """A rollback could put an unproven version before every user at once."""
    with pytest.raises(ConflictError, match=r"1\.5\.0 was never stable") as caught:
        choose(desire("1.2.0", earlier=("1.1.0",)), "1.5.0")
    assert "stemma rollout digits@1.5.0" in caught.value.hint


def test_the_only_stable_version_has_nothing_to_go_back_to() -> None:
    """The message would not say why nothing happened."""
    with pytest.raises(NotFoundError, match="only version that was ever stable"):
        choose(desire(), "")
