"""Composes the protocol of MLflow for a project that is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Final, final

from stemma.domain.errors import StemmaError
from stemma.hub.local_parts import LocalParts
from stemma.hub.run_telling import tell_runs
from stemma.protocols.mlflow.app import Guard, MlflowApplication
from stemma.protocols.mlflow.gathering import SmallFiles
from stemma.protocols.mlflow.ports import Services
from stemma.protocols.mlflow.signing import load_key
from stemma.protocols.mlflow.table import ROUTES
from stemma.protocols.mlflow.uploads import UploadFolder
from stemma.server.registry_wiring import RegistryBridge
from stemma.server.state_folder import STATE_FOLDER
from stemma.tracking.ingest import Ingest

_KEY_FILE: Final = "addresses.key"


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
    state = parts.root / STATE_FOLDER
    UploadFolder(state / "tmp").remove_expired(parts.clock().timestamp())
    with suppress(StemmaError):  # a damaged row is doctor's affair, and stops no server
        tell_runs(parts)
    ports = HubPorts(parts)
    with (
        closing(Ingest(parts.database)) as ingest,
        closing(SmallFiles(parts.objects, ingest, ports.writing)) as small_files,
    ):
        services = Services(
            database=parts.database,
            ingest=ingest,
            objects=parts.objects,
            small_files=small_files,
            catalog=parts.catalog,
            clock=parts.clock,
            temporary=state / "tmp",
            secret=load_key(state / _KEY_FILE),
            ports=ports,
        )
        yield MlflowApplication(services, ROUTES, guard)
