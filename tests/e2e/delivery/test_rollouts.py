"""Rollouts through the command line: to the end, taken back, steered, refused."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

QUICK = ("--steps", "20,100", "--hold", "2s", "--hold-limit", "40s", "--min-requests", "40")
LONG = ("--steps", "50,100", "--hold", "12s", "--hold-limit", "10m", "--detach")


def state(production: Any) -> str:
    """Return where the newest rollout stands."""
    found: str = production.ask("rollout", "status", "prices")["state"]
    return found


def events(production: Any) -> list[dict[str, Any]]:
    """Return the newest rollout's log."""
    found: list[dict[str, Any]] = production.ask("rollout", "status", "prices", "--log")
    return found


def until_state(production: Any, *wanted: str) -> str:
    """Wait until the newest rollout stands somewhere."""
    found: str = production.until(lambda: (now := state(production)) in wanted and now)
    return found


def test_a_good_version_goes_to_the_end_and_a_trap_is_taken_back_unnoticed(
    production: Any,
) -> None:
    """Users would meet a bad version, or a good one would never arrive."""
    # For so long what no request is sent to any more is kept, to answer the last one.
    production.write("stemma.toml", "[model.prices.serve]\ntimeout_seconds = 3\n")
    served = production
    served.serve("prices@1.0.0", "--channel", "stable")
    served.send_users(large=True)
    good = served.stemma("rollout", "prices@1.1.0", *QUICK, "-m", "finer prices")
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.startswith("live\tprices\t1.0.0\t1.1.0\t10000\t")
    assert served.predict(1, 3).headers["x-stemma-version"] == "1.1.0"
    assert served.model()["stable_channel"] == "1.1.0"

    bad = served.ask("rollout", "prices@1.2.0", *QUICK, code=3)
    assert bad["state"] == "rolled back"
    assert "errors" in bad["reason"]
    assert served.predict(1, 3).headers["x-stemma-version"] == "1.1.0"
    seen = served.count_users()
    assert seen["failed"] == 0, seen
    assert set(seen["by_version"]) == {"1.0.0", "1.1.0", "1.2.0"}

    log = events(served)
    assert [event["sequence"] for event in log] == list(range(1, len(log) + 1))
    assert {"state", "step"} <= {event["decision"]["kind"] for event in log}
    assert "rolled back" in log[-1]["decision"]["state"].replace("_", " ").lower()
    piped = served.stemma("rollout", "status", "prices", "--log").stdout.splitlines()
    assert len(piped) == len(log)
    served.until(lambda: served.slot("1.2.0") is None)


def test_a_rollout_is_paused_resumed_promoted_and_aborted_by_hand(served: Any) -> None:
    """A person who knows better could not steer it, and a second one would cross it."""
    begun = served.ask("rollout", "prices@1.1.0", *LONG)
    assert begun["state"] in {"validating", "draft"}
    second = served.refused("rollout", "prices@1.3.0", *LONG, code=12)
    assert "1.1.0" in second["message"]
    until_state(served, "canary")
    paused = served.ask("rollout", "pause", "prices", "-m", "wait for the sale")
    assert paused["state"] == "paused"
    assert "wait for the sale" in paused["reason"]
    assert served.ask("rollout", "resume", "prices")["state"] == "canary"
    served.ask("rollout", "promote", "prices")
    assert until_state(served, "live") == "live"
    assert served.predict(1, 3).headers["x-stemma-version"] == "1.1.0"
    nothing = served.refused("rollout", "abort", "prices", code=12)
    assert "no rollout is under way" in nothing["message"]

    served.ask("rollout", "prices@1.3.0", *LONG)
    until_state(served, "canary", "warming")
    served.ask("rollout", "abort", "prices", "-m", "thought better of it")
    assert until_state(served, "rolled back") == "rolled back"
    assert served.predict(1, 3).headers["x-stemma-version"] == "1.1.0"
    assert served.model()["stable_channel"] == "1.1.0"
    by = [event["by"] for event in events(served) if event["decision"]["kind"] == "command"]
    assert by == ["ada"]


