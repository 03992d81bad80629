"""Sends requests when their time has come, and times each from that moment.

Invariants:
    * Open loop: no send waits for an answer; a request without a free connection waits for one,
      and that wait is part of its latency.
    * Every request ends: with an answer, an error, or the timeout.
    * No request is sent twice: a connection that breaks is an error.

As a program (``python -m stemma.delivery.load.driver``) it reads a plan from standard input and
writes the result to standard output, both msgpack; ``measuring`` starts it so.

This module needs aiohttp, which comes with the extra ``serve``: nothing that runs without it
may import this one.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from stemma.delivery.load.plan import LoadPlan
from stemma.delivery.load.requests import LoadRequest
from stemma.delivery.load.result import LoadResult, Sample, quantile_ms

VERSION_HEADER: Final = "x-stemma-version"
_KEPT_ALIVE_SECONDS: Final = 4.0
"""Below every server's own limit (uvicorn: 5 s), so that none closes under our hands."""

_HTTP_ERROR: Final = 400
_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (TimeoutError, "timeout"),
    (FileNotFoundError, "no socket"),
    (ConnectionRefusedError, "connection refused"),
    ((ConnectionResetError, BrokenPipeError, aiohttp.ServerDisconnectedError), "connection reset"),
    (aiohttp.ClientPayloadError, "answer cut off"),
    (aiohttp.ClientResponseError, "not HTTP"),
)
"""Failures by the words they are counted under; the first that fits."""

_T = TypeVar("_T")


def drive(plan: LoadPlan) -> LoadResult:
    """Send a plan's requests and return what came of them; takes as long as the plan."""
    return run_precisely(_drive(plan))


def run_precisely(work: Coroutine[Any, Any, _T]) -> _T:
    """Run ``work`` in an event loop that wakes within some 0.1 ms of the time asked for.

    epoll counts whole milliseconds and rounds up, which would be latency of ours; select
    counts microseconds.  It takes no more than 1,024 files, so this belongs into a process
    of its own (``measuring``).
    """

    def make_loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(selectors.SelectSelector())

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(work)


async def _drive(plan: LoadPlan) -> LoadResult:
    async with open_senders(plan) as senders:
        turn = cycle(senders)
        for request in _take(plan.requests, plan.warm_up):
            await next(turn).send(request, 0.0, time.perf_counter())
        late_us: list[float] = []
        tasks: list[asyncio.Task[Sample]] = []
        start = time.perf_counter()
        for offset, request in zip(plan.offsets, cycle(plan.requests), strict=False):
            late_us.append(await sleep_until(start + offset) * 1e6)
            tasks.append(asyncio.create_task(next(turn).send(request, offset, start)))
        samples = await asyncio.gather(*tasks)
    return LoadResult(
        samples=tuple(samples), seconds=plan.seconds, sender_late_ms=quantile_ms(late_us, 0.99)
    )


def _take(requests: Sequence[LoadRequest], count: int) -> Iterable[LoadRequest]:
    return (request for request, _ in zip(cycle(requests), range(count), strict=False))


async def sleep_until(moment: float) -> float:
    """Sleep until the performance counter says ``moment``; return how late it is, in seconds."""
    wait = moment - time.perf_counter()
    # A schedule that is behind still lets answers in, or latency of ours were taken for theirs.
    await asyncio.sleep(max(0.0, wait))
    return max(0.0, time.perf_counter() - moment)


class Sender:
    """Sends to one address over kept connections."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        """Take the session and the address in front of each path."""
        self._session = session
        self._base = base

    async def send(self, request: LoadRequest, offset: float, start: float) -> Sample:
        """Send one request that was due at ``start + offset``; never raises for its failure."""
        headers = {**request.headers, "content-type": request.content_type}
        try:
            async with self._session.post(
                f"{self._base}{request.path}", data=request.body, headers=headers
            ) as answer:
                await answer.read()
                latency_us = round((time.perf_counter() - start - offset) * 1e6)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Sample(scheduled_at=offset, latency_us=0, status=0, error=_kind(error))
        status = answer.status
        return Sample(
            scheduled_at=offset,
            latency_us=latency_us,
            status=status,
            version=answer.headers.get(VERSION_HEADER, ""),
            error=f"HTTP {status}" if status >= _HTTP_ERROR else "",
        )


@asynccontextmanager
async def open_senders(plan: LoadPlan) -> AsyncIterator[list[Sender]]:
    """Open one sender per address of the plan."""
    timeout = aiohttp.ClientTimeout(total=plan.timeout_seconds)
    connectors: list[tuple[Callable[[], aiohttp.BaseConnector], str]] = [
        (_unix_connector(path, plan.connections), "http://localhost") for path in plan.sockets
    ] or [(_tcp_connector(plan.connections), plan.url.rstrip("/"))]
    async with AsyncExitStack() as stack:
        senders: list[Sender] = []
        for make_connector, base in connectors:
            session = aiohttp.ClientSession(
                connector=make_connector(),
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                middlewares=(),
            )
            senders.append(Sender(await stack.enter_async_context(session), base))
        yield senders


def _unix_connector(path: str, connections: int) -> Callable[[], aiohttp.BaseConnector]:
    return lambda: aiohttp.UnixConnector(
        path=path, limit=connections, keepalive_timeout=_KEPT_ALIVE_SECONDS
    )


def _tcp_connector(connections: int) -> Callable[[], aiohttp.BaseConnector]:
    return lambda: aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEPT_ALIVE_SECONDS)


def _kind(error: BaseException) -> str:
    """Name a failure, so that failures of one kind count together."""
    reason = getattr(error, "os_error", error)
    return next(
        (name for kinds, name in _KINDS if isinstance(reason, kinds)), type(reason).__name__
    )


def main() -> None:
    """Read a plan, send it, write the result."""
    plan = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=LoadPlan)
    sys.stdout.buffer.write(msgspec.msgpack.encode(drive(plan)))


if __name__ == "__main__":
    main()
