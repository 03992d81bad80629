"""Answers requests of users by asking a slot, as Envoy would.

Invariants:
    * Each request is one line of the access log, also one that the client broke off.
    * A model's body is kept up to 4 MiB to be sent again; a larger one is streamed and sent once,
      and so is everything for the control application, which may take as long as it likes.
    * An attempt is given up for the next one only while the client has heard nothing.

Where a request goes is decided in ``builtin_routing``.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final, final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from stemma.delivery.access_log import RequestLine
from stemma.delivery.planes.builtin_log import AccessLog
from stemma.delivery.planes.builtin_routing import Attempt, Refusal, Routing, ToControl, ToModel
from stemma.delivery.planes.paths import NOT_RUNNING
from stemma.domain.routing import NOT_READY_HEADER, Endpoint

_KEPT_BYTES: Final = 4 * 1024 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_CONNECT_SECONDS: Final = 0.25
_IDLE_SECONDS: Final = 3.0
_SERVER_ERROR: Final = 500
_GATEWAY_TIMEOUT: Final = 504
_UNAVAILABLE: Final = 503
# RFC 9110 §7.6.1: these speak of one connection, not of the request.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    }
)
_OURS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class _NoAnswerError(Exception):
    """A slot did not answer."""

    def __init__(self, status: int, flag: str) -> None:
        super().__init__(flag)
        self.status = status
        self.flag = flag


@dataclass(slots=True, kw_only=True)
class _Trace:
    """What is known of one request so far."""

    request_id: str
    at_ms: int
    started: float
    model: str = ""
    side: str = ""
    wanted_slot: str = ""
    slot: str = ""
    version: str = ""
    status: int = 0
    attempts: int = 0
    socket: str = ""
    flags: str = ""

    def line(self) -> RequestLine:
        return RequestLine(
            at_ms=self.at_ms,
            model=self.model,
            side=self.side,
            wanted_slot=self.wanted_slot,
            slot=self.slot,
            version=self.version,
            status=self.status,
            duration_us=int((time.perf_counter() - self.started) * 1e6),
            attempts=self.attempts,
            flags=self.flags,
            request_id=self.request_id,
        )


@final
class Proxy:
    """Handles requests with the routing in force."""

    def __init__(self, routing: Routing, log: AccessLog) -> None:
        """Send requests where ``routing`` says; replace it by assigning ``routing``."""
        self.routing = routing
        self.active = 0
        self._log = log
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._turns: dict[str, int] = {}

    async def close(self) -> None:
        """Hang up on all slots."""
        for session in self._sessions.values():
            await session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        trace = _Trace(
            request_id=request.headers.get("X-Request-Id") or str(uuid.uuid4()),
            at_ms=time.time_ns() // 1_000_000,
            started=time.perf_counter(),
        )
        self.active += 1
        try:
            return await self._answer(request, trace)
        except (asyncio.CancelledError, ConnectionResetError):
            trace.flags = "DC"
            raise
        except aiohttp.ClientError as error:
            # The slot died in the middle of a long answer: the client must see that it is cut.
            trace.flags = "UC"
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError from error
        finally:
            self.active -= 1
            self._log.add(trace.line())

    async def _answer(self, request: web.Request, trace: _Trace) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        decision = self.routing.decide(path, request.headers, random.random())  # noqa: S311
        if isinstance(decision, Refusal):
            return await _say(request, trace, decision.status, decision.text)
        if isinstance(decision, ToControl):
            return await self._ask_control(request, trace, decision)
        return await self._ask_model(request, trace, await _Body.of(request), decision)

    async def _ask_control(
        self, request: web.Request, trace: _Trace, to: ToControl
    ) -> web.StreamResponse:
        trace.attempts = 1
        try:
            response = await self._send(request, trace, _Body.passing(request), to.socket)
        except (aiohttp.ClientError, OSError):
            trace.flags = "UF"
            return await _say(request, trace, _UNAVAILABLE, NOT_RUNNING)
        async with response:
            return await _pass_on(request, trace, response)

    async def _ask_model(
        self, request: web.Request, trace: _Trace, body: _Body, to: ToModel
    ) -> web.StreamResponse:
        trace.model, trace.side = to.model, to.side
        trace.wanted_slot = to.attempts[0].endpoint.slot
        ends_at = time.perf_counter() + to.timeout_seconds
        attempts = to.attempts if body.is_whole else to.attempts[:1]
        failure = _NoAnswerError(_UNAVAILABLE, "UH")
        for number, attempt in enumerate(attempts):
            left = min(attempt.timeout_seconds, ends_at - time.perf_counter())
            is_last = number == len(attempts) - 1
            try:
                return await self._try(request, trace, body, attempt, left, is_last=is_last)
            except _NoAnswerError as error:
                failure = error
                if error.status == _GATEWAY_TIMEOUT and attempt.is_final_on_error:
                    break
        trace.flags = failure.flag
        text = f"{trace.slot or to.model} does not answer"
        if failure.status == _GATEWAY_TIMEOUT:
            text += f" within {to.timeout_seconds:g} s"
        return await _say(request, trace, failure.status, text)

    async def _try(
        self,
        request: web.Request,
        trace: _Trace,
        body: _Body,
        attempt: Attempt,
        seconds: float,
        *,
        is_last: bool,
    ) -> web.StreamResponse:
        """Ask one slot and pass its answer on.

        Raises:
            _NoAnswerError: If it gave none, or one that another slot may better.
        """
        trace.attempts += 1
        trace.slot, trace.version = attempt.endpoint.slot, attempt.endpoint.version
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                trace.socket = self._replica(attempt.endpoint, unlike=trace.socket)
                response = await self._send(request, trace, body, trace.socket)
                small = await _small_content(response)
        except TimeoutError as error:
            raise _NoAnswerError(_GATEWAY_TIMEOUT, "UT") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _NoAnswerError(_UNAVAILABLE, "UF") from error
        async with response:
            is_refused = response.status >= _SERVER_ERROR and (
                NOT_READY_HEADER in response.headers or not attempt.is_final_on_error
            )
            if is_refused and not is_last:
                raise _NoAnswerError(response.status, "")
            return await _pass_on(request, trace, response, small)

    async def _send(
        self, request: web.Request, trace: _Trace, body: _Body, socket: str
    ) -> aiohttp.ClientResponse:
        if not socket:
            raise ConnectionRefusedError
        headers = _end_to_end(request.headers.items())
        headers["X-Request-Id"] = trace.request_id
        return await self._session(socket).request(
            request.method,
            URL(f"http://localhost{request.raw_path}", encoded=True),
            headers=headers,
            data=body.content(),
            skip_auto_headers=_OURS,
            allow_redirects=False,
        )

    def _replica(self, endpoint: Endpoint, *, unlike: str) -> str:
        """Return the socket whose turn it is, another than the one that was asked last."""
        sockets = [socket for socket in endpoint.sockets if socket != unlike] or endpoint.sockets
        if not sockets:
            return ""
        turn = self._turns.get(endpoint.slot, 0)
        self._turns[endpoint.slot] = turn + 1
        return sockets[turn % len(sockets)]

    def _session(self, socket: str) -> aiohttp.ClientSession:
        session = self._sessions.get(socket)
        if session is None:
            connector = aiohttp.UnixConnector(path=socket, limit=0, keepalive_timeout=_IDLE_SECONDS)
            session = self._sessions[socket] = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                max_field_size=64 * 1024,
            )
        return session


@final
class _Body:
    """The body of a request: all of it, or its beginning and the stream of the rest."""

    def __init__(self, kept: bytes, rest: aiohttp.StreamReader | None) -> None:
        self._kept = kept
        self._rest = rest

    @classmethod
    async def of(cls, request: web.Request) -> _Body:
        """Read as much of the body as is kept."""
        if not request.can_read_body:
            return cls(b"", None)
        kept = bytearray()
        while len(kept) < _KEPT_BYTES:
            chunk = await request.content.readany()
            if not chunk:
                return cls(bytes(kept), None)
            kept += chunk
        return cls(bytes(kept), request.content)

    @classmethod
    def passing(cls, request: web.Request) -> _Body:
        """Keep nothing of the body: each part is sent on as it comes."""
        return cls(b"", request.content if request.can_read_body else None)

    @property
    def is_whole(self) -> bool:
        """Whether it can be sent again."""
        return self._rest is None

    def content(self) -> bytes | AsyncIterator[bytes] | None:
        """Return what to send."""
        if self._rest is None:
            return self._kept or None
        return self._stream(self._rest)

    async def _stream(self, rest: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        if self._kept:
            yield self._kept
        while chunk := await rest.readany():
            yield chunk


async def _small_content(response: aiohttp.ClientResponse) -> bytes | None:
    """Read a small answer whole, so that a slot that dies in the middle can be replaced."""
    if (response.content_length or _KEPT_BYTES) < _KEPT_BYTES:
        return await response.read()
    return None


async def _pass_on(
    request: web.Request,
    trace: _Trace,
    response: aiohttp.ClientResponse,
    small: bytes | None = None,
) -> web.StreamResponse:
    headers = _end_to_end(response.headers.items())
    headers["X-Request-Id"] = trace.request_id
    if trace.version:
        headers["X-Stemma-Version"] = trace.version
    answer = web.StreamResponse(status=response.status, reason=response.reason, headers=headers)
    await answer.prepare(request)
    trace.status = response.status
    if small is not None:
        await answer.write(small)
    else:
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            await answer.write(chunk)
    await answer.write_eof()
    return answer


async def _say(request: web.Request, trace: _Trace, status: int, text: str) -> web.Response:
    trace.status = status
    headers = {"X-Request-Id": trace.request_id}
    body = json.dumps({"error": text}).encode()
    answer = web.Response(
        status=status, body=body, content_type="application/json", headers=headers
    )
    await answer.prepare(request)
    return answer


def _end_to_end(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP)
