"""A real small HTTP server on a Unix socket, as slow and as faulty as a test needs it."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Behave = Callable[[int, float], tuple[int, float]]
"""From the number of the request and seconds since the start: status (0: cut off) and delay."""


class Upstream:
    """An HTTP server in a thread of its own."""

    def __init__(self, path: str, behave: Behave) -> None:
        self.path = path
        self.seen: list[tuple[str, bytes]] = []
        self._behave = behave
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._is_up.wait(5)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        self._start = self._loop.time()
        self._is_free = asyncio.Lock()
        server = await asyncio.start_unix_server(self._connection, self.path)
        self._is_up.set()
        await self._done.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [
            int(line.partition(":")[2])
            for line in head.splitlines()
            if line.lower().startswith("content-length:")
        ]
        body = await reader.readexactly(lengths[0] if lengths else 0)
        self.seen.append((head.split(" ")[1], body))
        status, delay = self._behave(len(self.seen), self._loop.time() - self._start)
        if delay:
            async with self._is_free:  # one at a time, as a model computes
                await asyncio.sleep(delay)
        if not status:
            return False
        lines = (f"HTTP/1.1 {status} X", "x-stemma-version: 1.0.0", "content-length: 2", "", "{}")
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        return True


@pytest.fixture
def upstream() -> Iterator[Callable[[Behave], Upstream]]:
    started: list[Upstream] = []
    with tempfile.TemporaryDirectory(prefix="up") as folder:

        def start(behave: Behave) -> Upstream:
            started.append(Upstream(str(Path(folder) / f"{len(started)}.sock"), behave))
            return started[-1]

        yield start
        for server in started:
            server.stop()
