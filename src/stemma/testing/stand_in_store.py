"""A control application for tests that takes and gives large bodies, on a Unix socket.

PUT /take    reads the body as it comes, and says how much there was and its digest
PUT /refuse  answers 400 and reads nothing
GET /give    gives ``CONTENT``, or the range of it that is asked for
GET /wait    answers after ``WAIT_SECONDS``
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Final, final

from typing_extensions import override

SIZE_BYTES: Final = 64 * 2**20
WAIT_SECONDS: Final = 0.4
_CHUNK_BYTES: Final = 1 << 18
_BLOCK: Final = bytes(range(256)) * (_CHUNK_BYTES // 256)


@final
class StandInStore:
    """One such application.

    Attributes:
        path: Its socket.
        received: Bytes of bodies that have arrived so far.
    """

    def __init__(self, folder: Path) -> None:
        """Listen in ``folder``, which must have a short name."""
        self.path = folder / "store.sock"
        self.received = 0
        self._server = _Server(str(self.path), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, store: StandInStore) -> None:
        self.store = store
        super().__init__(path, _Handler)

    @override
    def process_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)  # noqa: S101 - UnixStreamServer accepts these
        super().process_request(request, ("store", 0))

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up on purpose here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        """Take a body, or refuse it."""
        if self.path == "/refuse":
            self.close_connection = True
            self._say(400, {"error": "refused"})
            return
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left:
            chunk = self.rfile.read(min(_CHUNK_BYTES, left))
            if not chunk:
                return
            left -= len(chunk)
            digest.update(chunk)
            self.server.store.received += len(chunk)
        self._say(200, {"sha256": digest.hexdigest()})

    def do_GET(self) -> None:
        """Give content, or wait."""
        if self.path == "/wait":
            time.sleep(WAIT_SECONDS)
            self._say(200, {"waited": True})
            return
        first, last = 0, SIZE_BYTES - 1
        asked = self.headers.get("Range")
        if asked:
            first, last = (int(end) for end in asked.removeprefix("bytes=").split("-"))
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last - first + 1))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{SIZE_BYTES}")
        self.end_headers()
        while first <= last:
            offset = first % _CHUNK_BYTES
            part = _BLOCK[offset : offset + last - first + 1]
            self.wfile.write(part)
            first += len(part)

    def _say(self, status: int, answer: dict[str, object]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def content_digest() -> str:
    """Return the sha256 of what ``GET /give`` gives."""
    digest = hashlib.sha256()
    for _ in range(SIZE_BYTES // _CHUNK_BYTES):
        digest.update(_BLOCK)
    return digest.hexdigest()
