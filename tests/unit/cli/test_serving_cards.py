"""What is said of production, on values."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

from stemma.cli import serving_cards as cards
from stemma.delivery.slots.base import SlotState
from stemma.delivery.values import ServingView
from stemma.domain.rollout import Rollout

Servings = Callable[..., ServingView]


def _rows(view: ServingView, now: datetime) -> dict[str, list[str]]:
    return {row[2]: row for row in cards.serving_rows(view, now)}


def test_what_serves_is_told_with_version_configuration_and_since_when(
    serving_of: Servings, when: datetime
) -> None:
    """Nobody could say what users meet now."""
    rows = cards.serving_rows(serving_of(), when + timedelta(minutes=5))
    url = "http://127.0.0.1:8700/v1/models/digits:predict"
    since = "since 2026-05-03 12:00 UTC (5 minutes ago)"
    assert rows == [
        ["digits", "1.0.0", "serving", "ready", f"1.0.0 with c3  {since}  by serve of ada  {url}"],
        ["digits", "1.0.0", "replicas", "1 of 1 ready", "1.0.0  digits-1.0.0-c1  120 MB"],
        [
            *("", "", "server", "running"),
            "http://127.0.0.1:8700  envoy  pid 42  since 5 minutes ago",
        ],
    ]


def test_an_incident_is_told_with_its_time(serving_of: Servings, when: datetime) -> None:
    """A process that dies each hour would look healthy."""
    died = {"state": SlotState.RESTARTING, "restarts": 3, "detail": "used more than 512 MiB"}
    view = serving_of(replica=died, slot_changes={"state": SlotState.RESTARTING})
    rows = _rows(view, when + timedelta(minutes=2))
    assert rows["serving"][3] == "restarting"
    assert rows["replicas"][3:] == ["0 of 1 ready", "1.0.0  digits-1.0.0-c1  120 MB  3 restarts"]
    assert rows["incident"][3:] == [
        "restarting",
        "1.0.0 replica 0: used more than 512 MiB (2 minutes ago)",
    ]


def test_a_channel_that_says_something_else_is_told(serving_of: Servings, when: datetime) -> None:
    """Who reads the channel would believe that another version serves."""
    row = _rows(serving_of(stable_channel="1.1.0"), when)["channel"]
    assert row[4] == (
        "the channel stable says 1.1.0, but 1.0.0 serves: stemma rollout digits@1.1.0"
    )


def test_a_server_that_died_is_told_apart_from_one_that_serves_nobody(
    serving_of: Servings, when: datetime
) -> None:
    """Users who are still served would look lost, or lost ones served."""
    gone = serving_of(server_changes={"is_running": False})
    assert _rows(gone, when)["server"][3] == "gone"
    assert _rows(gone, when)["serving"][3] == "ready"
    dead = serving_of(server_changes={"is_running": False, "is_answering": False})
    assert _rows(dead, when)["server"][3:] == ["not running", "stemma serve"]
    assert _rows(dead, when)["serving"][3] == "not served"


def test_a_rollout_under_way_is_told(
    serving_of: Servings, rollout_of: Callable[..., Rollout], when: datetime
) -> None:
    """Half the users would meet a version that status does not name."""
    row = _rows(serving_of(rollout=rollout_of()), when)["rollout"]
    assert row[3] == "canary"
    assert row[4].startswith("digits 1.0.0 → 1.1.0  canary at 25 %  errors 0.0 %  p99 −14 %")


def test_a_deployment_without_processes_is_not_called_ready(
    serving_of: Servings, when: datetime
) -> None:
    """Between the decision and the start, users would seem served."""
    view = serving_of(slots=())
    assert _rows(view, when)["serving"][3] == "not there yet"
    payload = json.loads(json.dumps(cards.serving_payload(view), default=str))
    assert payload["models"]["digits"]["is_ready"] is False
    assert payload["server"]["pid"] == 42


def test_nothing_that_serves_is_no_row(when: datetime) -> None:
    """A project that never served would show an empty section."""
    from stemma.delivery.values import ServerView

    view = ServingView(server=ServerView(is_running=False, is_answering=False))
    assert cards.serving_rows(view, when) == []
    assert cards.serving_payload(view)["models"] == {}


def test_the_line_at_start_names_url_channel_and_version(serving_of: Servings) -> None:
    """The user would have to guess the address."""
    view = serving_of()
    url = "http://127.0.0.1:8700/v1/models/digits:predict"
    assert cards.ready_line(view.server, view.models[0]) == f"✓ {url}   → stable = 1.0.0"
    other = serving_of(stable_channel="")
    assert cards.ready_line(other.server, other.models[0]) == f"✓ {url}   → 1.0.0"
