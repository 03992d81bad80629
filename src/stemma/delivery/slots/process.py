"""Model processes as the operating system sees them: start, adopt, look at, signal.

Invariants:
    * A process survives whoever started it: it leads a session of its own, and nothing ties
      its life to its parent's (no ``PR_SET_PDEATHSIG``).
    * A process is known by its id and its start time: a stranger that got the same id later is
      never signalled and never taken for it.
    * It sees only the environment variables it was given.

Memory has two limits. The supervisor looks at resident memory and ends a process above the
exact limit; between two looks ``RLIMIT_DATA`` is the hard stop. The kernel counts mappings
there, not resident pages (stacks of threads, arenas and buffers that were never touched), so it
stands one GiB higher: a process within its limit must not fail for memory it never used.

This module decides nothing; see ``replica``. It reads ``/proc``: Linux only.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, final

import msgspec

from stemma.delivery.slots.files import replace_bytes
from stemma.domain.errors import UnavailableError

MIB: Final = 1 << 20
_HARD_STOP_SLACK_BYTES: Final = 1 << 30
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TAIL_BYTES: Final = 64 * 1024
_REASON_PREFIX: Final = "stemma: "
_DEFAULTED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGCHLD)


class Sighting(NamedTuple):
    """A process in ``/proc``: its state letter, its start time and its resident memory."""

    state: str
    start_ticks: int
    memory_bytes: int


def look_at(pid: int) -> Sighting | None:
    """Return what ``/proc`` says of a process; ``None`` when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # proc(5): the name may hold anything, so fields are counted from its closing bracket.
    fields = text.rpartition(")")[2].split()
    return Sighting(fields[0], int(fields[19]), int(fields[21]) * _PAGE_BYTES)


def is_running(pid: int, start_ticks: int) -> bool:
    """Return whether this very process runs; one that only waits to be reaped does not."""
    found = look_at(pid)
    return found is not None and found.start_ticks == start_ticks and found.state not in "ZX"


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a running process, for whoever adopts it.

    Attributes:
        pid: Its id, also of its session and group.
        start_ticks: When it started, in ticks since boot.
        started_at: The same for people.
        restarts: How often its replica had been started again by then.
        was_ready: It has answered its golden request.
    """

    pid: int
    start_ticks: int
    started_at: datetime
    restarts: int = 0
    was_ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFiles:
    """The files of one replica.

    Attributes:
        folder: The slot's folder.
        number: The replica's, from 0.
    """

    folder: Path
    number: int

    @property
    def record(self) -> Path:
        """Who runs."""
        return self.folder / f"process-{self.number}.json"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / f"process-{self.number}.log"

    @property
    def previous_log(self) -> Path:
        """What its predecessor said, or what it said before the log was full."""
        return self.folder / f"process-{self.number}.log.1"

    def read_record(self) -> ProcessRecord | None:
        """Return who was running when last written; ``None`` when nobody."""
        try:
            return msgspec.json.decode(self.record.read_bytes(), type=ProcessRecord)
        except (OSError, msgspec.DecodeError):
            return None

    def write_record(self, record: ProcessRecord) -> None:
        """Write down who runs, whole or not at all."""
        replace_bytes(self.record, msgspec.json.encode(record))

    def bound_log(self, limit_bytes: int) -> None:
        """Move a full log's text to the previous one.

        Copied and cut rather than renamed, since the process goes on writing to the file it
        has open (in append mode, so from its new end); a line written in between is lost.
        """
        try:
            if self.log.stat().st_size > limit_bytes:
                replace_bytes(self.previous_log, self.log.read_bytes()[-limit_bytes:])
                os.truncate(self.log, 0)
        except OSError:
            return  # A full disk must not end the watch over a process.

    def last_reason(self) -> str:
        """Return the last ``stemma: code: message`` of the log without its prefix, or nothing."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                lines = stream.read().decode("utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        found = [line for line in lines if line.startswith(_REASON_PREFIX)]
        return found[-1].removeprefix(_REASON_PREFIX).strip() if found else ""


