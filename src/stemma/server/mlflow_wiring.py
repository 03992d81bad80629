"""Composes the protocol of MLflow for a project that is open."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Final, final

from stemma.hub.local_parts import LocalParts
from stemma.protocols.mlflow.app import Guard, MlflowApplication
from stemma.protocols.mlflow.ports import Services
from stemma.protocols.mlflow.table import ROUTES
from stemma.server.registry_wiring import RegistryBridge
from stemma.server.state_folder import STATE_FOLDER
from stemma.tracking.ingest import Ingest

_SECRET_BYTES: Final = 32


@final
class HubPorts:
    """What the protocol needs of the hub."""

    def __init__(self, parts: LocalParts) -> None:
        """Give what ``parts`` hold."""
        self._parts = parts

    @property
    def registry(self) -> RegistryBridge:
        """Channels and candidates, for the registry."""
        return RegistryBridge(self._parts)

    def writing(self) -> AbstractContextManager[None]:
        """Hold the store shared from the first file put until its row is written."""
        return self._parts.writing()


@contextmanager
def tracking_application(parts: LocalParts, guard: Guard) -> Iterator[MlflowApplication]:
    """Yield the application; at the end, what was handed in is written."""
    with closing(Ingest(parts.database)) as ingest:
        services = Services(
            database=parts.database,
            ingest=ingest,
            objects=parts.objects,
            catalog=parts.catalog,
            clock=parts.clock,
            temporary=parts.root / STATE_FOLDER / "tmp",
            secret=secrets.token_bytes(_SECRET_BYTES),
            ports=HubPorts(parts),
        )
        yield MlflowApplication(services, ROUTES, guard)
