"""A project that really serves: four releases of digits, ``stemma serve``, and its users.

Everything goes over the wire: the server is the real command with the real data plane, users
are the load generator in a process of its own, and what happened is read from the access log.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.digits import ENVIRONMENT, STEMMA
from stemma.delivery.access_log import RequestLine, read_lines
from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import SlotStatus
from stemma.delivery.slots.statuses import read_statuses
from stemma.domain.rollout import LogPosition, Rollout, RolloutPlan, RolloutState
from stemma.hub.delivery import RolloutRequest
from stemma.hub.local import LocalHub
from stemma.server.wiring import open_hub

MODEL: Final = "digits"
STABLE: Final = "1.0.0"
_DEMO: Final = Path(__file__).parents[1] / "examples" / "demo"
_FIRST: Final = "LogisticRegression(max_iter=500)"
_START_SECONDS: Final = 90.0
_LOOK_SECONDS: Final = 0.02
_OK: Final = 200
_VALIDATIONS: Final = 4


class ScenarioError(Exception):
    """Something did not happen in time, or a command failed."""


@dataclass
class Users:
    """Users under way.

    Attributes:
        process: The load generator.
        summary: Where it writes what users saw.
    """

    process: subprocess.Popen[bytes]
    summary: Path

    def end(self) -> dict[str, Any]:
        """Let the last answers in, and return what users saw."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        seen: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        return seen


