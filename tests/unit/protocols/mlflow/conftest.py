"""The tracking protocol without a network: an application on real services, and who asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from stemma.catalog.service import CatalogService
from stemma.db.chunk_index import SqlChunkIndex
from stemma.db.engine import Database
from stemma.domain.run import RunStart
from stemma.protocols.mlflow.app import MlflowApplication
from stemma.protocols.mlflow.ports import Services
from stemma.protocols.mlflow.table import ROUTES
from stemma.store.backends.local import LocalBackend
from stemma.store.index import ChunkLocation
from stemma.store.locks import StoreLock
from stemma.store.objects import ObjectStore
from stemma.tracking import run_log
from stemma.tracking.ingest import Ingest


@dataclass
class Clock:
    """A clock that stands still until somebody sets it."""

    now: datetime = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the moment."""
        return self.now


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


@dataclass
class Asker:
    """Calls the application as a server would.

    Attributes:
        folder: The project's state folder.
        services: What the application answers from.
        clock: The clock it sees.
    """

    folder: Path
    services: Services
    clock: Clock
    application: MlflowApplication = field(init=False)

    def __post_init__(self) -> None:
        """Make the application."""
        self.application = MlflowApplication(self.services, ROUTES)

    def __call__(self, method: str, url: str, body: Any = b"", **headers: str) -> Answer:
        """Send a request; a dict or list is sent as JSON."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("content_type", "application/json")
        return self.send(method, url, [body], headers)

    def send(
        self, method: str, url: str, parts: list[bytes | None], headers: dict[str, str]
    ) -> Answer:
        """Send a request in parts; ``None`` hangs up."""
        return asyncio.run(self._send(method, url, parts, headers))

    async def _send(
        self, method: str, url: str, parts: list[bytes | None], headers: dict[str, str]
    ) -> Answer:
        target = urlsplit(url)
        sent: list[Any] = []
        pairs = {"host": "127.0.0.1:5000", **headers}
        if None not in parts:
            size_bytes = sum(len(part) for part in parts if part)
            pairs.setdefault("content-length", str(size_bytes))
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(target.path, errors="replace"),
            "raw_path": target.path.encode(),
            "query_string": target.query.encode(),
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in pairs.items()
            ],
        }
        arriving = _events(parts)

        async def send(event: Any) -> None:
            sent.append(event)

        await self.application(scope, arriving.__anext__, send)
        start = sent[0] if sent else {"status": 0, "headers": []}
        return Answer(
            status=start["status"],
            headers={name.decode(): value.decode() for name, value in start["headers"]},
            body=b"".join(event.get("body", b"") for event in sent[1:]),
        )

    def make_run(self) -> str:
        """Make a run in the default experiment."""
        with self.services.database.write() as connection:
            made = run_log.create_run(
                connection, RunStart(model=""), started_at=self.clock(), now=self.clock()
            )
        return made.record.id

    def make_model(self, name: str = "clf") -> str:
        """Make a logged model in the default experiment."""
        answer = self("POST", "/api/2.0/mlflow/logged-models", {"experiment_id": "0", "name": name})
        made: str = answer.json["model"]["info"]["model_id"]
        return made


async def _events(parts: list[bytes | None]) -> AsyncIterator[dict[str, object]]:
    for number, part in enumerate(parts, start=1):
        if part is None:
            yield {"type": "http.disconnect"}
        else:
            yield {"type": "http.request", "body": part, "more_body": number < len(parts)}


@dataclass(frozen=True)
class LockPort:
    """The hub's part for the protocol."""

    lock: StoreLock

    def writing(self) -> Any:
        """Hold the store shared."""
        return self.lock.shared()


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Asker]:
    """Return who asks the application of an empty project."""
    clock = Clock()
    folder = tmp_path / ".stemma"
    folder.mkdir()
    with (
        Database.open(f"sqlite:///{folder}/stemma.db", may_create=True) as database,
        closing(Ingest(database)) as ingest,
    ):
        objects = ObjectStore(
            LocalBackend(folder / "objects"), SqlChunkIndex(database, ChunkLocation)
        )
        services = Services(
            database=database,
            ingest=ingest,
            objects=objects,
            catalog=CatalogService(database, objects, clock=clock),
            clock=clock,
            temporary=folder / "tmp",
            secret=b"secret",
            ports=LockPort(StoreLock(folder)),
        )
        yield Asker(folder, services, clock)
