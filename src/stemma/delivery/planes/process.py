"""The one process behind a data plane: started, adopted, asked and ended.

Invariants:
    * It has a session of its own: neither Ctrl-C nor the death of its starter reaches it.
    * Whoever comes later finds it by its record (id and start time), or, when the record
      was never written, by asking the socket of its administration who listens there.
    * Its output is one file, begun anew at each start.
    * The access log is renamed, never cut or deleted while it may be read: see ``rotate``.

It knows nothing of routes; see ``envoy`` and ``builtin``.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, final

import msgspec
from typing_extensions import override

from stemma.delivery.planes.ports import check_port
from stemma.delivery.slots.files import replace_bytes
from stemma.delivery.slots.process import is_running, look_at
from stemma.domain.errors import ConflictError, StemmaError, UnavailableError

ACCESS_LOG: Final = "access.jsonl"
ROTATED_DIGITS: Final = 6
_KEPT_LOGS: Final = 4
_START_SECONDS: Final = 15.0
_ADOPT_SECONDS: Final = 2.0
_DRAIN_SECONDS: Final = 5.0
_KILL_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.005
_TAIL_BYTES: Final = 64 * 1024
_OK: Final = 200


class PlaneRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Which process serves.

    Attributes:
        pid: Its id.
        start_ticks: When it started, in ticks since boot.
        address: ``host:port`` it listens at.
    """

    pid: int
    start_ticks: int
    address: str


