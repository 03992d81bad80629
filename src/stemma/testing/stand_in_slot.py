"""A model process for tests: an HTTP server on a Unix socket that answers, fails, hangs or dies.

It loads no model; every answer names the slot and says what was received.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Final, final

from typing_extensions import override

from stemma.domain.routing import NOT_READY_HEADER, Endpoint

_CHUNK_BYTES: Final = 1 << 20
_OK: Final = 200
_FAILED: Final = 500
_UNAVAILABLE: Final = 503


@final
class StandInSlot:
    """One slot with one process.

    Attributes:
        name: Name of the slot.
        version: Version it says it serves.
        behaviour: ``ok``, ``error`` (500), ``loading`` (503) or ``hang``; may be changed
            at any time.
        delay_seconds: How long an answer takes.
        seen: When each request arrived (monotonic clock) and its ``x-request-id``.
    """

    def __init__(self, folder: Path, name: str, version: str, behaviour: str = "ok") -> None:
        """Listen in ``folder``, which must have a short name."""
        self.name = name
        self.version = version
        self.behaviour = behaviour
        self.delay_seconds = 0.0
        self.seen: list[tuple[float, str]] = []
        self.path = folder / f"{name}.sock"
        self.path.unlink(missing_ok=True)
        self.is_over = threading.Event()
        self._server = _Server(str(self.path), self)
        # A daemon: a test that fails in between must not hang the whole run.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    @property
    def endpoint(self) -> Endpoint:
        """How a route table names it."""
        return Endpoint(slot=self.name, version=self.version, sockets=(str(self.path),))

    def kill(self) -> None:
        """End at once, as a process that is killed: connections break, the socket refuses."""
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.break_connections()
        self._thread.join(5)


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: str, slot: StandInSlot) -> None:
        self.slot = slot
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(path, _Handler)

    @override
    def process_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)  # noqa: S101 - UnixStreamServer accepts these
        with self._guard:
            self._connections.add(request)
        super().process_request(request, ("slot", 0))

    @override
    def shutdown_request(self, request: object) -> None:
        assert isinstance(request, socket.socket)  # noqa: S101 - as above
        with self._guard:
            self._connections.discard(request)
        super().shutdown_request(request)

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: connections break on purpose here."""

    def break_connections(self) -> None:
        with self._guard:
            for connection in self._connections:
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        slot = self.server.slot
        slot.seen.append((time.monotonic(), self.headers.get("x-request-id", "")))
        received = self._read()
        if slot.behaviour == "hang":
            slot.is_over.wait(60)
            return
        slot.is_over.wait(slot.delay_seconds)
        answer = {"slot": slot.name, "bytes": received, "path": self.path}
        body = json.dumps(answer).encode()
        statuses = {"error": _FAILED, "loading": _UNAVAILABLE}
        self.send_response(statuses.get(slot.behaviour, _OK))
        if slot.behaviour == "loading":
            self.send_header(NOT_READY_HEADER, "1")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_POST = do_HEAD = do_GET  # noqa: N815 - as above

    def _read(self) -> int:
        wanted = int(self.headers.get("Content-Length", "0"))
        received = 0
        while received < wanted:
            chunk = self.rfile.read(min(_CHUNK_BYTES, wanted - received))
            if not chunk:
                break
            received += len(chunk)
        return received
