"""A tiny model process that obeys the contract, with switches to misbehave, and its supervisor."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import SlotSpec, SlotState, SlotStatus
from stemma.delivery.slots.process import Launch, ProcessFiles
from stemma.delivery.slots.replica import Timings
from stemma.delivery.slots.sockets import socket_paths
from stemma.delivery.slots.supervisor import Supervisor
from stemma.domain.configuration import Configuration

_SCRIPT = '''
"""Serves /v2/health/* on a Unix socket; what is in BEHAVIOUR decides how."""
import os, pathlib, signal, socket, sys, time

folder, path = pathlib.Path(sys.argv[1]), sys.argv[2].replace("REPLICA", sys.argv[3])
behaviour = (folder / "behaviour").read_text()
with (folder / "starts").open("a") as stream:
    stream.write("x")
print("hello from", os.getpid(), flush=True)
if "deaf" in behaviour:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "crash" in behaviour:
    print("stemma: no-luck: it crashed", file=sys.stderr, flush=True)
    sys.exit(1)
if "golden" in behaviour:
    print("stemma: golden-mismatch: answered 3 instead of 4", file=sys.stderr, flush=True)
    sys.exit(3)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(64)
held = []
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    behaviour = (folder / "behaviour").read_text()
    if "hang" in behaviour:
        time.sleep(3600)
    if "grow" in behaviour:
        held.append(b"x" * (30 << 20))
    if "die" in behaviour:
        os._exit(9)
    status = "503 No" if "unready" in behaviour else "200 OK"
    body = b'{"error": "not warm yet"}' if "unready" in behaviour else b"{}"
    connection.sendall(f"HTTP/1.1 {status}\\r\\nConnection: close\\r\\n\\r\\n".encode() + body)
    connection.close()
'''

FAST = Timings(
    starting_probe_seconds=0.01,
    probe_seconds=0.02,
    probe_timeout_seconds=0.3,
    missed_probes=2,
    first_backoff_seconds=0.02,
    most_backoff_seconds=0.05,
    failed_starts=3,
    stop_seconds=0.3,
)


@dataclass
class Stage:
    """A serving folder whose slots run the tiny process."""

    layout: ServeLayout
    script: Path
    made: list[Supervisor] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    failure: Exception | None = None

    def supervisor(self) -> Supervisor:
        """Make a supervisor; it is ended with the test."""
        found = Supervisor(self.layout, self.prepare, lambda: datetime.now(UTC), timings=FAST)
        self.made.append(found)
        return found

    def prepare(self, spec: SlotSpec) -> Launch:
        """Return the command of the tiny process."""
        self.prepared.append(spec.name)
        if self.failure is not None:
            raise self.failure
        socket = socket_paths(self.layout, spec.name, 1)[0].replace("-0.sock", "-REPLICA.sock")
        return Launch(
            command=(
                *(sys.executable, "-I", "-S", str(self.script)),
                *(str(self.layout.slot(spec.name)), socket),
            ),
            environment={"PATH": os.environ["PATH"]},
            memory_mib=spec.configuration.memory_mib,
        )

    def spec(self, name: str = "digits-1.0.0-c1", **values: int) -> SlotSpec:
        """Return a slot's specification; its process behaves well until told otherwise."""
        spec = SlotSpec(
            name=name,
            model="digits",
            version="1.0.0",
            manifest="sha256:" + "0" * 64,
            configuration_digest="sha256:" + "1" * 64,
            configuration=Configuration(**{"memory_mib": 500, **values}),  # type: ignore[arg-type]
        )
        if not (self.layout.slot(name) / "behaviour").exists():
            self.behave("", name)
        return spec

    def behave(self, how: str, name: str = "digits-1.0.0-c1") -> None:
        """Say how the slot's process behaves from now on."""
        folder = self.layout.slot(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "next").write_text(how)
        (folder / "next").replace(folder / "behaviour")

    def starts(self, name: str = "digits-1.0.0-c1") -> int:
        """Return how often a process of the slot was started."""
        path = self.layout.slot(name) / "starts"
        return len(path.read_text()) if path.exists() else 0

    def pids(self) -> list[int]:
        """Return every process that was written down and not ended in order."""
        records = [
            ProcessFiles(folder=path.parent, number=int(path.stem.partition("-")[2])).read_record()
            for path in self.layout.root.glob("slots/*/process-*.json")
        ]
        return [record.pid for record in records if record is not None]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A serving folder; every process of it is ended with the test."""
    layout = ServeLayout(state=tmp_path / ".stemma")
    script = tmp_path / "process.py"
    script.write_text(_SCRIPT)
    found = Stage(layout=layout, script=script)
    yield found
    for supervisor in found.made:
        supervisor.close()
    for pid in found.pids():
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    folder = layout.sockets()
    assert folder.is_relative_to(tempfile.gettempdir())
    shutil.rmtree(folder)


Until = Callable[[Supervisor, Callable[[], bool]], None]


@pytest.fixture
def until() -> Until:
    """Tick until something is so."""

    def wait(supervisor: Supervisor, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not is_so():
            assert time.monotonic() < end, supervisor.statuses()
            supervisor.tick()
            time.sleep(0.005)

    return wait


Serve = Callable[..., SlotStatus]


@pytest.fixture
def serve(until: Until) -> Serve:
    """Want slots and wait until the first has some state."""

    def ask(
        supervisor: Supervisor, specs: Sequence[SlotSpec], state: SlotState = SlotState.READY
    ) -> SlotStatus:
        supervisor.want(specs)
        name = specs[0].name
        until(supervisor, lambda: supervisor.statuses()[name].state is state)
        return supervisor.statuses()[name]

    return ask


@pytest.fixture(autouse=True)
def _alone(recorded_alone: None) -> None:
    """Record only what the test itself imports."""
