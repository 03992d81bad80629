"""HTTP to a tracking server: JSON calls, downloads and uploads, with retries.

Invariants:
    * Nothing but the one server is spoken to: no redirect is followed, no proxy is used, and
      credentials go nowhere else.
    * A call is tried a bounded number of times; only what may succeed later is tried again.
    * An answer in JSON is bounded, and a download is whole or an error.

Credentials are read as MLflow's own client reads its variables: ``MLFLOW_TRACKING_USERNAME`` with
``MLFLOW_TRACKING_PASSWORD``, else ``MLFLOW_TRACKING_TOKEN``.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, final
from urllib.parse import quote, urlencode

import msgspec

from stemma.domain.errors import (
    DeniedError,
    InvalidInputError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)
from stemma.hub.foreign.mlflow_address import MlflowAddress

StructT = TypeVar("StructT")

ATTEMPTS: Final = 5
TIMEOUT_SECONDS: Final = 60.0
JSON_LIMIT_BYTES: Final = 256 << 20
PART_BYTES: Final = 1 << 20

_API: Final = "/api/2.0/mlflow/"
_FILES: Final = "/api/2.0/mlflow-artifacts/artifacts"
_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 15.0
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_OK: Final = 200
_MULTIPLE_CHOICES: Final = 300
_BAD_REQUEST: Final = 400
_MESSAGE_LIMIT: Final = 400


@final
class MlflowClient:
    """One connection to one server; for one thread, closed by its user."""

    def __init__(
        self,
        address: MlflowAddress,
        environment: Mapping[str, str],
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect at the first call.

        Args:
            address: The server.
            environment: Where credentials are looked up.
            sleep: Waits between attempts.
        """
        self.address = address
        self._headers = {"user-agent": "stemma", **_authorisation(environment)}
        self.request_count = 0
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, query: Mapping[str, object], kind: type[StructT]) -> StructT:
        """Return what a GET of the API answers.

        Raises:
            StemmaError: If it is refused, or does not answer.
        """
        asked = urlencode([(key, str(value)) for key, value in query.items() if value != ""])
        return self._json("GET", f"{_API}{path}?{asked}", b"", kind)

    def post(self, path: str, body: object, kind: type[StructT]) -> StructT:
        """Return what a POST to the API answers.

        Raises:
            StemmaError: If it is refused, or does not answer.
        """
        return self._json("POST", f"{_API}{path}", msgspec.json.encode(body), kind)

    def list_files(self, folder: str, kind: type[StructT]) -> StructT:
        """Return what the server answers about a folder of the artifacts that it proxies.

        Raises:
            StemmaError: If it is refused, or does not answer.
        """
        return self._json("GET", f"{_FILES}?{urlencode({'path': folder})}", b"", kind)

    def download(self, path: str, target: Callable[[int | None], BinaryIO]) -> tuple[BinaryIO, int]:
        """Return a file of the artifacts that the server proxies, read to the end, and its size.

        Args:
            path: The file, from the root of all artifacts.
            target: Makes an empty file for each attempt, for so many bytes, if that is said.

        Raises:
            StemmaError: If it is refused, or does not arrive.
        """

        def attempt() -> tuple[BinaryIO, int]:
            with self._answer("GET", f"{_FILES}/{quote(path)}", b"") as response:
                made = target(response.length)
                try:
                    return made, _copy(response, made)
                except BaseException:
                    made.close()
                    raise

        return self._trying(attempt)

    def upload(self, path: str, source: Path) -> None:
        """Write a file of the artifacts that the server proxies.

        Raises:
            StemmaError: If it is refused, or does not answer.
        """
        size_bytes = source.stat().st_size

        def attempt() -> None:
            with source.open("rb") as stream:
                headers = {
                    "content-length": str(size_bytes),
                    "content-type": "application/octet-stream",
                }
                with self._answer("PUT", f"{_FILES}/{quote(path)}", stream, headers) as response:
                    response.read(JSON_LIMIT_BYTES)

        self._trying(attempt)

    def _json(self, method: str, target: str, body: bytes, kind: type[StructT]) -> StructT:
        def attempt() -> bytes:
            headers = {"content-type": "application/json"} if body else {}
            with self._answer(method, target, body, headers) as response:
                data = response.read(JSON_LIMIT_BYTES + 1)
                if len(data) > JSON_LIMIT_BYTES:
                    raise self._strange(f"more than {JSON_LIMIT_BYTES} bytes of JSON")
                if response.length:
                    raise http.client.IncompleteRead(data, response.length)
                return data

        data = self._trying(attempt)
        try:
            # The standard library reads NaN and Infinity, which some servers write.
            return msgspec.convert(json.loads(data), kind, strict=False)
        except (ValueError, RecursionError) as error:
            raise self._strange(f"no JSON that fits {method} {target[:80]}: {error}") from error

    def _trying(self, attempt: Callable[[], StructT]) -> StructT:
        wait_seconds = _FIRST_WAIT_SECONDS
        for number in range(1, ATTEMPTS + 1):
            try:
                return attempt()
            except UnavailableError:
                self.close()
                if number == ATTEMPTS:
                    raise
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if number == ATTEMPTS or isinstance(error, ssl.SSLCertVerificationError):
                    raise self._silent(error) from error
            self._sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 3, _LONGEST_WAIT_SECONDS)
        raise AssertionError  # the last attempt returns or raises

    @contextmanager
    def _answer(
        self,
        method: str,
        target: str,
        body: bytes | BinaryIO,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Yield the answer when it is a good one; the connection is kept if it was read."""
        connection = self._connected()
        sent = {**self._headers, **(headers or {})}
        self.request_count += 1
        connection.request(method, target, body or None, sent)
        response = connection.getresponse()
        is_read = False
        try:
            if not _OK <= response.status < _MULTIPLE_CHOICES:
                raise self._refusal(response)
            yield response
            is_read = response.isclosed()
        finally:
            response.close()
            if not is_read:
                self.close()

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            address = self.address
            if address.is_secure:
                self._connection = http.client.HTTPSConnection(
                    address.host, address.port, timeout=TIMEOUT_SECONDS
                )
            else:
                self._connection = http.client.HTTPConnection(
                    address.host, address.port, timeout=TIMEOUT_SECONDS
                )
        return self._connection

    def _refusal(self, response: http.client.HTTPResponse) -> StemmaError:
        status, server = response.status, self.address.server
        with contextlib.suppress(OSError, http.client.HTTPException):
            return _named_refusal(server, status, response.read(PART_BYTES))
        return _named_refusal(server, status, b"")

    def _silent(self, error: Exception) -> UnavailableError:
        why = str(error) or type(error).__name__
        if isinstance(error, socket.gaierror):
            why = f"there is no host {self.address.host}"
        return UnavailableError(
            f"{self.address.server} does not answer, asked {ATTEMPTS} times: {why}",
            code="server-silent",
            hint=f"curl {self.address.url}/health, then the same command again goes on",
        )

    def _strange(self, what: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self.address.server} answers {what}",
            code="not-mlflow",
            hint=f"curl {self.address.url}/version should print MLflow's version",
        )


def _authorisation(environment: Mapping[str, str]) -> dict[str, str]:
    user = environment.get("MLFLOW_TRACKING_USERNAME", "")
    password = environment.get("MLFLOW_TRACKING_PASSWORD", "")
    token = environment.get("MLFLOW_TRACKING_TOKEN", "")
    if user and password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"authorization": f"Basic {pair}"}
    return {"authorization": f"Bearer {_one_line(token)}"} if token else {}


def _one_line(token: str) -> str:
    if not token.isprintable() or not token.isascii():
        raise InvalidInputError(
            "MLFLOW_TRACKING_TOKEN holds characters that no token has",
            code="bad-login",
            hint="set it anew, without a line break",
        )
    return token


def _copy(response: http.client.HTTPResponse, target: BinaryIO) -> int:
    expected = response.length
    size_bytes = 0
    while part := response.read(PART_BYTES):
        target.write(part)
        size_bytes += len(part)
    if expected is not None and size_bytes != expected:
        # ``read`` with a size does not tell when a server ends early.
        raise http.client.IncompleteRead(b"", expected - size_bytes)
    target.seek(0, io.SEEK_SET)
    return size_bytes


class _Problem(msgspec.Struct):
    error_code: str = ""
    message: str = ""


def _named_refusal(server: str, status: int, body: bytes) -> StemmaError:
    """Return the error for an answer that is none."""
    try:
        problem = msgspec.json.decode(body, type=_Problem, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = _Problem()
    words = (problem.message or f"HTTP {status}")[:_MESSAGE_LIMIT]
    message = f"{server}: {words}"
    if status in {401, 403}:
        return DeniedError(
            message,
            code="server-denied",
            hint="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD",
        )
    if status in _AGAIN:
        return UnavailableError(message, code="server-failed", hint="the same command goes on")
    if problem.error_code == "RESOURCE_ALREADY_EXISTS":
        return InvalidInputError(message, code="exists-there")
    if status == 404:  # noqa: PLR2004 - HTTP
        return NotFoundError(
            message, code="not-found-there", hint=f"all that is there: stemma pull {server}/"
        )
    hint = "no redirect is followed: name the server itself" if status < _BAD_REQUEST else ""
    return InvalidInputError(message, code="server-refused", hint=hint)
