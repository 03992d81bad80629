"""Rolling back and drilling it, whatever is damaged, dead or unreachable."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stemma.server.wiring import open_hub

pytestmark = pytest.mark.slow

PARTS = ["traffic", "configuration", "dependencies", "artifacts"]


def make_stable(production: Any, *versions: str) -> None:
    """Let versions be stable one after the other, as promotions would; no server may run."""
    for version in versions:
        assert production.stemma("serve", "prices", "--withdraw").returncode in {0, 5}
        with closing(open_hub(production.folder)) as hub:
            hub.deploy(f"prices@{version}", is_stable=True)


def spoil(folder: Path) -> None:
    """Flip a byte in every artifact below a folder."""
    for path in sorted(folder.rglob("*.onnx")):
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def served_version(production: Any) -> str:
    """Return which version answers a user."""
    answer = production.predict(1, 3)
    assert answer.status == 200, answer.body
    version: str = answer.headers["x-stemma-version"]
    return version


@pytest.fixture
def third(production: Any) -> Any:
    """A project that serves prices 1.3.0; before it 1.1.0 and 1.0.0 were stable."""
    make_stable(production, "1.0.0", "1.1.0", "1.3.0")
    production.serve()
    production.until(lambda: (production.slot("1.1.0") or {}).get("state") == "ready")
    return production


def tree_of(production: Any, version: str) -> Path:
    """Return the object of the store that lists a version's artifact."""
    with closing(open_hub(production.folder)) as hub:
        content = str(hub.resolve(f"prices@{version}").manifest.artifact.content)
    name = content.partition(":")[2][4:]
    return next((production.folder / ".stemma/objects/trees").rglob(f"*{name}"))


def artifact_of(production: Any, version: str) -> Path:
    """Return the folder of a version that is kept ready."""
    with closing(open_hub(production.folder)) as hub:
        digest = str(hub.resolve(f"prices@{version}").digest)
    return production.state / "versions" / digest.partition(":")[2]


def test_production_goes_back_by_hand_one_version_after_the_other(third: Any) -> None:
    """At two in the morning one command must be enough, and say what it did."""
    listed = third.ask("rollback", "prices", "--list")
    versions = [item["deployed"]["version"] for item in listed]
    assert versions == ["1.3.0", "1.1.0", "1.0.0"]
    third.until(
        lambda: all(
            item["has_artifact"] and item["has_environment"]
            for item in third.ask("rollback", "prices", "--list")
        ),
        seconds=40,
    )
    assert [item["is_warm"] for item in listed] == [True, True, False]

    third.send_users()
    back = third.ask("rollback", "prices", "-m", "wrong prices")
    assert (back["before"], back["after"]) == ("1.3.0", "1.1.0")
    assert [phase["name"] for phase in back["phases"]] == PARTS
    assert all(phase["is_verified"] for phase in back["phases"]), back
    assert back["phases"][0]["seconds"] < 5
    assert served_version(third) == "1.1.0"
    assert third.model()["stable_channel"] == "1.1.0"

    gone = third.refused("rollback", "prices", "--to", "1.3.0", code=12)
    assert "never stable" in gone["message"] or "1.3.0" in gone["message"]
    never = third.refused("rollback", "prices", "--to", "1.2.0", code=12)
    assert "1.2.0 was never stable" in never["message"]
    again = third.refused("rollback", "prices", "--to", "1.1.0", code=12)
    assert "serves already" in again["message"]
    third.refused("rollback", "prices", "--to", "9.9.9", code=5)

    shown = third.stemma("rollback", "prices", "--to", "prices@1.0.0", STEMMA_FORMAT="human")
    assert shown.returncode == 0, shown.stderr
    for part in PARTS:
        assert part in shown.stdout
    assert served_version(third) == "1.0.0"
    only = third.refused("rollback", "prices", code=5)
    assert "only version that was ever stable" in only["message"]
    assert third.count_users()["failed"] == 0
    history = third.ask("rollback", "prices", "--history")
    assert [item["after"] for item in history] == ["1.0.0", "1.1.0"]


def test_files_damaged_on_disk_are_made_again_from_the_store(third: Any) -> None:
    """Production would go back to a version whose files nobody has looked at."""
    spoil(artifact_of(third, "1.1.0"))
    back = third.ask("rollback", "prices")
    assert back["after"] == "1.1.0"
    artifacts = next(phase for phase in back["phases"] if phase["name"] == "artifacts")
    assert artifacts["is_verified"], artifacts
    assert "were damaged, written again" in artifacts["detail"], artifacts
    assert served_version(third) == "1.1.0"


def test_a_version_damaged_in_the_store_too_is_passed_over_and_named(production: Any) -> None:
    """Production would stop where a sound version stands one step further back."""
    make_stable(production, "1.0.0", "1.1.0", "1.3.0")
    path = tree_of(production, "1.1.0")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    production.serve()
    back = production.ask("rollback", "prices")
    assert back["after"] == "1.0.0"
    assert [item.partition(":")[0] for item in back["skipped"]] == ["1.1.0"]
    assert "damaged" in back["skipped"][0]
    assert served_version(production) == "1.0.0"


