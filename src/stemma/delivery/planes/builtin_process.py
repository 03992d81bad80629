"""The process of the built-in proxy: ``python -m stemma.delivery.planes.builtin_process FILE``.

Invariants:
    * It needs nobody: routes are read from a file that others rename into place, so it goes
      on serving when whoever started it is dead.
    * A file of routes that makes no sense changes nothing; what was in force stays so.
    * On SIGTERM it takes no more connections and lets requests under way end.

It is asked over a Unix socket: ``GET /ready``, ``GET /status``, ``POST /reopen_logs`` and
``POST /drain_listeners``, like Envoy's administration.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final, final

import msgspec
from aiohttp import web

from stemma.delivery.planes.builtin import BuiltinSettings, BuiltinStatus
from stemma.delivery.planes.builtin_log import FLUSH_SECONDS, AccessLog
from stemma.delivery.planes.builtin_proxy import Proxy
from stemma.delivery.planes.builtin_routing import Routing
from stemma.domain.errors import StemmaError
from stemma.domain.routing import RouteTable

_LOOK_SECONDS: Final = 0.05
_DRAIN_SECONDS: Final = 5.0
_HEADER_BYTES: Final = 64 * 1024


@final
class _Server:
    """The proxy, its administration and the file of routes."""

    def __init__(self, settings: BuiltinSettings) -> None:
        self._settings = settings
        self._routes_file = Path(settings.routes_file)
        self._seen: tuple[int, int, int] | None = None
        self._detail = ""
        self._log = AccessLog(Path(settings.access_log))
        self._proxy = Proxy(Routing(RouteTable(revision=-1), settings.hosts), self._log)
        self._listener: web.TCPSite | None = None
        self._is_ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._is_ended.set)
        loop.add_signal_handler(signal.SIGUSR1, self._log.reopen)
        self._load()
        users, admin = self._users(), self._admin()
        await users.setup()
        await admin.setup()
        self._listener = web.TCPSite(
            users, self._settings.host, self._settings.port, backlog=1024, reuse_port=False
        )
        await self._listener.start()
        await web.UnixSite(admin, self._settings.admin_socket).start()
        chores = [loop.create_task(self._watch()), loop.create_task(self._flush())]
        await self._is_ended.wait()
        await self._drain()
        for chore in chores:
            chore.cancel()
        await users.cleanup()
        await admin.cleanup()
        await self._proxy.close()
        self._log.close()

    def _users(self) -> web.AppRunner:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._proxy.handle)
        return web.AppRunner(
            application,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            shutdown_timeout=0.1,
        )

    def _admin(self) -> web.AppRunner:
        application = web.Application()
        application.router.add_get("/ready", self._answer_status)
        application.router.add_get("/status", self._answer_status)
        application.router.add_post("/reopen_logs", self._answer_reopen)
        application.router.add_post("/drain_listeners", self._answer_drain)
        return web.AppRunner(application, access_log=None, shutdown_timeout=0.1)

    async def _answer_status(self, _: web.Request) -> web.Response:
        status = BuiltinStatus(
            revision=self._proxy.routing.revision,
            active=self._proxy.active,
            detail=self._detail,
        )
        return web.Response(body=msgspec.json.encode(status), content_type="application/json")

    async def _answer_reopen(self, _: web.Request) -> web.Response:
        self._log.reopen()
        return web.Response()

    async def _answer_drain(self, _: web.Request) -> web.Response:
        await self._stop_listening()
        return web.Response()

    async def _watch(self) -> None:
        while True:
            self._load()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self._log.flush()

    def _load(self) -> None:
        """Put the routes in force that are in the file, when it is another one."""
        try:
            found = self._routes_file.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            self._seen = seen
            table = msgspec.json.decode(self._routes_file.read_bytes(), type=RouteTable)
            self._proxy.routing = Routing(table, self._settings.hosts)
            self._detail = ""
        except (OSError, msgspec.DecodeError, StemmaError) as error:
            self._detail = f"refused {self._routes_file}: {error}"

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None

    async def _drain(self) -> None:
        await self._stop_listening()
        for _ in range(int(_DRAIN_SECONDS / _LOOK_SECONDS)):
            if not self._proxy.active:
                return
            await asyncio.sleep(_LOOK_SECONDS)


def main(path: str) -> None:
    """Serve with the settings in the file ``path``."""
    settings = msgspec.json.decode(Path(path).read_bytes(), type=BuiltinSettings)
    os.umask(0o077)  # so that only this user reaches the administration
    asyncio.run(_Server(settings).run())


if __name__ == "__main__":
    main(sys.argv[1])
