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
from stemma.domain.logged_model import LoggedModelState
from stemma.domain.run import RunStart, RunState
from stemma.hub.local import LocalHub
from stemma.protocols.mlflow.app import MlflowApplication
from stemma.protocols.mlflow.gathering import SmallFiles
from stemma.protocols.mlflow.ports import Services
from stemma.protocols.mlflow.table import ROUTES
from stemma.server.mlflow_wiring import HubPorts
from stemma.server.wiring import init_project, open_hub
from stemma.store.backends.local import LocalBackend
from stemma.store.index import ChunkLocation
from stemma.store.locks import StoreLock
from stemma.store.objects import ObjectStore
from stemma.tracking import logged_models, run_log
from stemma.tracking.ingest import Ingest
from stemma.tracking.logged_models import NewLoggedModel

_MODELS = Path(__file__).parents[2] / "hub" / "mlflow_models"
"""Models that MLflow 3.17 saved."""


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


def _objects(database: Database, folder: Path) -> ObjectStore:
    return ObjectStore(LocalBackend(folder / "objects"), SqlChunkIndex(database, ChunkLocation))


def _small_files(database: Database, folder: Path, ingest: Ingest) -> SmallFiles:
    return SmallFiles(_objects(database, folder), ingest, StoreLock(folder).shared)


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Asker]:
    """Return who asks the application of an empty project."""
    clock = Clock()
    folder = tmp_path / ".stemma"
    folder.mkdir()
    with (
        Database.open(f"sqlite:///{folder}/stemma.db", may_create=True) as database,
        closing(Ingest(database)) as ingest,
        closing(_small_files(database, folder, ingest)) as small_files,
    ):
        objects = _objects(database, folder)
        services = Services(
            database=database,
            ingest=ingest,
            objects=objects,
            small_files=small_files,
            catalog=CatalogService(database, objects, clock=clock),
            clock=clock,
            temporary=folder / "tmp",
            secret=b"secret",
            ports=LockPort(StoreLock(folder)),
        )
        yield Asker(folder, services, clock)


@dataclass(frozen=True)
class HubAsker:
    """Who asks the application of a whole project.

    Attributes:
        ask: Sends requests.
        hub: The project's hub.
    """

    ask: Asker
    hub: LocalHub

    def log_model(self, folder: str, name: str = "model", **params: str) -> tuple[str, str]:
        """Log a model in a run of its own, as MLflow's client does; returns run and model."""
        run = self.ask.make_run()
        with self.ask.services.database.write() as connection:
            run_log.log_batch(connection, run, params=params)
            new = NewLoggedModel(experiment=0, run=run, name=name)
            model = logged_models.create(connection, new, self.ask.clock()).id
        for file in sorted((_MODELS / folder).iterdir()):
            url = f"/api/2.0/mlflow-artifacts/artifacts/0/models/{model}/artifacts/{file.name}"
            assert self.ask("PUT", url, file.read_bytes()).status == 200
        with self.ask.services.database.write() as connection:
            logged_models.finish(connection, model, LoggedModelState.READY, self.ask.clock())
            moment = self.ask.clock()
            run_log.update(connection, run, state=RunState.FINISHED, ended_at=moment)
        return run, model

    def register(self, folder: str, name: str = "Clf", **params: str) -> str:
        """Log a model and register it; returns the run."""
        run, model = self.log_model(folder, **params)
        fields = {"name": name, "source": f"models:/{model}", "run_id": run, "model_id": model}
        self.ask("POST", "/api/2.0/mlflow/registered-models/create", {"name": name})
        assert self.ask("POST", "/api/2.0/mlflow/model-versions/create", fields).status == 200
        return run


@pytest.fixture
def project(tmp_path: Path) -> Iterator[HubAsker]:
    """Return who asks the application of a whole project, beside its hub."""
    init_project(tmp_path)
    with (
        closing(open_hub(tmp_path)) as hub,
        closing(Ingest(hub.parts.database)) as ingest,
        closing(SmallFiles(hub.parts.objects, ingest, hub.parts.writing)) as small_files,
    ):
        parts, clock = hub.parts, Clock(datetime.now(UTC))
        services = Services(
            database=parts.database,
            ingest=ingest,
            objects=parts.objects,
            small_files=small_files,
            catalog=parts.catalog,
            clock=clock,
            temporary=tmp_path / ".stemma" / "tmp",
            secret=b"secret",
            ports=HubPorts(parts),
        )
        yield HubAsker(Asker(tmp_path / ".stemma", services, clock), hub)
