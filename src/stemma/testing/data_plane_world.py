"""A data plane with slots and users, for ``data_plane_contract`` and for benchmarks.

Everything it starts is ended by ``close``.
"""

from __future__ import annotations

import http.client
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from stemma.delivery.access_log import RequestLine, count, read_lines
from stemma.delivery.planes.base import DataPlane
from stemma.domain.rollout import LogPosition
from stemma.domain.routing import Endpoint, ModelRoute, RouteTable
from stemma.domain.traffic import Interval
from stemma.testing.stand_in_slot import StandInSlot

INFER: Final = "/v2/models/digits/infer"

MakePlane = Callable[[Path, int, Path], DataPlane]
_PATIENCE_SECONDS: Final = 20.0
_KILLED_STARTER: Final = """
import os, signal, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
spec = spec_from_file_location("suite", sys.argv[1])
suite = module_from_spec(spec)
sys.modules["suite"] = suite
spec.loader.exec_module(suite)
plane = getattr(suite, sys.argv[2])().make(Path(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
if len(sys.argv) == 6:
    plane.start()
    os.kill(os.getpid(), signal.SIGKILL)
import msgspec
from stemma.domain.routing import RouteTable
table = msgspec.json.decode(sys.argv[6], type=RouteTable)
print("ready", flush=True)
while True:
    plane.apply(table)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a user saw.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        headers: By lower-case name.
        body: Content.
        seconds: How long it took.
        ended_at: When it was there, seconds since the epoch.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    ended_at: float

    @property
    def json(self) -> dict[str, Any]:
        """The content, parsed."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def slot(self) -> str:
        """Slot that answered."""
        return str(self.json["slot"])


