"""What the handlers need from outside, and what they are handed.

Invariants:
    * Whatever needs the hub is a Protocol here; ``server.mlflow_wiring`` implements it.
    * Reads run in a worker thread, each on one snapshot; writes go through group commit and are
      durable when they return.

It holds no rule of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

import anyio.to_thread

from stemma.catalog.service import CatalogService
from stemma.db.engine import Connection, Database
from stemma.domain.registry import ModelVersion, RegisteredModel
from stemma.protocols.mlflow.gathering import SmallFiles
from stemma.store.objects import ObjectStore
from stemma.tracking.ingest import Ingest

ResultT = TypeVar("ResultT")


class RegistryPort(Protocol):
    """What the registry needs of the hub."""

    def point(self, model: RegisteredModel, alias: str, version: ModelVersion, by: str) -> None:
        """Let a channel of the catalog point at a version, released or not.

        Raises:
            ConflictError: If the channel is ``stable`` and the version is not released.
            InvalidInputError: If no channel may be called that, or the files cannot be adopted.
        """
        ...

    def expose(self, version: ModelVersion) -> None:
        """Let clients load a release that Stemma recorded, where they can at all."""
        ...

    def drop(self, model: RegisteredModel, alias: str, by: str) -> None:
        """Remove a channel of the catalog; its history stays, and none is fine."""
        ...


class Ports(Protocol):
    """What only the composition root can give."""

    @property
    def registry(self) -> RegistryPort:
        """What the registry needs of the hub."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Hold the store shared from the first file put until the row that names it is written.

        Raises:
            LockedError: If garbage collection holds it for longer than the timeout.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What every handler works with.

    Attributes:
        database: Rows, for reading.
        ingest: Group commit, for writing.
        objects: Content store.
        small_files: Stores small files together.
        catalog: Versions, releases and channels.
        clock: Aware current time.
        temporary: Folder for files under way, on the disk of the store.
        secret: Signs the addresses that are given out.
        ports: What the hub does for the protocol.
    """

    database: Database
    ingest: Ingest
    objects: ObjectStore
    small_files: SmallFiles
    catalog: CatalogService
    clock: Callable[[], datetime]
    temporary: Path
    secret: bytes
    ports: Ports

    async def read(self, verb: Callable[[Connection], ResultT]) -> ResultT:
        """Return what ``verb`` reads, on one snapshot, in a worker thread."""
        return await anyio.to_thread.run_sync(self._read, verb)

    async def write(self, verb: Callable[[Connection], ResultT]) -> ResultT:
        """Return what ``verb`` returns, once it is durable; it may be carried out twice."""
        return await asyncio.wrap_future(self.ingest.submit(verb))

    def _read(self, verb: Callable[[Connection], ResultT]) -> ResultT:
        with self.database.read() as connection:
            return verb(connection)
