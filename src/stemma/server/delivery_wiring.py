"""Composes delivery: which data plane, which folders, which supervisor.

Imported only when a verb that moves traffic is used: it brings HTTP and process parts that
most commands do without.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from stemma.catalog.service import CatalogService
from stemma.db.engine import Database
from stemma.delivery.layout import ServeLayout
from stemma.delivery.parts import DeliveryParts
from stemma.delivery.planes.base import DataPlane
from stemma.delivery.planes.builtin import BuiltinPlane
from stemma.delivery.planes.envoy import EnvoyPlane, envoy_binary
from stemma.delivery.planes.paths import EVERY_HOST
from stemma.delivery.production.reading import DesireReader
from stemma.delivery.production.routes import RoutePublisher
from stemma.delivery.records.service import DeliveryService
from stemma.delivery.recovery.asking import GoldenQuestion
from stemma.delivery.recovery.drill import DrillParts
from stemma.delivery.recovery.rollback import RollbackParts
from stemma.delivery.server_file import ServerRecord, is_server_running, read_server
from stemma.delivery.slots.launching import Launcher
from stemma.delivery.slots.preparing import Preparer
from stemma.delivery.slots.sockets import socket_paths
from stemma.delivery.slots.starting import OwnSlots, ServerSlots, is_answering
from stemma.delivery.slots.supervisor import Supervisor
from stemma.delivery.staging.machine import probe_hardware
from stemma.delivery.staging.run import StagingParts, end_left_behind, run_staging
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.manifest import Manifest
from stemma.hub.local_parts import LocalParts
from stemma.server.state_folder import STATE_FOLDER
from stemma.server.tracking_only import TrackingOnlyPlane, is_loopback
from stemma.store.objects import ObjectStore

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8700
ANY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
PLANES: Final = ("auto", "envoy", "builtin")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySources:
    """What delivery is composed from.

    Attributes:
        state: The project's ``.stemma`` folder.
        database: Rows.
        objects: Content store.
        catalog: Versions and channels.
        clock: Aware current time.
        may_use_network: Whether environments may be fetched from the package index.
    """

    state: Path
    database: Database
    objects: ObjectStore
    catalog: CatalogService
    clock: Callable[[], datetime]
    may_use_network: bool

    def load_manifest(self, digest: str) -> Manifest:
        """Return the manifest of that digest, verified."""
        return self.catalog.manifest(Digest.parse(digest))


def delivery_sources(parts: LocalParts) -> DeliverySources:
    """Return what delivery is composed from in a project that is open."""
    return DeliverySources(
        state=parts.root / STATE_FOLDER,
        database=parts.database,
        objects=parts.objects,
        catalog=parts.catalog,
        clock=parts.clock,
        may_use_network=parts.may_use_network,
    )


def choose_plane(asked: str) -> str:
    """Return ``envoy`` or ``builtin``.

    Raises:
        InvalidInputError: If ``asked`` is no data plane.
        NotFoundError: If Envoy was asked for and there is none.
    """
    if asked not in PLANES:
        raise InvalidInputError(
            f"no data plane {asked!r}", code="bad-plane", hint=f"one of {', '.join(PLANES)}"
        )
    if asked == "builtin":
        return asked
    try:
        envoy_binary()
    except NotFoundError:
        if asked == "envoy":
            raise
        return "builtin"
    return "envoy"


def make_plane(layout: ServeLayout, record: ServerRecord) -> DataPlane:
    """Return a handle on the data plane that a record names; starts nothing."""
    kind = BuiltinPlane if record.plane == "builtin" else EnvoyPlane
    plane = kind(
        layout.plane,
        record.host,
        record.port,
        sockets=layout.sockets(),
        allowed_hosts=(EVERY_HOST,) if record.host in ANY_ADDRESS else (),
    )
    return plane if is_loopback(record.host) else TrackingOnlyPlane(plane)


def make_supervisor(sources: DeliverySources, layout: ServeLayout) -> Supervisor:
    """Return a supervisor of the slots in ``layout``; it adopts what runs there."""
    launcher = Launcher(
        objects=sources.objects,
        layout=layout,
        load_manifest=sources.load_manifest,
        is_offline=not sources.may_use_network,
    )
    return Supervisor(layout, launcher.prepare, sources.clock)


def make_routes(layout: ServeLayout, plane: DataPlane) -> RoutePublisher:
    """Return the publisher of routes to ``plane``."""
    return RoutePublisher(layout, plane, partial(socket_paths, layout), str(control_socket(layout)))


def control_socket(layout: ServeLayout) -> Path:
    """Return where the control application listens."""
    return layout.sockets() / "control.sock"


def compose_delivery(sources: DeliverySources) -> DeliveryParts:
    """Compose delivery of one project."""
    layout = ServeLayout(state=sources.state)
    service = DeliveryService(
        sources.database, sources.objects, sources.catalog, clock=sources.clock
    )
    cancelled = threading.Event()
    staging = _staging_parts(sources, layout, cancelled)
    parts = DeliveryParts(
        service=service,
        reader=DesireReader(service, sources.catalog, sources.database.generation),
        layout=layout,
        preparer=Preparer(
            objects=sources.objects,
            layout=layout,
            load_manifest=sources.load_manifest,
            is_offline=not sources.may_use_network,
        ),
        plane=lambda: make_plane(layout, _last_server(layout, sources.clock)),
        rollback_parts=lambda: _rollback_parts(sources, parts),
        drill_parts=lambda: _drill_parts(sources, parts),
        stage=partial(run_staging, staging),
        end_staging=partial(end_left_behind, staging),
        cancelled=cancelled,
    )
    return parts


def _staging_parts(
    sources: DeliverySources, layout: ServeLayout, cancelled: threading.Event
) -> StagingParts:
    return StagingParts(
        objects=sources.objects,
        load_manifest=sources.load_manifest,
        layout=layout,
        open_slots=partial(make_supervisor, sources),
        probe_hardware=probe_hardware,
        clock=sources.clock,
        is_cancelled=cancelled.is_set,
    )


def _last_server(layout: ServeLayout, clock: Callable[[], datetime]) -> ServerRecord:
    found = read_server(layout)
    return found or ServerRecord(
        pid=0,
        host=DEFAULT_HOST,
        port=DEFAULT_PORT,
        plane=choose_plane("auto"),
        since=clock(),
    )


@contextmanager
def _rollback_parts(sources: DeliverySources, parts: DeliveryParts) -> Iterator[RollbackParts]:
    plane = parts.plane()
    slots: ServerSlots | OwnSlots = ServerSlots(parts.layout)
    if not is_server_running(parts.layout):
        slots = OwnSlots(make_supervisor(sources, parts.layout))
    with closing(slots):
        yield RollbackParts(
            service=parts.service,
            reader=parts.reader,
            routes=make_routes(parts.layout, plane),
            plane=plane,
            preparer=parts.preparer,
            starter=slots,
            is_answering=is_answering,
            ask_golden=_question(sources, parts.layout, parts.layout).ask,
            clock=sources.clock,
        )


@contextmanager
def _drill_parts(sources: DeliverySources, parts: DeliveryParts) -> Iterator[DrillParts]:
    layout = replace(parts.layout, folder=f"{parts.layout.folder}/drill")
    plane = parts.plane()
    supervisor = make_supervisor(replace(sources, may_use_network=False), layout)
    try:
        yield DrillParts(
            service=parts.service,
            reader=parts.reader,
            routes=make_routes(parts.layout, plane),
            plane=plane,
            production=ServerSlots(parts.layout),
            layout=layout,
            preparer=replace(parts.preparer, layout=layout, is_offline=True),
            supervisor=supervisor,
            ask_golden=_question(sources, parts.layout, layout).ask,
            clock=sources.clock,
        )
    finally:
        supervisor.stop_all()
        supervisor.close()


def _question(
    sources: DeliverySources, served: ServeLayout, versions: ServeLayout
) -> GoldenQuestion:
    record = _last_server(served, sources.clock)
    return GoldenQuestion(
        address=(record.host, record.port), layout=versions, load_manifest=sources.load_manifest
    )