@dataclass
class Production:
    """One project and whatever runs for it.

    Attributes:
        root: The project's folder.
        plane: ``envoy`` or ``builtin``.
        port: Where it answers.
        good: A version as good as the stable one.
        server: The server's process.
        refused_validations: Why validations said no, which a busy machine makes them say.
    """

    root: Path
    plane: str
    port: int
    good: str = ""
    server: subprocess.Popen[bytes] | None = None
    refused_validations: list[str] = field(default_factory=list)
    _users: list[Users] = field(default_factory=list)
    _number: int = 0
    _trap: str = ""

    @property
    def layout(self) -> ServeLayout:
        """Where serving has its files."""
        return ServeLayout(state=self.root / ".stemma")

    @property
    def trap(self) -> str:
        """A version that passes its gates and fails requests with a missing pixel."""
        if not self._trap:
            estimator = "LogisticRegression(C=0.6, max_iter=500)"
            self._trap = self.release(estimator, has_imputer=False)
        return self._trap

    @property
    def access_log(self) -> Path:
        """The data plane's access log."""
        return self.layout.plane / "access.jsonl"

    def command(self, *words: str, expect: Iterable[int] = (0,)) -> str:
        """Run a command in the project and return what it printed."""
        done = subprocess.run(
            words, cwd=self.root, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        if done.returncode not in expect:
            raise ScenarioError(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def release(self, estimator: str, *, has_imputer: bool = True) -> str:
        """Train with another estimator, release, and return the version."""
        text = (_DEMO / "train.py").read_text(encoding="utf-8").replace(_FIRST, estimator)
        if not has_imputer:
            text = text.replace("SimpleImputer(), ", "")
        (self.root / "train.py").write_text(text, encoding="utf-8")
        self.command(STEMMA, "run", "--", "python", "train.py")
        said = self.command(STEMMA, "release", MODEL)
        found = re.search(rf"{MODEL} (\d+\.\d+\.\d+)", said)
        if found is None:
            raise ScenarioError(f"the release has no number:\n{said}")
        return found[1]

    @contextmanager
    def hub(self) -> Iterator[LocalHub]:
        """Open the project's hub."""
        with closing(open_hub(self.root)) as hub:
            yield hub

    def serve(self, *words: str) -> float:
        """Start the server; return the seconds until users are answered."""
        began = time.monotonic()
        log = (self.root / "server.log").open("ab")
        options = ("--plane", self.plane, "--port", str(self.port))
        with log:
            self.server = subprocess.Popen(
                (STEMMA, "serve", *words, *options),
                cwd=self.root,
                env=ENVIRONMENT,
                stdout=log,
                stderr=log,
            )
        self.until(self.is_answering, "the server answers", _START_SECONDS)
        return time.monotonic() - began

    def is_answering(self) -> bool:
        """Whether the first model is ready for users."""
        url = f"http://127.0.0.1:{self.port}/v2/health/ready"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == _OK)
        except OSError:
            return False

    def kill_server(self) -> None:
        """Kill the server at once, and nothing it started."""
        if self.server is not None:
            self.server.kill()
            self.server.wait()

    def send_users(self, rate: float) -> Users:
        """Let users come: half of their scans miss a pixel."""
        self._number += 1
        summary = self.root / f"users-{self._number}.json"
        command = [sys.executable, "-m", "stemma.delivery.load.traffic", "--model", MODEL]
        command += ["--requests", "requests.jsonl", "--summary", str(summary), "--with-parent"]
        command += ["--url", f"http://127.0.0.1:{self.port}", "--rate", str(rate)]
        process = subprocess.Popen(command, cwd=self.root, env=ENVIRONMENT)
        users = Users(process, summary)
        self._users.append(users)
        time.sleep(1.0)
        return users

    def statuses(self) -> dict[str, SlotStatus]:
        """Return slots by name."""
        return read_statuses(self.layout)

    def pids(self, version: str) -> list[int]:
        """Return the processes that serve a version."""
        return [
            replica.pid
            for status in self.statuses().values()
            if status.spec.version == version
            for replica in status.replicas
            if replica.pid
        ]

    def lines(self, position: LogPosition | None = None) -> list[RequestLine]:
        """Return what the access log holds for the model since a position."""
        found: list[RequestLine] = []
        at = position or LogPosition()
        while True:
            reading = read_lines(self.access_log, at)
            found += [line for line in reading.lines if line.model == MODEL]
            if reading.position == at:
                return found
            at = reading.position

    def until(self, is_so: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                log = (self.root / "server.log").read_text(encoding="utf-8")[-3000:]
                raise ScenarioError(f"not within {seconds:.0f} s: {what}\n{log}")
            time.sleep(_LOOK_SECONDS)

    def roll_out(self, hub: LocalHub, version: str, plan: RolloutPlan) -> None:
        """Begin a rollout and wait until it is validated, again when a busy machine failed it."""
        for _ in range(_VALIDATIONS):
            hub.start_rollout(RolloutRequest(ref=f"{MODEL}@{version}", plan=plan))
            self.until(
                lambda: hub.rollout(MODEL).rollout.state is not RolloutState.VALIDATING,
                "the rollout is validated",
                120,
            )
            rollout = hub.rollout(MODEL).rollout
            if rollout.state is not RolloutState.FAILED:
                return
            self.refused_validations.append(rollout.reason)
        raise ScenarioError(f"no validation passed: {self.refused_validations}")

    def until_rollout(
        self, hub: LocalHub, states: Iterable[RolloutState], seconds: float
    ) -> Rollout:
        """Wait until the newest rollout is in one of the states, or has ended."""
        wanted = set(states)
        found: list[Rollout] = []

        def is_there() -> bool:
            found[:] = [hub.rollout(MODEL).rollout]
            return found[0].state in wanted or found[0].state.is_final

        self.until(is_there, f"the rollout is {[state.value for state in wanted]}", seconds)
        if found[0].state not in wanted:
            raise ScenarioError(f"the rollout ended: {found[0].state.value}: {found[0].reason}")
        return found[0]

    def end(self) -> list[str]:
        """End users and server; return what goes on running though it should not."""
        for users in self._users:
            if users.process.poll() is None:
                users.process.kill()
            users.process.wait()
        if self.server is not None and self.server.poll() is None:
            self.server.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.server.wait(timeout=40)
            self.server.kill()
            self.server.wait()
        try:
            self.command(STEMMA, "serve", "--stop")
        finally:
            left = processes_of(self.root, self.layout.sockets())
            for line in left:
                os.kill(int(line.partition(":")[0]), signal.SIGKILL)
        return left


def processes_of(*folders: Path) -> list[str]:
    """Return the command lines of processes that name one of the folders."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if path.parent.name != str(os.getpid()) and any(str(f) in words for f in folders):
                found.append(f"{path.parent.name}: {words[:200]}")
    return found


def quantiles(values: Iterable[float], digits: int = 3) -> dict[str, float]:
    """Return p50, p99 and the largest."""
    ordered = sorted(values)
    if not ordered:
        return {}
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {name: round(ordered[round(share * last)], digits) for name, share in at.items()}


@contextmanager
def production(plane: str = "envoy", *, is_serving: bool = True) -> Iterator[Production]:
    """Yield a project that serves ``digits@1.0.0`` to whoever comes; ends everything.

    Args:
        plane: ``envoy`` or ``builtin``.
        is_serving: Record two versions and serve the first; else the project is empty.
    """
    with tempfile.TemporaryDirectory(prefix="production-") as name:
        root = Path(name).resolve()
        for file in ("train.py", "stemma.toml", "requests.py"):
            shutil.copy(_DEMO / file, root / file)
        made = Production(root=root, plane=plane, port=free_port())
        made.command(STEMMA, "init")
        made.command(sys.executable, "requests.py", "requests.jsonl")
        try:
            if is_serving:
                made.release(_FIRST)
                made.good = made.release("LogisticRegression(C=0.9, max_iter=500)")
                made.serve(f"{MODEL}@{STABLE}", "--channel", "stable")
            yield made
        finally:
            left = made.end()
        if left:
            raise ScenarioError(f"these go on running: {left}")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number
