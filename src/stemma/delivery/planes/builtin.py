"""The data plane for machines without Envoy: a small proxy of our own.

    plane/builtin/settings.json  how it was started
    plane/builtin/routes.json    where requests go; renamed into place
    plane/access.jsonl           its access log
    plane/builtin.log            what it said

Invariants:
    * It keeps the contract of ``testing.data_plane_contract``, as Envoy does; it is slower.
    * It needs ``aiohttp`` in its own process only.

The proxy itself is ``builtin_process``.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final, final

import msgspec

from stemma.delivery.planes.base import PlaneStatus
from stemma.delivery.planes.paths import own_hosts
from stemma.delivery.planes.process import PlaneProcess
from stemma.delivery.slots.files import replace_bytes
from stemma.domain.errors import NotFoundError
from stemma.domain.routing import RouteTable
from stemma.store.backends.local import translated_os_errors

_MODULE: Final = "stemma.delivery.planes.builtin_process"
_LOOK_SECONDS: Final = 0.005


class BuiltinSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the process is started.

    Attributes:
        host: Address it listens at.
        port: Port it listens at.
        hosts: Names beside loopback that clients may call it by.
        admin_socket: Unix socket of its administration.
        routes_file: Where requests go.
        access_log: One line per request.
    """

    host: str
    port: int
    hosts: tuple[str, ...]
    admin_socket: str
    routes_file: str
    access_log: str


class BuiltinStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the process says of itself.

    Attributes:
        revision: Route table in force; -1 when none is.
        active: Requests under way.
        detail: Why the newest file of routes is not in force; empty when it is.
    """

    revision: int
    active: int
    detail: str


@final
class BuiltinPlane:
    """The built-in proxy."""

    def __init__(
        self,
        folder: Path,
        host: str,
        port: int,
        *,
        sockets: Path,
        allowed_hosts: tuple[str, ...] = (),
    ) -> None:
        """Name the folder and the address; nothing is started.

        Args:
            folder: For its files, one data plane each.
            host: Address to listen at.
            port: Port to listen at.
            sockets: Private folder with a short name, for the socket of its administration.
            allowed_hosts: Names beside loopback that clients may call this server by.
        """
        self._files = folder / "builtin"
        self._routes_file = self._files / "routes.json"
        self._process = PlaneProcess(
            name="builtin", folder=folder, sockets=sockets, address=(host, port)
        )
        self._settings = BuiltinSettings(
            host=host,
            port=port,
            hosts=own_hosts(host, allowed_hosts),
            admin_socket=str(self._process.admin_socket),
            routes_file=str(self._routes_file),
            access_log=str(self._process.access_log),
        )

    @property
    def name(self) -> str:
        """``builtin``."""
        return "builtin"

    @property
    def access_log(self) -> Path:
        """Its access log."""
        return self._process.access_log

    def start(self) -> None:
        """Start the proxy, or adopt the one that runs already; returns when it answers.

        Raises:
            NotFoundError: If aiohttp is not installed (``no-aiohttp``).
            ConflictError: If the port is taken (``port-in-use``).
            UnavailableError: If it does not come up (``data-plane-failed``).
        """
        if find_spec("aiohttp") is None:
            raise NotFoundError(
                "the built-in proxy needs aiohttp",
                code="no-aiohttp",
                hint="pip install 'stemma-ml[serve]'",
            )
        if self._process.adopt(self._is_answering):
            return
        if not self._routes_file.exists():
            self.apply(RouteTable(revision=0))
        started_with = self._files / "settings.json"
        replace_bytes(started_with, msgspec.json.encode(self._settings))
        # -P: a file of the user's that is called like one of ours must not be imported.
        arguments = (sys.executable, "-P", "-m", _MODULE, str(started_with))
        self._process.spawn(arguments, os.environ, self._is_answering)

    def apply(self, table: RouteTable) -> None:
        """Put a route table in force; returns once written, before it is confirmed.

        Raises:
            UnavailableError: If the disk is full (``disk-full``).
        """
        with translated_os_errors("write the routes"):
            self._files.mkdir(parents=True, exist_ok=True)
            replace_bytes(self._routes_file, msgspec.json.encode(table))

    def wait_for(self, revision: int, timeout_seconds: float) -> bool:
        """Return whether a table of at least this revision came into force in time."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            found = self._ask()
            if found is not None and found.revision >= revision:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)

    def status(self) -> PlaneStatus:
        """Say how it is; never raises."""
        pid = self._process.pid()
        if not pid:
            return PlaneStatus(is_alive=False, detail="the built-in proxy does not run")
        found = self._ask()
        if found is None:
            return PlaneStatus(is_alive=False, pid=pid, detail="the built-in proxy does not answer")
        return PlaneStatus(is_alive=True, pid=pid, revision=found.revision, detail=found.detail)

    def rotate(self, max_bytes: int) -> None:
        """Begin a new access log when this one is larger than ``max_bytes``; loses no line."""
        self._process.rotate(max_bytes, lambda: self._process.tell("/reopen_logs"))

    def stop(self) -> None:
        """Let requests under way end (at most 5 s), then end the process; safe to repeat."""
        self._process.end(self._drain)

    def _drain(self) -> None:
        self._process.tell("/drain_listeners")
        self._process.wait_until_idle(lambda: (found := self._ask()) is None or not found.active)

    def _is_answering(self) -> bool:
        return self._ask() is not None

    def _ask(self) -> BuiltinStatus | None:
        text = self._process.ask("/status")
        if text is None:
            return None
        try:
            return msgspec.json.decode(text, type=BuiltinStatus)
        except msgspec.DecodeError:
            return None