@final
class ModelProcess:
    """One running process; a child of this one, or adopted.

    Attributes:
        record: Who it is.
        exit_code: How it ended: its code, or minus its signal; ``None`` while it runs, and for
            an adopted one, whose end nobody tells us.
    """

    __slots__ = ("_is_child", "exit_code", "memory_bytes", "record")

    def __init__(self, record: ProcessRecord, *, is_child: bool) -> None:
        """Stand for the process of that record."""
        self.record = record
        self._is_child = is_child
        self.exit_code: int | None = None
        self.memory_bytes = 0

    def is_alive(self) -> bool:
        """Look whether it still runs, and how much memory it has; reap it when it has ended."""
        found = look_at(self.record.pid)
        if found is not None and found.start_ticks == self.record.start_ticks:
            if found.state not in "ZX":
                self.memory_bytes = found.memory_bytes
                return True
            # While it waits to be reaped its group's id cannot be another's: end what it left.
            self._send(signal.SIGKILL)
        self._reap()
        self.memory_bytes = 0
        return False

    def terminate(self) -> None:
        """Ask the whole group to end."""
        self._send_if_running(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group."""
        self._send_if_running(signal.SIGKILL)

    def _send_if_running(self, number: signal.Signals) -> None:
        if is_running(self.record.pid, self.record.start_ticks):
            self._send(number)

    def _send(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.record.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # It was faster.

    def _reap(self) -> None:
        if not self._is_child:
            return
        try:
            pid, status = os.waitpid(self.record.pid, os.WNOHANG)
        except ChildProcessError:
            self._is_child = False  # Somebody else reaped it.
            return
        if pid:
            self.exit_code = os.waitstatus_to_exitcode(status)
            self._is_child = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How the processes of a slot are started; the replica's number is added to the command.

    Attributes:
        command: Program and arguments; the program absolute.
        environment: All environment variables.
        memory_mib: Most resident memory.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    memory_mib: int


def spawn(launch: Launch, files: ProcessFiles, started_at: datetime, restarts: int) -> ModelProcess:
    """Start a process in a session of its own, with a fresh log, and write down who it is.

    Raises:
        UnavailableError: If it cannot be started.
    """
    command = (*launch.command, str(files.number))
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
        if files.log.exists():
            files.log.replace(files.previous_log)
        pid = _spawn_session(command, launch.environment, files.log)
    except OSError as error:
        raise UnavailableError(
            f"cannot start {command[0]}: {error.strerror or error}",
            code="cannot-start-process",
            hint=f"ls -l {command[0]}",
        ) from error
    found = look_at(pid)  # Not reaped yet, so it is there even when it has ended.
    record = ProcessRecord(
        pid=pid,
        start_ticks=found.start_ticks if found else 0,
        started_at=started_at,
        restarts=restarts,
    )
    process = ModelProcess(record, is_child=True)
    _limit_memory(pid, launch.memory_mib)
    try:
        files.write_record(record)
    except OSError as error:
        process.kill()  # Nobody could adopt it, and a second one would be started beside it.
        raise UnavailableError(
            f"cannot write {files.record}: {error.strerror or error}",
            code="cannot-start-process",
            hint="df -h; free some space",
        ) from error
    return process


def _spawn_session(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a program in a session of its own that writes to ``log``."""
    # posix_spawn: no Python runs between fork and exec, so threads here do no harm.
    return os.posix_spawn(
        command[0],
        list(command),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=list(_DEFAULTED),
    )


def adopt(files: ProcessFiles) -> ModelProcess | None:
    """Return the process an earlier supervisor started; ``None`` when it does not run."""
    record = files.read_record()
    if record is None or not is_running(record.pid, record.start_ticks):
        return None
    return ModelProcess(record, is_child=True)


def adopt_all(folder: Path) -> list[ModelProcess]:
    """Return every process of a slot's folder that an earlier supervisor started."""
    numbers = [path.stem.partition("-")[2] for path in folder.glob("process-*.json")]
    found = [
        adopt(ProcessFiles(folder=folder, number=int(number)))
        for number in numbers
        if number.isdecimal()
    ]
    return [process for process in found if process is not None]


def _limit_memory(pid: int, memory_mib: int) -> None:
    limit = memory_mib * MIB + _HARD_STOP_SLACK_BYTES
    try:
        resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))
    except (OSError, ValueError):
        return  # It has ended already, or a lower limit is set from outside.


def child_environment(own: Mapping[str, str], inherited: Sequence[str]) -> dict[str, str]:
    """Return what a process gets of our variables: the few it needs, and those named."""
    return {
        name: text
        for name, text in own.items()
        if name in {"PATH", "HOME", "LANG", "TMPDIR"} or name.startswith("LC_") or name in inherited
    }