def test_it_works_with_the_server_dead_the_network_gone_and_the_bad_version_hung(
    third: Any,
) -> None:
    """The worst night has all three at once."""
    third.send_users(rate=20)
    third.kill_server()
    bad = third.slot_pid("prices-1.3.0-c1")
    os.kill(bad, signal.SIGSTOP)
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    try:
        back = third.ask("rollback", "prices", STEMMA_MAY_USE_NETWORK="false", **nowhere)
        assert back["after"] == "1.1.0"
        assert served_version(third) == "1.1.0"
        cold = third.ask("rollback", "prices", STEMMA_MAY_USE_NETWORK="false", **nowhere)
        assert cold["after"] == "1.0.0"
        assert served_version(third) == "1.0.0"
    finally:
        os.kill(bad, signal.SIGCONT)
    third.serve()
    third.until(lambda: third.serving()["server"]["is_running"])
    third.until(lambda: third.slot("1.3.0") is None)
    assert served_version(third) == "1.0.0"


def test_a_configuration_comes_back_with_the_version_it_was_proven_with(production: Any) -> None:
    """Old files with new settings are a version nobody has ever served."""
    make_stable(production, "1.0.0")
    production.write(
        "stemma.toml", "[model.prices.serve]\ntimeout_seconds = 7\nflags.discount = true\n"
    )
    make_stable(production, "1.1.0")
    production.serve()
    assert production.model()["configuration"]["configuration"]["timeout_seconds"] == 7
    environment = Path(f"/proc/{production.slot_pid('prices-1.1.0-c2')}/environ").read_bytes()
    assert b"STEMMA_FLAG_DISCOUNT=true" in environment
    differs = production.ask("diff", "--only", "configuration", "prices@1.0.0", "prices@1.1.0")
    assert "timeout_seconds" in str(differs)
    back = production.ask("rollback", "prices")
    assert back["after"] == "1.0.0"
    found = production.model()["configuration"]
    assert (found["number"], found["configuration"]["timeout_seconds"]) == (1, 30)
    environment = Path(f"/proc/{production.slot_pid('prices-1.0.0-c1')}/environ").read_bytes()
    assert b"STEMMA_FLAG_DISCOUNT" not in environment
    log = production.ask("log", "prices", "--configuration")
    assert [item["number"] for item in log] == [2, 1]
    assert [item["proven_with"] for item in log] == [["1.1.0"], ["1.0.0"]]


def test_a_drill_moves_nobody_and_leaves_nothing(third: Any) -> None:
    """A way back that was never gone is a hope."""
    third.send_users()
    before = set(third.processes())
    drilled = third.ask("rollback", "prices", "--drill")
    assert drilled["is_drill"]
    assert (drilled["before"], drilled["after"]) == ("1.3.0", "1.1.0")
    assert sorted(phase["name"] for phase in drilled["phases"]) == sorted(PARTS)
    assert all(phase["is_verified"] for phase in drilled["phases"])
    seen = third.count_users()
    assert seen["failed"] == 0
    assert set(seen["by_version"]) == {"1.3.0"}
    left = {pid: line for pid, line in third.processes().items() if pid not in before}
    assert left == {}
    assert not (third.state / "drill").exists()
    assert "drill" not in (third.state / "routes.json").read_text(encoding="utf-8")
    assert third.ask("rollback", "prices", "--history")[0]["is_drill"]


def test_a_failed_drill_blocks_a_promotion_and_a_rollback_ends_the_rollout(
    production: Any,
) -> None:
    """A version would become stable that nobody knows the way back from."""
    make_stable(production, "1.0.0", "1.3.0")
    production.serve()
    path = tree_of(production, "1.0.0")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    failed = production.ask("rollback", "prices", "--drill", code=3)
    assert "damaged" in failed["failure"]
    assert not (production.state / "drill").exists()
    kept = production.ask("rollback", "prices", "--history")
    assert [item["failure"] for item in kept] == [failed["failure"]]

    production.send_users()
    quick = ("--steps", "50,100", "--hold", "2s", "--hold-limit", "60s", "--min-requests", "20")
    production.ask("rollout", "prices@1.1.0", *quick, "--detach")

    def blocked() -> Any:
        found = production.ask("rollout", "status", "prices")
        return found if "--drill" in found["reason"] else None

    found = production.until(blocked, seconds=30)
    assert "stemma rollback prices --drill" in found["reason"]
    assert found["state"] in {"canary", "paused"}
    back = production.ask("rollback", "prices")
    assert (back["before"], back["after"]) == ("1.1.0", "1.3.0")
    assert production.ask("rollout", "status", "prices")["state"] in {"rolled back", "rolling back"}
    assert served_version(production) == "1.3.0"
    assert production.count_users()["failed"] == 0
