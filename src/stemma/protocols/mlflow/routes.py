"""What a handler is: a route with who may call it, the request it gets, the answer it gives.

Invariants:
    * A body that is decoded is bounded in size and nesting, whatever fields it has.
    * Fields this server does not know are ignored, a null is a field that is not there, and
      64-bit integers come as numbers or as text, as protobuf's JSON has it.

It looks up no route; see ``app``.

Example:
    >>> route = MlflowRoute(method="GET", path="/api/2.0/mlflow/runs/get", handler=get_run,
    ...                     needs=Needs.READ)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar, final, get_origin
from urllib.parse import parse_qs

import msgspec

from stemma.domain.access import Needs
from stemma.domain.errors import InvalidInputError
from stemma.protocols.mlflow.ports import Services

__all__ = ["MlflowRequest", "MlflowRoute", "Needs", "Response"]

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""Largest body that is read whole; what is streamed has no limit of its own."""

MessageT = TypeVar("MessageT", bound=msgspec.Struct)
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
_JSON: Final = "application/json"
_BODILESS: Final = frozenset({"GET", "HEAD"})


class ClientGoneError(Exception):
    """The client hung up in the middle of its request; nobody is there to be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer that is no JSON object, or has headers of its own.

    Attributes:
        body: All of it, or its parts as they come.
        status: HTTP status.
        media_type: What it is; empty for nothing.
        headers: Further headers, names in lower case.
    """

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    media_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@final
class MlflowRequest:
    """One request, read as far as its handler asks.

    Attributes:
        services: What to answer from.
        method: HTTP method.
        target: Path as it was sent, without the query.
        headers: By name in lower case.
        path: Parameters of the path, decoded.
        query: Values of each name in the query.
        user: Who calls, where callers have to say so; else empty.
    """

    __slots__ = ("_receive", "headers", "method", "path", "query", "services", "target", "user")

    def __init__(
        self,
        services: Services,
        scope: Mapping[str, object],
        receive: Receive,
        *,
        path: dict[str, str],
        user: str,
    ) -> None:
        """Take what ASGI says of a request; nothing of its body is read."""
        self.services = services
        self.method = str(scope["method"])
        self.target = target_of(scope)
        self.headers = headers_of(scope)
        self.path = path
        self.query = _query_of(scope)
        self.user = user
        self._receive = receive

    @property
    def base_url(self) -> str:
        """Address the client reached this server by, without a slash at its end."""
        scheme = self.headers.get("x-forwarded-proto", "http")
        return f"{scheme}://{self.headers.get('host', '127.0.0.1')}"

    async def body(self, message: type[MessageT]) -> MessageT:
        """Return the message: the query of a GET, the JSON object in the body of all others.

        Raises:
            InvalidInputError: If it is too large, no JSON object, or a field is wrong.
        """
        if self.method in _BODILESS:
            return _from_query(self.query, message)
        return decode(await self.content(), message)

    async def content(self, max_bytes: int = MAX_BODY_BYTES, media_type: str = _JSON) -> bytes:
        """Return the body, whole.

        Raises:
            InvalidInputError: If it is larger, or said to be something else.
        """
        announced = self.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > max_bytes:
            raise _too_large(max_bytes)
        parts, size_bytes = [], 0
        async for part in self.stream():
            size_bytes += len(part)
            if size_bytes > max_bytes:
                raise _too_large(max_bytes)
            parts.append(part)
        said = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        # A page of somebody else's can send forms and plain text unasked, but not JSON.
        if size_bytes and media_type and said != media_type:
            raise InvalidInputError(
                f"the body is said to be {said[:100] or 'nothing'}",
                code="bad-content-type",
                hint=f"send it as {media_type}",
            )
        return b"".join(parts)

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            ClientGoneError: If the client hangs up before its end.
        """
        while True:
            event = await self._receive()
            if event["type"] != "http.request":
                raise ClientGoneError
            part = event.get("body", b"")
            if isinstance(part, bytes) and part:
                yield part
            if not event.get("more_body", False):
                return


Handler: TypeAlias = Callable[[MlflowRequest], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowRoute:
    """One line of the authorisation matrix.

    Attributes:
        method: HTTP method.
        path: Path with ``{name}`` for one part of it, ``{name:path}`` for the rest.  What begins
            with ``/api/`` is answered below ``/ajax-api/``, too.
        handler: Answers with a Struct or dict, which becomes JSON, or a ``Response``.
        needs: What a caller must be allowed to do.
        is_whole: Whether all of MLflow's endpoint is there (✓) or a part of it (◐).
        remark: What is missing or different; shown in the table of compatibility.
    """

    method: str
    path: str
    handler: Handler
    needs: Needs
    is_whole: bool = True
    remark: str = ""


def decode(content: bytes, message: type[MessageT]) -> MessageT:
    """Return the message that a JSON object holds; an empty body is an empty object.

    Raises:
        InvalidInputError: If it is none, nested too deeply, or a field is wrong.
    """
    try:
        found: MessageT = _decoder(message).decode(content or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _decode_with_nulls(content, message, error)
    return found


def _decode_with_nulls(content: bytes, message: type[MessageT], why: Exception) -> MessageT:
    """Decode again without the nulls, or say why it could not be done at first."""
    try:
        if b"null" in content and not isinstance(why, RecursionError):
            found = _without_nulls(msgspec.json.decode(content))
            return msgspec.convert(found, message, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = error
    said = "it is nested too deeply" if isinstance(why, RecursionError) else str(why)
    raise InvalidInputError(f"the body is not understood: {said}", code="bad-body") from why


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value


def _from_query(query: Mapping[str, list[str]], message: type[MessageT]) -> MessageT:
    lists = _list_fields(message)
    found = {name: values if name in lists else values[-1] for name, values in query.items()}
    try:
        return msgspec.convert(found, message, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"the query is not understood: {error}", code="bad-query") from (
            error
        )


@cache
def _decoder(message: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(message, strict=False)


@cache
def _list_fields(message: type[msgspec.Struct]) -> frozenset[str]:
    fields = msgspec.structs.fields(message)
    return frozenset(
        found.encode_name for found in fields if get_origin(found.type) in {list, tuple}
    )


def target_of(scope: Mapping[str, object]) -> str:
    """Return the path of an ASGI scope as the client sent it, without the query."""
    raw = scope.get("raw_path")
    # HTTP allows ASCII only here; what is not is no route of ours.
    return raw.decode("latin-1") if isinstance(raw, bytes) else str(scope["path"])


def headers_of(scope: Mapping[str, object]) -> dict[str, str]:
    """Return the headers of an ASGI scope by name; of several of one name the last."""
    pairs = scope.get("headers", ())
    if not isinstance(pairs, list | tuple):
        return {}
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}


def _query_of(scope: Mapping[str, object]) -> dict[str, list[str]]:
    raw = scope.get("query_string", b"")
    if not raw or not isinstance(raw, bytes):
        return {}
    try:
        text = raw.decode("ascii")
        return parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=10_000)
    except ValueError as error:
        raise InvalidInputError(f"the query is not understood: {error}", code="bad-query") from (
            error
        )


def _too_large(max_bytes: int) -> InvalidInputError:
    return InvalidInputError(
        f"the body has more than {max_bytes} bytes",
        code="body-too-large",
        hint="send less at once",
    )
