"""``stemma serve``: one process that keeps production as the database says.

Invariants:
    * One server per project; a second one is refused and touches nothing.
    * A round that fails (a full disk, a busy database) is told and tried again; users go on
      being served meanwhile.
    * When it is killed, data plane and model processes go on; the next server adopts them.
      When it is stopped, they end in order: requests first, then processes.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

from stemma.delivery.layout import ServeLayout
from stemma.delivery.parts import DeliveryParts
from stemma.delivery.planes.base import DataPlane
from stemma.delivery.production.controller import Controller, ControllerParts
from stemma.delivery.production.desired import routed_slots
from stemma.delivery.production.drill_schedule import DrillSchedule
from stemma.delivery.production.readiness import ReadyKeeper
from stemma.delivery.production.validating import BackgroundValidations, DrillGuard
from stemma.delivery.server_file import (
    ServerRecord,
    holder,
    is_server_running,
    read_server,
    server_lock,
    write_server,
)
from stemma.delivery.slots.asked import asked_slots
from stemma.delivery.slots.supervisor import Supervisor
from stemma.domain.errors import StemmaError, UnavailableError
from stemma.hub.local import LocalHub
from stemma.server.chronicle import Chronicle
from stemma.server.control import ControlApplication, ControlServer
from stemma.server.delivery_wiring import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    DeliverySources,
    choose_plane,
    control_socket,
    delivery_sources,
    make_plane,
    make_routes,
    make_supervisor,
)
from stemma.server.mlflow_wiring import tracking_application
from stemma.server.reach import check_reach, make_guard, tracking_address
from stemma.server.scrub import make_scrubber
from stemma.server.state_folder import STATE_FOLDER
from stemma.server.wiring import open_hub

Told = Callable[[str], None]
_LOG: Final = logging.getLogger(__name__)
_ROUND_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 30.0
_LOG_LIMIT_BYTES: Final = 64 * 2**20
_TELLING_SECONDS: Final = 0.3
_HOUSEKEEPING_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How to serve.

    Attributes:
        refs: Versions to deploy first.
        is_stable: Let ``stable`` point at them.
        host: Address to listen on.
        port: Port to listen on.
        plane: ``auto``, ``envoy`` or ``builtin``.
        reason: Why, in the user's words.
    """

    refs: tuple[str, ...] = ()
    is_stable: bool = False
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    plane: str = "auto"
    reason: str = ""


def serve(root: Path, options: ServeOptions, told: Told) -> int:
    """Serve until SIGINT or SIGTERM; returns when everything has ended.

    Args:
        root: The project's folder.
        options: How.
        told: Takes one sentence at each change.

    Returns:
        Number of the signal that ended it.

    Raises:
        ConflictError: If a server runs already, or the port is taken.
        DeniedError: If the host is beyond loopback and there is no token, or a model.
        NotFoundError: If a ref names nothing, or the extra ``serve`` is not installed.
    """
    with closing(open_hub(root)) as hub:
        layout = hub.parts.delivery.layout
        check_reach(hub, options.host, options.refs)
        with server_lock(layout, is_serving=True):
            for ref in options.refs:
                hub.check_deploy(ref, is_stable=options.is_stable)
            record = ServerRecord(
                pid=os.getpid(),
                host=options.host,
                port=options.port,
                plane=choose_plane(options.plane),
                since=hub.parts.clock(),
            )
            _end_other_plane(layout, record)
            with _stop_signals() as stop, Server(hub, record) as server:
                told(f"✓ tracks runs   MLFLOW_TRACKING_URI={tracking_address(record)}")
                # Only now: what is refused above, a port in use too, has changed nothing.
                for ref in options.refs:
                    hub.deploy(ref, is_stable=options.is_stable, reason=options.reason)
                server.run(stop, Chronicle(hub.serving, server.routed, told))
                return stop.number


def stop(root: Path) -> bool:
    """End a server and everything it, or a killed one before it, left running.

    Returns:
        Whether anything ran.

    Raises:
        UnavailableError: If the server does not end.
    """
    layout = ServeLayout(state=root / STATE_FOLDER)
    record = read_server(layout)
    if is_server_running(layout):
        _end_server(layout)
        return True
    if record is None:
        return False
    return _end_leftovers(root, layout, record)


def _end_server(layout: ServeLayout) -> None:
    """Ask the server to end, and wait until it has.

    The lock says which process it is: a file of an earlier server may name another one.
    """
    asked = 0
    end = time.monotonic() + _STOP_SECONDS
    while is_server_running(layout):
        pid = holder(layout)
        if pid and pid != asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            asked = pid
        if time.monotonic() > end:
            raise UnavailableError(
                f"the server (process {asked}) does not end",
                code="server-does-not-end",
                hint=f"kill -9 {asked}, then stemma serve --stop",
            )
        time.sleep(_ROUND_SECONDS)


def _end_leftovers(root: Path, layout: ServeLayout, record: ServerRecord) -> bool:
    """End what a killed server left: adopted first, so that only our own is ended."""
    with closing(open_hub(root)) as hub, server_lock(layout):
        plane = make_plane(layout, record)
        supervisor = make_supervisor(delivery_sources(hub.parts), layout)
        ran = plane.status().is_alive or bool(supervisor.statuses())
        plane.stop()
        supervisor.stop_all()
        return ran