@final
class PlaneProcess:
    """The process of one data plane."""

    def __init__(self, *, name: str, folder: Path, sockets: Path, address: tuple[str, int]) -> None:
        """Name its files; nothing is started.

        Args:
            name: Of the data plane; names its files.
            folder: For its files.
            sockets: Private folder with a short name, for the socket of its administration.
            address: Host and port it is to listen at.
        """
        self._folder = folder
        self._address = address
        self._name = name
        self.admin_socket = sockets / f"{name}.sock"
        self.log = folder / f"{name}.log"
        self.access_log = folder / ACCESS_LOG
        self._record = folder / f"{name}-process.json"

    def pid(self) -> int:
        """Return its process id; 0 when it does not run."""
        record = self._read_record()
        if record is not None:
            _reap(record.pid)
            if is_running(record.pid, record.start_ticks):
                return record.pid
        return _listener(self.admin_socket)

    def ask(self, path: str, *, method: str = "GET", timeout_seconds: float = 1.0) -> str | None:
        """Return what its administration answers; ``None`` when it does not answer 200."""
        connection = _UnixConnection(str(self.admin_socket), timeout_seconds)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read().decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return body if response.status == _OK else None

    def tell(self, path: str) -> None:
        """Ask its administration to do something; one that does not answer does not."""
        self.ask(path, method="POST")

    def adopt(self, is_answering: Callable[[], bool]) -> bool:
        """Return whether it runs already, at this address; one that fails is ended."""
        pid = self.pid()
        if not pid:
            return False
        record = self._read_record()
        is_here = record is None or record.pid != pid or record.address == self._address_text
        if is_here and _within(_ADOPT_SECONDS, is_answering):
            self._write_record(pid)
            return True
        self.end(lambda: None)
        return False

    def spawn(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        is_answering: Callable[[], bool],
    ) -> None:
        """Start it; returns when it answers.

        Raises:
            ConflictError: If the port is taken (``port-in-use``).
            UnavailableError: If it does not come up (``data-plane-failed``).
        """
        check_port(*self._address)
        self.admin_socket.unlink(missing_ok=True)
        pid = _start(arguments, environment, self.log)
        self._write_record(pid)
        if not _within(_START_SECONDS, is_answering, until=lambda: not self._is_record_running()):
            self.end(lambda: None)
            raise self._failure()

    def end(self, drain: Callable[[], None]) -> None:
        """End it when it runs: ``drain`` first, SIGTERM, then SIGKILL."""
        pid = self.pid()
        found = look_at(pid) if pid else None
        if found is not None:
            drain()
            for number, seconds in ((signal.SIGTERM, _KILL_SECONDS), (signal.SIGKILL, 1.0)):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
                if _within(seconds, lambda: _is_gone(pid, found.start_ticks)):
                    break
        self._record.unlink(missing_ok=True)
        self.admin_socket.unlink(missing_ok=True)

    def wait_until_idle(self, is_idle: Callable[[], bool]) -> None:
        """Give requests under way time to end."""
        _within(_DRAIN_SECONDS, is_idle)

    def rotate(self, max_bytes: int, reopen: Callable[[], None]) -> None:
        """Begin a new access log when this one is larger than ``max_bytes``.

        The old file is written to until the new one is there, so a reader that sees a newer
        file knows that the older one is complete (``delivery.access_log`` relies on it).
        """
        try:
            size_bytes = self.access_log.stat().st_size
        except FileNotFoundError:
            # Somebody was killed between renaming and this.
            reopen()
            return
        if size_bytes <= max_bytes:
            return
        rotated = rotated_logs(self.access_log)
        for path in rotated[: max(0, len(rotated) - _KEPT_LOGS + 1)]:
            path.unlink(missing_ok=True)
        number = int(rotated[-1].suffix[1:]) + 1 if rotated else 1
        self.access_log.rename(f"{self.access_log}.{number:0{ROTATED_DIGITS}d}")
        reopen()

    def log_tail(self) -> list[str]:
        """Return the last lines it said."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                return file.read().decode("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    @property
    def _address_text(self) -> str:
        host, port = self._address
        return f"{host}:{port}"

    def _failure(self) -> StemmaError:
        tail = " / ".join(self.log_tail()[-3:])
        host, port = self._address
        if "cannot bind" in tail or "Address already in use" in tail:
            return ConflictError(
                f"port {port} of {host} is taken",
                code="port-in-use",
                hint=f"stemma serve --port {port + 1}",
            )
        return UnavailableError(
            f"the data plane {self._name} does not come up: {tail or 'it said nothing'}",
            code="data-plane-failed",
            hint=f"cat {self.log}",
        )

    def _read_record(self) -> PlaneRecord | None:
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=PlaneRecord)
        except (OSError, msgspec.DecodeError):
            return None

    def _write_record(self, pid: int) -> None:
        found = look_at(pid)
        record = PlaneRecord(
            pid=pid,
            start_ticks=found.start_ticks if found else 0,
            address=self._address_text,
        )
        replace_bytes(self._record, msgspec.json.encode(record))

    def _is_record_running(self) -> bool:
        record = self._read_record()
        if record is None:
            return False
        _reap(record.pid)
        return is_running(record.pid, record.start_ticks)


def rotated_logs(access_log: Path) -> list[Path]:
    """Return the access logs that were renamed, oldest first."""
    pattern = f"{access_log.name}.{'[0-9]' * ROTATED_DIGITS}"
    return sorted(access_log.parent.glob(pattern))


@final
class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path
        self._timeout_seconds = timeout_seconds

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_seconds)
        self.sock.connect(self._path)


def _start(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a process in a session of its own; nobody waits for it, so none is a ``Popen``."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(
        arguments[0],
        list(arguments),
        dict(environment),
        file_actions=actions,
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1),
    )


def _reap(pid: int) -> None:
    """Take the leave of a child that ended; somebody else's child is none of our business."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _is_gone(pid: int, start_ticks: int) -> bool:
    _reap(pid)
    return not is_running(pid, start_ticks)


def _listener(path: Path) -> int:
    """Return the process that listens at a Unix socket; 0 when none does."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.5)
        try:
            connection.connect(str(path))
            found = connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
        except OSError:
            return 0
    pid: int = struct.unpack("3i", found)[0]
    return pid


def _within(
    seconds: float, is_done: Callable[[], bool], *, until: Callable[[], bool] = lambda: False
) -> bool:
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() >= deadline or until():
            return False
        time.sleep(_LOOK_SECONDS)
    return True