@final
class World:
    """One data plane, its slots and its users."""

    def __init__(self, make: MakePlane, folder: Path, port: int, sockets: Path) -> None:
        """Start two slots; the data plane is made and not started."""
        self._make = make
        self._folder = folder
        self._sockets = sockets
        self._slots: list[StandInSlot] = []
        self.port = port
        self.plane = make(folder, port, sockets)
        self.revision = 0
        self.last = RouteTable(revision=0)
        self.stable = self.add_slot("stable-slot", "1.0.0")
        self.canary = self.add_slot("canary-slot", "2.0.0")

    def close(self) -> None:
        """End everything."""
        self.plane.stop()
        for slot in self._slots:
            slot.kill()

    def another(self) -> DataPlane:
        """Return a second object for the same data plane, as a restarted server has."""
        return self._make(self._folder, self.port, self._sockets)

    def add_slot(self, name: str, version: str) -> StandInSlot:
        """Start a slot."""
        slot = StandInSlot(self._sockets, name, version)
        self._slots.append(slot)
        return slot

    def table(
        self,
        weight_bp: int,
        *,
        stable: Endpoint | None = None,
        probe: StandInSlot | None = None,
        others: Mapping[str, StandInSlot] | None = None,
        control: str = "",
        timeout_seconds: float = 10.0,
    ) -> RouteTable:
        """Return the next route table: the model ``digits`` first, then ``others``."""
        self.revision += 1
        digits = ModelRoute(
            model="digits",
            stable=stable or self.stable.endpoint,
            canary=self.canary.endpoint,
            canary_weight_bp=weight_bp,
            probe=probe.endpoint if probe else None,
            timeout_seconds=timeout_seconds,
        )
        rest = [
            ModelRoute(model=name, stable=slot.endpoint) for name, slot in (others or {}).items()
        ]
        self.last = RouteTable(
            revision=self.revision, models=(digits, *rest), control_socket=control
        )
        return self.last

    def publish(self, weight_bp: int, **options: Any) -> None:
        """Put the next table in force and wait until it is."""
        self.plane.apply(self.table(weight_bp, **options))
        _check(self.plane.wait_for(self.revision, 5), f"revision {self.revision} in force")

    def apply(self, weight_bp: int) -> float:
        """Put the next table in force without waiting; return when that was asked for."""
        table = self.table(weight_bp)
        called_at = time.monotonic()
        self.plane.apply(table)
        return called_at

    def ask(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"{}",
        method: str = "POST",
    ) -> Reply:
        """Ask as a user with a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            return _ask(connection, method, path, headers or {}, body)
        finally:
            connection.close()

    def leave(self, path: str) -> None:
        """Ask, and go away before there is an answer."""
        asked = len(self.stable.seen)
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            self.until(lambda: len(self.stable.seen) > asked)

    @contextmanager
    def load(self, *, threads: int) -> Iterator[list[Reply]]:
        """Ask over and over in the background; the list holds every reply when it ends."""
        replies: list[Reply] = []
        is_over = threading.Event()

        def user() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            while not is_over.is_set():
                replies.append(_ask(connection, "POST", INFER, {}, b"{}"))
                time.sleep(0.005)
            connection.close()

        users = [threading.Thread(target=user) for _ in range(threads)]
        for thread in users:
            thread.start()
        try:
            yield replies
        finally:
            is_over.set()
            for thread in users:
                thread.join()

    def until(self, is_done: Callable[[], bool]) -> None:
        """Wait for something that must happen."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_done():
            _check(time.monotonic() < deadline, "something that must happen")
            time.sleep(0.005)

    def until_longer(self, replies: list[Reply], by: int) -> None:
        """Wait until that many more replies came."""
        enough = len(replies) + by
        self.until(lambda: len(replies) >= enough)

    def lines(self, number: int) -> list[RequestLine]:
        """Return the access log once it has ``number`` lines; more are wrong."""

        def read() -> list[RequestLine]:
            return read_lines(self.plane.access_log, LogPosition()).lines

        self.until(lambda: len(read()) >= number)
        _check(len(read()) == number, f"{number} lines in the log, not {len(read())}")
        return read()

    def interval(self, number: int) -> Interval:
        """Return what the log says of ``digits`` after ``number`` requests, without latency."""
        lines = [
            RequestLine(
                at_ms=line.at_ms,
                model=line.model,
                side=line.side,
                wanted_slot=line.wanted_slot,
                slot=line.slot,
                status=line.status,
            )
            for line in self.lines(number)
        ]
        return count(lines)["digits"]

    def start_and_be_killed(self, suite: type) -> None:
        """Start the data plane from a process that then dies by SIGKILL."""
        with self._process(suite) as process:
            _check(process.wait() == -signal.SIGKILL, "a starter that was killed")

    def apply_and_be_killed(self, suite: type) -> None:
        """Apply the last table over and over in a process, and kill it in the middle."""
        fields = {"revision": self.last.revision, "control_socket": ""}
        route = self.last.models[0]
        endpoints = {
            side: {"slot": found.slot, "version": found.version, "sockets": found.sockets}
            for side, found in (("stable", route.stable), ("canary", route.canary))
            if found is not None
        }
        models = [{"model": route.model, **endpoints}]
        with self._process(suite, json.dumps({**fields, "models": models})) as process:
            output = process.stdout
            if output is not None:
                _check(output.readline() == b"ready\n", "a writer that is ready")
            time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)

    def _process(self, suite: type, *more: str) -> subprocess.Popen[bytes]:
        place = (str(self._folder), str(self.port), str(self._sockets))
        arguments = (inspect.getfile(suite), suite.__name__, *place, *more)
        return subprocess.Popen(
            (sys.executable, "-c", _KILLED_STARTER, *arguments), stdout=subprocess.PIPE
        )


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
) -> Reply:
    started = time.perf_counter()
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        content = response.read()
        status, found = response.status, response.getheaders()
    except (OSError, http.client.HTTPException):
        connection.close()
        content, status, found = b"{}", 0, []
    return Reply(
        status=status,
        headers={name.lower(): value for name, value in found},
        body=content,
        seconds=time.perf_counter() - started,
        ended_at=time.time(),
    )


def _check(is_so: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not is_so:
        raise AssertionError(f"expected {what}")
