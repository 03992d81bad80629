"""``stemma serve`` and ``mlflow server``, each started by its own command on an empty folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_READY_SECONDS = 120
_STOP_SECONDS = 30
_LOOK_SECONDS = 0.005
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers.

    Attributes:
        address: ``http://127.0.0.1:PORT``.
        pid: Its first process.
        ready_seconds: From starting the command to the first answer of ``/health``.
    """

    address: str
    pid: int
    ready_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One of the two.

    Attributes:
        name: ``stemma`` or ``mlflow``.
        folder: What it keeps.
        database: Its SQLite file.
    """

    name: str
    folder: Path
    database: Path

    def command(self, port: int) -> list[str]:
        """Return the command that starts it."""
        scripts = Path(sys.executable).parent
        if self.name == "stemma":
            return [str(scripts / "stemma"), "serve", "--port", str(port)]
        return [
            str(scripts / "mlflow"),
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--backend-store-uri",
            f"sqlite:///{self.database}",
            "--artifacts-destination",
            str(self.folder / "artifacts"),
        ]


def make_kinds(folder: Path) -> tuple[Kind, Kind]:
    """Make a folder for each; ours is initialised."""
    ours, theirs = folder / "stemma", folder / "mlflow"
    ours.mkdir(parents=True)
    theirs.mkdir()
    subprocess.run(
        [str(Path(sys.executable).parent / "stemma"), "init"],
        cwd=ours,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return (
        Kind(name="stemma", folder=ours, database=ours / ".stemma" / "stemma.db"),
        Kind(name="mlflow", folder=theirs, database=theirs / "mlflow.db"),
    )


@contextmanager
def started(kind: Kind) -> Iterator[Running]:
    """Start a server and end it with everything it started."""
    port = _free_port()
    log = (kind.folder / "server.log").open("ab")
    environment: Mapping[str, str] = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    began = time.perf_counter()
    process = subprocess.Popen(
        kind.command(port),
        cwd=kind.folder,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(process, f"{address}/health", kind.folder / "server.log")
        seconds = time.perf_counter() - began
        yield Running(address=address, pid=process.pid, ready_seconds=seconds)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def tree(pid: int) -> list[int]:
    """Return a process and everything below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Keep a server's processes from running while another one is measured."""
    members = tree(pid)
    for member in members:
        os.kill(member, signal.SIGSTOP)
    try:
        yield
    finally:
        for member in members:
            os.kill(member, signal.SIGCONT)


def memory_mib(pid: int) -> float:
    """Return the proportional memory of a process tree (PSS: shared pages are counted once)."""
    total = 0
    for member in tree(pid):
        try:
            text = Path(f"/proc/{member}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process tree and of its children that ended."""
    total = 0
    for member in tree(pid):
        fields = _stat(member)
        if fields:
            total += sum(int(value) for value in fields[11:15])
    return total / _TICKS


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended:\n{log.read_text(encoding='utf-8')[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(_LOOK_SECONDS)
    raise RuntimeError(f"{url} did not answer in {_READY_SECONDS} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
