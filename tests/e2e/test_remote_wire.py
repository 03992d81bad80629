"""Releases travel over a wire that loses, cuts and changes what it carries."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stemma.domain.errors import DeniedError
from stemma.hub.remotes import TransferOutcome, TransferRequest
from stemma.server.wiring import open_hub

pytestmark = [pytest.mark.slow, pytest.mark.s3]

_BIG = """\
import os, pathlib, random
import numpy as np
import stemma

X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
with stemma.run("toy") as run:
    weights = random.Random(1).randbytes(24 << 20)
    pathlib.Path("weights.bin").write_bytes(weights)
    run.data("toy-train", (X, y))
    run.metric("accuracy", 0.9)
    run.model("weights.bin")
"""

Harm = Callable[[int, str, str], str]


@pytest.fixture
def address(s3_server: Any) -> str:
    """Return the address of an empty bucket."""
    bucket = f"wire-{secrets.token_hex(4)}"
    s3_server.make_bucket(bucket)
    return f"s3://{bucket}/team"


@pytest.fixture
def here(
    place: Any, address: str, s3_server: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Return a project with toy 1.0.0 and 2.0.0 that knows the remote."""
    cloud = {**s3_server.variables, "AWS_ENDPOINT_URL": wire.url}
    for name, value in cloud.items():
        monkeypatch.setenv(name, value)
    with closing(open_hub(place.folder)) as hub:
        hub.add_remote("origin", address)
    return replace(place, variables={**place.variables, **cloud})


@pytest.fixture
def there(here: Any, address: str, tmp_path: Path) -> Any:
    """Return an empty project elsewhere that knows the remote."""
    made = replace(here, folder=tmp_path / "elsewhere")
    made.folder.mkdir()
    assert made.stemma("init").returncode == 0
    with closing(open_hub(made.folder)) as hub:
        hub.add_remote("origin", address)
    return made


def _copy(place: Any, verb: str, **request: Any) -> TransferOutcome:
    """Push or pull in this process, which is sooner than a command."""
    with closing(open_hub(place.folder)) as hub:
        outcome: TransferOutcome = getattr(hub, verb)(TransferRequest(**request))
        return outcome


def _is_whole(place: Any) -> bool:
    with closing(open_hub(place.folder)) as hub:
        return hub.doctor().is_healthy


def _every(step: int, *harms: str) -> Harm:
    """Do harm to every so many-th request, one kind after another."""
    return lambda number, _method, _path: (
        "" if number % step else harms[number // step % len(harms)]
    )


def _blobs(place: Any) -> dict[str, bytes]:
    with closing(open_hub(place.folder)) as hub:
        backend = hub.objects.backend
        return {stat.key: backend.get(stat.key) for stat in backend.list()}


def test_requests_that_fail_now_and_then_are_made_again(here: Any, there: Any, wire: Any) -> None:
    """A push over a line that drops would never end, or leave half a version."""
    wire.harm = _every(5, "503", "reset", "cut", "500", "lost", "429")
    _copy(here, "push")
    _copy(there, "pull")
    assert there.versions() == ["2.0.0", "1.0.0"]
    assert _is_whole(there)
    wire.reset()
    assert _copy(here, "push", is_repair=True).copied_bytes == 0, "something was not whole"


@pytest.mark.parametrize("harm", ["flip", "short"])
def test_a_remote_that_returns_other_bytes_changes_nothing_here(
    harm: str, here: Any, there: Any, wire: Any
) -> None:
    """A broken proxy would deliver another model."""
    _copy(here, "push")
    before = set(_blobs(there))
    wire.harm = lambda _number, _method, path: harm if "/frames/" in path else ""
    refused = _copy(there, "pull").refused
    assert {item.code for item in refused} == {"copy-damaged"}
    assert all(item.hint.startswith("stemma ") for item in refused)
    assert not [key for key in set(_blobs(there)) - before if key.startswith(("frames", "recipe"))]
    wire.reset()
    _copy(there, "pull")
    assert _is_whole(there)


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_copy_killed_three_times_copies_nothing_twice(
    verb: str, here: Any, there: Any, wire: Any
) -> None:
    """Who has a bad line would pay for every attempt."""
    here.write("big.py", _BIG)
    assert here.run(sys.executable, "big.py").returncode == 0
    assert here.stemma("release", "toy", "--bump", "major").returncode == 0
    place, method = here, "PUT"
    if verb == "pull":
        _copy(here, "push")
        place, method = there, "GET"
    wire.reset()
    held: list[tuple[int, set[str]]] = []
    for enough in (2, 18, 24):
        process = subprocess.Popen(
            [sys.executable, "-m", "stemma.cli.main", verb],
            cwd=place.folder,
            env=place.variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and wire.count(method, "/frames/") < enough:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        held.append((len(wire.answered), set(_blobs(place)) if verb == "pull" else set()))
    _copy(place, verb)
    if verb == "push":
        created = [path for done, path, status in wire.answered if (done, status) == ("PUT", 200)]
        assert len(created) == len(set(created)), "a blob was written twice"
        _copy(there, "pull")
    else:
        for start, keys in held:
            asked = {path.partition("/team/")[2] for _, path, _ in wire.answered[start:]}
            assert not {key for key in keys & asked if key.startswith("frames/")}
        assert held[-1][1], "it was killed before anything had arrived"
    assert there.versions() == ["3.0.0", "2.0.0", "1.0.0"]
    assert _is_whole(there)
    assert {key: data for key, data in _blobs(there).items() if key.startswith("frames/")} == {
        key: data for key, data in _blobs(here).items() if key.startswith("frames/")
    }


def test_a_push_and_a_pull_of_what_is_there_ask_little(here: Any, there: Any, wire: Any) -> None:
    """A job that pushes every hour would pay for reading everything each time."""
    _copy(here, "push")
    _copy(there, "pull")
    for place, verb in ((here, "push"), (there, "pull")):
        wire.reset()
        _copy(place, verb)
        assert [method for method, _, _ in wire.answered] == ["GET"] * 3
        assert wire.count("GET", "list-type=2") == 3


@pytest.mark.parametrize(
    ("harm", "code", "name"), [("403", 4, "remote-denied"), ("503", 75, "remote-unavailable")]
)
def test_a_remote_that_refuses_or_is_down_is_one_line(
    harm: str, code: int, name: str, here: Any, there: Any, wire: Any
) -> None:
    """A job could not tell what a person must do from what time will heal."""
    _copy(here, "push")
    wire.harm = lambda _number, _method, _path: harm
    answer = there.stemma("pull", "--json")
    assert answer.returncode == code, answer.stdout + answer.stderr
    told = json.loads(answer.stdout)
    assert told["name"] == name
    assert told["hint"]
    assert "Debug source" not in told["message"]


def test_a_remote_that_fails_in_the_middle_leaves_nothing_half(
    here: Any, there: Any, wire: Any
) -> None:
    """Others would pull a version whose files are not all there."""
    wire.harm = lambda number, _method, _path: "403" if number > 6 else ""
    with pytest.raises(DeniedError):
        _copy(here, "push")
    wire.reset()
    assert _copy(there, "pull").versions == ()
    assert _is_whole(there)
    _copy(here, "push")
    _copy(there, "pull")
    assert there.versions() == ["2.0.0", "1.0.0"]