def test_without_users_nothing_is_proven_and_the_rollout_waits_for_a_person(served: Any) -> None:
    """Silence would be taken for health."""
    how = ("--steps", "50,100", "--hold", "1s", "--hold-limit", "3s", "--min-requests", "20")
    served.ask("rollout", "prices@1.1.0", *how, "--detach")
    until_state(served, "paused")
    shown = served.ask("rollout", "status", "prices")
    assert "enough" in shown["reason"] or "requests" in shown["reason"], shown["reason"]
    assert served.model()["stable_channel"] == "1.0.0"
    assert "prices" in served.stemma("rollout", "status", "prices").stdout
    assert "paused" in served.stemma("status").stdout


@pytest.mark.parametrize(
    ("version", "says"), [("1.4.0", "golden"), ("1.5.0", "cannot be run"), ("2.0.0", "interface")]
)
def test_a_version_that_fails_its_validation_meets_no_user(
    shared: Any, version: str, says: str
) -> None:
    """Users would be the ones to find out what staging can."""
    failed = shared.ask("rollout", f"prices@{version}", *QUICK, code=3)
    assert failed["state"] == "failed"
    assert says in failed["reason"].lower(), failed["reason"]
    assert shared.predict(1, 3).headers["x-stemma-version"] == "1.0.0"
    assert shared.slot(version) is None


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["prices@1.0.0"], 12, "serves already"),
        (["prices@3.0.0-pre.1"], 12, "pre-release"),
        (["calm@1.0.0"], 5, "not served"),
        (["prices@9.9.9"], 5, "9.9.9"),
        (["prices@1.1.0", "--steps", "50,20"], 2, "steps"),
        (["prices@1.1.0", "--steps", "0,100"], 2, "0"),
        (["prices@1.1.0", "--steps", "50,101"], 2, "101"),
        (["prices@1.1.0", "--steps", "a,b"], 2, "a"),
        (["prices@1.1.0", "--hold", "never"], 2, "never"),
        (["prices@1.1.0", "--hold", "-3h"], 2, "-3h"),
        (["prices@1.1.0", "--hold", "2h", "--hold-limit", "1h"], 2, "hold"),
        (["status", "calm"], 5, "never rolled out"),
    ],
)
def test_a_rollout_that_cannot_be_is_refused(
    shared: Any, arguments: list[str], code: int, says: str
) -> None:
    """A mistyped plan would move users in another way than meant."""
    error = shared.refused("rollout", *arguments, code=code)
    assert says in error["message"], error


def test_a_rollout_that_has_ended_takes_no_command(shared: Any) -> None:
    """A command to a rollout of last week would be taken for one to the next."""
    shared.ask("rollout", "prices@2.0.0", *QUICK, code=3)
    error = shared.refused("rollout", "pause", "prices", code=12)
    assert "no rollout is under way" in error["message"]


def test_without_a_server_no_rollout_begins(served: Any) -> None:
    """A rollout would stand still for days, and nobody would know why."""
    assert served.stemma("serve", "--stop").returncode == 0
    error = served.refused("rollout", "prices@1.1.0", code=75)
    assert error["hint"] == "stemma serve"


def test_a_metric_of_the_users_own_takes_a_version_back(served: Any) -> None:
    """Returned parcels would go on for all, although the user reported them."""
    path = "/api/rollouts/prices/metrics"

    def post(version: str, events: int, key: str) -> Any:
        body = {"metric": "returned", "version": version, "events": events}
        return served.http("POST", path, {**body, "trials": 200, "key": key})

    assert post("canary", 1, "k").status in {404, 409}
    served.ask("rollout", "prices@1.1.0", *LONG)
    until_state(served, "canary")
    assert post("stable", 2, "s1").json == {"is_new": True}
    assert post("stable", 2, "s1").json == {"is_new": False}
    for number in range(5):
        assert post("1.1.0", 60, f"c{number}").status == 202
        assert post("1.0.0", 2, f"s{number + 2}").status == 202
    assert until_state(served, "rolled back", "paused") == "rolled back"
    assert "returned" in served.ask("rollout", "status", "prices")["reason"]
