"""Requests and responses of the runtime: what of ASGI it uses, and no more.

Invariants:
    * A body above the limit is refused before it is read, or as soon as the limit is passed.
    * Every error has one status; ``status_of`` is the only table.

This module knows no protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from stemma.domain.errors import (
    DeniedError,
    InvalidInputError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TOO_LARGE: Final = "body-too-large"
WRONG_METHOD: Final = "wrong-method"
_STATUS_BY_CODE: Final = {TOO_LARGE: 413, WRONG_METHOD: 405}
_STATUS_BY_KIND: Final = (
    (InvalidInputError, 400),
    (NotFoundError, 404),
    (DeniedError, 403),
    (UnavailableError, 503),
)
_JSON: Final = b"application/json"
_KEPT_HEADERS: Final = frozenset(
    {
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"inference-header-content-length",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request with its whole body.

    Attributes:
        method: e.g. ``POST``.
        path: Decoded path.
        query: Raw query string.
        headers: The few headers that count here, by lower-case name.
        body: The bytes.
    """

    method: str
    path: str
    query: bytes = b""
    headers: MutableMapping[bytes, bytes]
    body: bytes = b""

    @property
    def content_type(self) -> str:
        """Media type without parameters, in lower case."""
        text = self.headers.get(b"content-type", b"").decode("latin-1")
        return text.partition(";")[0].strip().lower()

    def parameter(self, name: str) -> str:
        """Return a parameter of the query; empty when absent."""
        if not self.query:
            return ""
        return parse_qs(self.query.decode("latin-1")).get(name, [""])[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response.

    Attributes:
        status: HTTP status.
        body: The bytes.
        content_type: Their media type.
        headers: Further headers, lower-case names.
    """

    status: int = 200
    body: bytes = b""
    content_type: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class ClientGoneError(StemmaError):
    """The client went away before its body was whole; nobody waits for an answer."""


def status_of(error: StemmaError) -> int:
    """Return the HTTP status of an error."""
    if error.code in _STATUS_BY_CODE:
        return _STATUS_BY_CODE[error.code]
    return next((status for kind, status in _STATUS_BY_KIND if isinstance(error, kind)), 500)


async def read_request(scope: Message, receive: Receive, limit_bytes: int) -> Request:
    """Read a request.

    Raises:
        InvalidInputError: If the body is above the limit.
        ClientGoneError: If the client went away.
    """
    headers = {name: value for name, value in scope["headers"] if name in _KEPT_HEADERS}
    body = b""
    if scope["method"] not in {"GET", "HEAD"}:
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise too_large(int(declared), limit_bytes)
        body = await _read_body(receive, limit_bytes)
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope.get("query_string", b""),
        headers=headers,
        body=body,
    )


async def _read_body(receive: Receive, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client went away", code="client-gone")
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise too_large(size, limit_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def too_large(size_bytes: int, limit_bytes: int, what: str = "the body") -> InvalidInputError:
    """Return the error for a body above the limit."""
    return InvalidInputError(
        f"{what} has at least {size_bytes:,} bytes; at most {limit_bytes:,} are taken",
        code=TOO_LARGE,
        hint="send fewer rows per request, or binary tensors",
    )


async def send_response(send: Send, response: Response, version: bytes) -> None:
    """Send a response, with the version that gave it."""
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [
                (b"content-type", response.content_type),
                (b"content-length", b"%d" % len(response.body)),
                (b"x-stemma-version", version),
                *response.headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": response.body})