def _end_other_plane(layout: ServeLayout, record: ServerRecord) -> None:
    """End a data plane that a killed server left at another address or of another kind."""
    last = read_server(layout)
    if last is not None and (last.host, last.port, last.plane) != (
        record.host,
        record.port,
        record.plane,
    ):
        make_plane(layout, last).stop()


@final
class Server:
    """Data plane, supervisor, controller and control application of one project."""

    def __init__(self, hub: LocalHub, record: ServerRecord) -> None:
        """Compose; nothing starts before the ``with`` block."""
        self._hub = hub
        self._record = record
        self._parts: DeliveryParts = hub.parts.delivery
        self._sources: DeliverySources = delivery_sources(hub.parts)
        self._plane: DataPlane = make_plane(self._parts.layout, record)
        self._stack = ExitStack()

    def __enter__(self) -> Server:
        """Start, or adopt what a killed server left."""
        with ExitStack() as stack:
            layout = self._parts.layout
            self._plane.start()
            stack.callback(self._plane.stop)
            write_server(layout, self._record)
            self._parts.end_staging()
            supervisor = make_supervisor(self._sources, layout)
            stack.callback(supervisor.stop_all)
            routes = make_routes(layout, self._plane)
            routes.republish()
            guard = make_guard(self._hub.parts, self._record.host)
            application = ControlApplication(
                self._parts.service,
                self._hub.serving,
                guard=guard,
                tracking=stack.enter_context(tracking_application(self._hub.parts, guard)),
            )
            control = ControlServer(application, control_socket(layout))
            control.start()
            stack.callback(control.stop)
            validations = BackgroundValidations(self._hub.stage_rollout)
            stack.callback(validations.close)
            stack.callback(self._parts.cancelled.set)
            self._keeper = ReadyKeeper(self._parts.preparer)
            stack.callback(self._keeper.close)
            self._drills = self._make_drill_schedule()
            stack.callback(self._drills.close)
            self._scrubber = make_scrubber(self._hub)
            stack.callback(self._scrubber.close)
            self._controller = self._make_controller(supervisor, validations)
            self._scrubber.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End what was started: a drill under way first, then requests, then processes."""
        self._drills.close()
        self._plane.stop()
        self._stack.close()

    def run(self, stop: threading.Event, chronicle: Chronicle) -> None:
        """Do rounds until ``stop`` is set."""
        next_housekeeping = next_telling = 0.0
        while not stop.is_set():
            try:
                self._controller.tick()
                if self._controller.keep_plane():
                    chronicle.note(
                        "the data plane was gone; it is started again, and users are served"
                    )
                if time.monotonic() > next_telling:
                    next_telling = time.monotonic() + _TELLING_SECONDS
                    chronicle.tell()
                if time.monotonic() > next_housekeeping:
                    next_housekeeping = time.monotonic() + _HOUSEKEEPING_SECONDS
                    self._keep_house(chronicle)
            except StemmaError as error:
                chronicle.complain(error.message)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end serving
                _LOG.exception("a round failed")
                chronicle.complain(f"a fault in stemma: {type(error).__name__}: {error}")
            stop.wait(_ROUND_SECONDS)

    def routed(self) -> frozenset[str]:
        """Return the slots that requests are sent to."""
        return routed_slots(make_routes(self._parts.layout, self._plane).current().models)

    def _keep_house(self, chronicle: Chronicle) -> None:
        self._plane.rotate(_LOG_LIMIT_BYTES)
        desires = self._parts.reader.read()
        for problem in (self._keeper.keep(desires), self._drills.keep(desires)):
            if problem:
                chronicle.complain(problem)
        is_busy = any(desire.rollout is not None for desire in desires)
        for sentence in self._scrubber.keep(is_busy=is_busy):
            chronicle.note(sentence)

    def _make_drill_schedule(self) -> DrillSchedule:
        return DrillSchedule(
            self._parts.service.last_drill,
            lambda model: self._hub.rollback(model, _LOG.info, is_drill=True),
            self._sources.clock,
        )

    def _make_controller(
        self, supervisor: Supervisor, validations: BackgroundValidations
    ) -> Controller:
        parts = self._parts
        return Controller(
            ControllerParts(
                service=parts.service,
                reader=parts.reader,
                supervisor=supervisor,
                plane=self._plane,
                routes=make_routes(parts.layout, self._plane),
                validations=validations,
                promotion_guard=DrillGuard(parts.service, self._sources.clock),
                clock=self._sources.clock,
                asked=partial(asked_slots, parts.layout),
            )
        )


@final
class Stop(threading.Event):
    """Set by the signal that is to end the server.

    Attributes:
        number: Number of that signal; 0 before.
    """

    def __init__(self) -> None:
        """Wait for a signal."""
        super().__init__()
        self.number = 0


@contextmanager
def _stop_signals() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into an event while the block runs."""
    stop = Stop()

    def ask(number: int, _: object) -> None:
        stop.number = number
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
