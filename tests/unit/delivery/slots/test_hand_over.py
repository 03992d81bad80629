"""Wrong here: users lose what serves them because the server was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stemma.delivery.slots.base import SlotState
from stemma.delivery.slots.process import look_at
from stemma.delivery.slots.statuses import read_statuses

pytestmark = pytest.mark.slow
NAME = "digits-1.0.0-c1"

_SERVER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
import msgspec
from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import SlotSpec
from stemma.delivery.slots.process import Launch
from stemma.delivery.slots.supervisor import Supervisor

state, spec, launch = sys.argv[1:]
launch = msgspec.json.decode(launch, type=Launch)
supervisor = Supervisor(
    ServeLayout(state=Path(state)), lambda spec: launch, lambda: datetime.now(UTC)
)
supervisor.want([msgspec.json.decode(spec, type=SlotSpec)])
while True:
    supervisor.tick()
    time.sleep(0.01)
"""


def _start_server(stage: Any) -> subprocess.Popen[bytes]:
    spec = stage.spec(replicas=2)
    launch = stage.prepare(spec)
    return subprocess.Popen(
        [
            *(sys.executable, "-c", _SERVER, str(stage.layout.state)),
            *(msgspec.json.encode(spec).decode(), msgspec.json.encode(launch).decode()),
        ]
    )


def _wait_until_ready(stage: Any) -> list[int]:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        status = read_statuses(stage.layout).get(NAME)
        if status is not None and len(status.sockets) == 2:
            return [replica.pid for replica in status.replicas]
        time.sleep(0.01)
    raise AssertionError(read_statuses(stage.layout))


def _running(stage: Any) -> list[int]:
    """Return every process of the tiny script."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(stage.script).encode() in path.read_bytes().split(b"\0")[:4]:
                found.append(int(path.parent.name))
    return found


def test_a_killed_server_leaves_its_processes_and_the_next_one_takes_them_over(
    stage: Any, serve: Any, until: Any
) -> None:
    """Killing the server would kill every model, or leave processes nobody watches."""
    with _start_server(stage) as server:
        before = _wait_until_ready(stage)
        server.kill()
    assert all(look_at(pid) is not None for pid in before)
    assert read_statuses(stage.layout)[NAME].state is SlotState.READY
    later = stage.supervisor()
    assert len(later.statuses()[NAME].sockets) == 2
    serve(later, [stage.spec(replicas=2)])
    assert [r.pid for r in later.statuses()[NAME].replicas] == before
    os.kill(before[0], signal.SIGKILL)
    until(later, lambda: stage.starts() == 3)
    until(later, lambda: later.statuses()[NAME].state is SlotState.READY)
    assert later.statuses()[NAME].replicas[1].pid == before[1]


def test_servers_killed_at_any_instant_never_leave_two_processes_for_one_socket(
    stage: Any,
) -> None:
    """Each crash of the server would cost a model's memory once more."""
    for seconds in (0.25, 0.35, 0.4, 0.45, 0.5, 0.6, 0.8):
        with _start_server(stage) as server:
            time.sleep(seconds)
            server.kill()
    with _start_server(stage) as server:
        final = set(_wait_until_ready(stage))
        server.kill()
    assert set(_running(stage)) == final
