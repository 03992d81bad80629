"""Model processes that die, hang, lie or eat memory, beside one that must go on answering."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("ref", "says"), [("dice@1.0.0", "golden"), ("broken@1.0.0", "cannot be run")]
)
def test_a_process_that_lies_or_cannot_load_is_never_asked_by_users(
    shared: Any, ref: str, says: str
) -> None:
    """Users would get answers nobody recorded, or wait for a process that never comes."""
    model = ref.partition("@")[0]
    failed = shared.stemma("serve", ref)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert says in failed.stdout, failed.stdout
    shown = shared.stemma("status").stdout
    assert says in shown
    assert shared.predict(1, 2, model=model).status in {404, 503}
    assert shared.predict(1, 2).status == 200
    assert shared.stemma("serve", model, "--withdraw").returncode == 0


def test_a_crash_under_traffic_is_told_mended_and_felt_by_no_other_model(served: Any) -> None:
    """One model's crash would be everybody's."""
    assert served.stemma("serve", "calm@1.0.0").returncode == 0
    served.send_users(rate=50)
    slot = "calm-1.0.0-c1"
    first = served.slot_pid(slot)
    os.kill(first, signal.SIGKILL)
    served.until(lambda: served.slot_pid(slot) not in {0, first})
    served.until(lambda: served.is_ready("calm"))
    replica = served.slot("1.0.0", "calm")["replicas"][0]
    assert replica["restarts"] == 1
    assert "SIGKILL" in replica["detail"] or "signal 9" in replica["detail"], replica
    assert "1 restart" in served.stemma("status", STEMMA_FORMAT="human").stdout
    assert served.count_users()["failed"] == 0


def test_one_of_two_replicas_may_crash_and_no_request_is_lost(production: Any) -> None:
    """A second process would be paid for and save nobody."""
    production.write("stemma.toml", "[model.prices.serve]\nreplicas = 2\n")
    production.serve("prices@1.0.0", "--channel", "stable")
    production.until(lambda: production.slot("1.0.0")["state"] == "ready")
    production.send_users()
    production.until(lambda: _lines(production) > 50)
    os.kill(production.slot_pid("prices-1.0.0-c1"), signal.SIGKILL)
    production.until(lambda: _lines(production) > 200)
    seen = production.count_users()
    assert seen["failed"] == 0, seen


def _lines(production: Any) -> int:
    log: Path = production.state / "plane" / "access.jsonl"
    return log.read_bytes().count(b'"s":200') if log.exists() else 0


def test_memory_above_the_limit_ends_the_process_with_the_reason(production: Any) -> None:
    """The machine would end a process of its own choice: perhaps the data plane."""
    production.write("stemma.toml", "[model.hungry.serve]\nmemory_mib = 300\n")
    production.serve("prices@1.0.0", "hungry@1.0.0", models=("prices", "hungry"))
    assert production.predict(1, 2, model="hungry").json == {"predictions": [5.0]}
    first = production.slot_pid("hungry-1.0.0-c1")
    production.predict(250, 0, model="hungry")
    production.until(lambda: production.slot_pid("hungry-1.0.0-c1") not in {0, first})
    replica = production.slot("1.0.0", "hungry")["replicas"][0]
    assert "300 MiB" in replica["detail"], replica
    assert production.predict(1, 2).status == 200
    production.until(lambda: production.is_ready("hungry"))


def test_too_little_memory_to_start_is_given_up_with_the_reason(production: Any) -> None:
    """It would be started for ever, and nobody be told why."""
    production.write("stemma.toml", "[model.calm.serve]\nmemory_mib = 64\n")
    production.serve("prices@1.0.0", "calm@1.0.0")
    told: Callable[[], Any] = lambda: production.slot("1.0.0", "calm")  # noqa: E731
    production.until(lambda: (told() or {}).get("detail"))
    assert "64 MiB" in told()["detail"]
    production.until(lambda: told()["state"] in {"failed", "restarting"})
    assert production.predict(1, 2).status == 200


def test_a_process_that_hangs_is_found_ended_and_started_again(served: Any) -> None:
    """Requests would wait for an answer that never comes."""
    assert served.stemma("serve", "calm@1.0.0").returncode == 0
    slot = "calm-1.0.0-c1"
    first = served.slot_pid(slot)
    os.kill(first, signal.SIGSTOP)
    served.until(lambda: served.slot_pid(slot) not in {0, first}, seconds=40)
    served.until(lambda: served.is_ready("calm"))
    assert first not in served.processes()
    replica = served.slot("1.0.0", "calm")["replicas"][0]
    assert "no answer" in replica["detail"] or "hang" in replica["detail"], replica
    assert served.predict(1, 2).status == 200
