"""A project with small models, its server and its users; whatever a test starts is ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stemma.cli.serving_cards import serving_payload
from stemma.server.wiring import open_hub

Completed = subprocess.CompletedProcess[str]
Found = TypeVar("Found")
SCRIPT = Path(__file__).with_name("record_models.py")
START_SECONDS = 60.0
LOOK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What HTTP answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass(kw_only=True)
class Production:
    """A project, what serves in it, and commands."""

    folder: Path
    commands: Any
    variables: dict[str, str]
    port: int = 0
    server: subprocess.Popen[bytes] | None = None
    users: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where requests are answered."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> Path:
        """Where serving keeps its files."""
        return self.folder / ".stemma" / "serve"

    def stemma(self, *arguments: str, **variables: str) -> Completed:
        """Run a command to its end."""
        answer: Completed = self.commands.run(
            *arguments, cwd=self.folder, env={**self.variables, **variables}
        )
        return answer

    def ask(self, *arguments: str, code: int = 0, **variables: str) -> Any:
        """Run a command with ``--json``, insist on its exit code, and read its answer."""
        done = self.stemma(arguments[0], "--json", *arguments[1:], **variables)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def refused(self, *arguments: str, code: int, **variables: str) -> Any:
        """Run a command that is refused; insist on one clear line and its next step."""
        error = self.ask(*arguments, code=code, **variables)
        assert set(error) == {"code", "name", "message", "hint", "retryable"}, error
        assert error["hint"], error
        assert "\n" not in error["message"]
        return error

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a server and wait for nothing."""
        if not self.port:
            self.port = free_port()
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                [
                    *(sys.executable, "-m", "stemma.cli.main", "serve"),
                    *(*arguments, "--port", str(self.port)),
                ],
                cwd=self.folder,
                env={**self.variables, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.server

    def serve(self, *arguments: str, models: tuple[str, ...] = ("prices",), **env: str) -> None:
        """Start a server and wait until models answer."""
        server = self.start(*arguments, **env)
        for model in models:
            self.until(lambda model=model: self.is_ready(model), server=server)  # type: ignore[misc]

    def said(self) -> str:
        """Return what the server said."""
        return (self.folder / "server.log").read_text(encoding="utf-8")

    def until(
        self,
        look: Callable[[], Found],
        *,
        seconds: float = START_SECONDS,
        server: subprocess.Popen[bytes] | None = None,
    ) -> Found:
        """Wait until something is true, and return it."""
        end = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > end or (server is not None and server.poll() is not None):
                code = None if server is None else server.poll()
                pytest.fail(f"it did not come about ({code}):\n{self.said()}\n{self.logs()}")
            time.sleep(LOOK_SECONDS)
        return found

    def logs(self) -> str:
        """Return the last lines of every model process."""
        return "\n".join(
            f"{path.name}: {path.read_text(encoding='utf-8')[-500:]}"
            for path in self.state.glob("slots/*/process-*.log")
        )

    def is_ready(self, model: str = "prices") -> bool:
        """Whether a model answers."""
        with suppress(OSError):
            return self.http("GET", f"/v2/models/{model}/ready").status == 200
        return False

    def http(
        self,
        method: str,
        path: str,
        body: bytes | object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; a body that is no bytes is sent as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {} if data is None else {"content-type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}{path}", data=data, method=method, headers={**kind, **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=40) as found:  # noqa: S310
                return Answer(status=found.status, headers=found.headers, body=found.read())
        except urllib.error.HTTPError as error:
            with closing(error):
                return Answer(status=error.code, headers=error.headers, body=error.read())

    def predict(self, *row: float, model: str = "prices") -> Answer:
        """Ask for one prediction."""
        return self.http("POST", f"/v1/models/{model}:predict", {"instances": [row]})

    def serving(self) -> Any:
        """Return what ``stemma status --json`` says of production; read in this process."""
        with closing(open_hub(self.folder)) as hub:
            return serving_payload(hub.serving())

    def model(self, name: str = "prices") -> Any:
        """Return what serves one model."""
        return self.serving()["models"][name]

    def slot(self, version: str, model: str = "prices") -> Any:
        """Return the slot of a version; ``None`` when there is none."""
        found = [s for s in self.model(model)["slots"] if s["spec"]["version"] == version]
        return found[0] if found else None

    def slot_pid(self, slot: str) -> int:
        """Return the process of a slot's first replica; 0 while there is none."""
        record = self.state / "slots" / slot / "process-0.json"
        with suppress(FileNotFoundError):
            return int(json.loads(record.read_text(encoding="utf-8"))["pid"])
        return 0

    def send_users(self, *, rate: int = 100, large: bool = False, model: str = "prices") -> None:
        """Let users come; with ``large``, every second one has a large second column."""
        rows = [[1.0, 500.0 if large and number % 2 else 3.0] for number in range(20)]
        requests = self.write(
            "requests.jsonl", "".join(f"{json.dumps({'instances': [row]})}\n" for row in rows)
        )
        command = [sys.executable, "-m", "stemma.delivery.load.traffic", "--model", model]
        where = ["--url", self.url, "--rate", str(rate), "--requests", str(requests)]
        self.users.append(
            subprocess.Popen(
                [*command, *where, "--summary", "users.json", "--with-parent"],
                cwd=self.folder,
                env=self.variables,
                stdin=subprocess.DEVNULL,
            )
        )

    def count_users(self) -> Any:
        """End the users, and return what they saw."""
        users = self.users.pop()
        users.terminate()
        assert users.wait(timeout=30) == 0
        return json.loads((self.folder / "users.json").read_text(encoding="utf-8"))

    def kill_server(self) -> None:
        """End the server process as a crash would; what it started goes on."""
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def processes(self) -> dict[int, str]:
        """Return every process that belongs to this project, with its command line."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal() or int(folder.name) == os.getpid():
                continue
            with suppress(OSError):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                here = (folder / "cwd").readlink() == self.folder
                if line and (here or f"{self.folder}/" in line):
                    found[int(folder.name)] = line
        return found

    def end(self) -> None:
        """End everything, whatever happened."""
        for process in self.users:
            process.kill()
            process.wait()
        with suppress(subprocess.TimeoutExpired):
            if self.state.exists():
                self.stemma("serve", "--stop")
        if self.server is not None:
            with suppress(subprocess.TimeoutExpired):
                self.server.wait(timeout=10)
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.server is not None:
            self.server.wait()


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def delivery_variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of every command: an empty home, but uv's own cache and index."""
    cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=False)
    passed = {
        name: text
        for name, text in os.environ.items()
        if name.startswith(("UV_", "PIP_", "SSL_", "PYTHONPATH")) or name.lower().endswith("_proxy")
    }
    return {
        **passed,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path_factory.mktemp("home")),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or cache.stdout.strip(),
        "STEMMA_USER": "ada",
        "STEMMA_PROGRESS": "none",
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture(scope="session")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, delivery_variables: dict[str, str], commands: Any
) -> Iterator[Production]:
    """Record and release every model once; nobody may change it."""
    folder = tmp_path_factory.mktemp("recorded")
    made = Production(folder=folder, commands=commands, variables=delivery_variables)
    shutil.copy(SCRIPT, made.folder)
    made.write("stemma.toml", "[model.prices]\n")
    assert made.stemma("init").returncode == 0
    done = subprocess.run(
        [sys.executable, SCRIPT.name],
        cwd=made.folder,
        env=made.variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made.state / "environments").mkdir(parents=True)
    try:
        yield made
    finally:
        made.end()


def _copy(recorded: Production, folder: Path) -> Production:
    """Copy the project; environments are shared, for making one takes seconds."""
    shutil.copytree(
        recorded.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("environments")
    )
    (folder / ".stemma/serve/environments").symlink_to(recorded.state / "environments")
    return Production(folder=folder, commands=recorded.commands, variables=dict(recorded.variables))


@pytest.fixture
def production(recorded: Production, tmp_path: Path) -> Iterator[Production]:
    """A project for one test, with nothing serving yet."""
    made = _copy(recorded, tmp_path / "project")
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def served(production: Production) -> Production:
    """A project for one test that serves prices 1.0.0 as stable."""
    production.serve("prices@1.0.0", "--channel", "stable")
    return production


@pytest.fixture(scope="module")
def shared(recorded: Production, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """A project that serves prices 1.0.0 to tests of one module that only ask."""
    made = _copy(recorded, tmp_path_factory.mktemp("shared") / "project")
    try:
        made.serve("prices@1.0.0", "--channel", "stable")
        yield made
    finally:
        made.end()
