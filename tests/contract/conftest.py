"""Databases of both kinds, a clock, and small manifests for the contract suites of rows."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from alembic import command
from sqlalchemy import column, insert, inspect
from sqlalchemy import table as sa_table

from stemma.catalog.service import CatalogService
from stemma.db.chunk_index import SqlChunkIndex
from stemma.db.columns import metadata
from stemma.db.engine import Database
from stemma.db.migrations.upgrade import configuration
from stemma.db.rows import row_digest, sealed_columns
from stemma.db.tables import alembic_version, runs
from stemma.delivery.records.service import DeliveryService
from stemma.domain.component import (
    ArchitectureComponent,
    ArtifactComponent,
    DatasetsComponent,
    Environment,
    HyperparametersComponent,
    PipelineComponent,
)
from stemma.domain.configuration import Configuration
from stemma.domain.digest import Digest
from stemma.domain.manifest import Evidence, Manifest, Metric, Provenance
from stemma.domain.release import Release
from stemma.domain.rollout import Deployed, Rollout, RolloutId, RolloutPlan, RolloutState
from stemma.domain.run import RunId, RunStart
from stemma.domain.verdict import Level
from stemma.store.backends.local import LocalBackend
from stemma.store.index import ChunkLocation
from stemma.store.objects import ObjectStore
from stemma.tracking.service import RunService

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass
class FakeClock:
    """A clock that goes on by one second each time it is asked."""

    now: datetime = START
    step: timedelta = field(default=timedelta(seconds=1))

    def __call__(self) -> datetime:
        """Return the moment, and go on."""
        self.now += self.step
        return self.now


@dataclass
class Project:
    """A database, a store and the services on them."""

    url: str
    folder: Path
    clock: FakeClock

    def __post_init__(self) -> None:
        """Open everything."""
        self.open()

    def open(self) -> None:
        """Open everything again, as the next command would."""
        self.database = Database.open(self.url, may_create=True)
        self.backend = LocalBackend(self.folder / "objects")
        self.objects = ObjectStore(self.backend, SqlChunkIndex(self.database, ChunkLocation))
        self.catalog = CatalogService(self.database, self.objects, clock=self.clock)
        self.delivery = DeliveryService(self.database, self.objects, self.catalog, clock=self.clock)
        self.runs = RunService(
            self.database, clock=self.clock, journal_folder=self.folder / "journal"
        )

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def record(self, seed: int, model: str = "digits", **fields: object) -> tuple[RunId, Digest]:
        """Record a finished run."""
        run = self.runs.start(RunStart(model=model, command=("python", "train.py")))
        made = manifest(model, seed, run=run, ended_at=self.clock(), **fields)
        digest = self.catalog.register(made)
        self.runs.finish(run, digest)
        return run, digest

    def release(self, version: str, digest: Digest, model: str = "digits") -> Release:
        """Append a release after the newest."""
        last = self.catalog.last_release(model, include_prereleases=True)
        release = Release(
            model=model,
            version=version,
            manifest=digest,
            sequence=1 if last is None else last.sequence + 1,
            previous=None if last is None else self.catalog.release_digest(model, last.version),
            level=Level.PATCH,
            message=f"release {version}",
            released_at=self.clock(),
            released_by="ada",
        )
        self.catalog.append_release(release)
        return release

    def released(
        self, version: str, configuration: Configuration | None = None, model: str = "digits"
    ) -> Deployed:
        """Record and release a version, and return it as it would be served."""
        _, digest = self.record(sum(version.encode()), model)
        self.release(version, digest, model)
        put = self.delivery.put_configuration(model, configuration or Configuration(), by="ada")
        return Deployed(version=version, manifest=str(digest), configuration=put.digest)

    def serve(self, version: str, model: str = "digits") -> Deployed:
        """Release a version and let it serve as stable."""
        deployed = self.released(version, model=model)
        self.delivery.deploy(
            model, deployed, kind="serve", by="ada", reason="first", moves_stable=True
        )
        return deployed

    def rollout(self, stable: Deployed, canary: Deployed, number: int = 1) -> Rollout:
        """Return a rollout that has not begun."""
        return Rollout(
            id=RolloutId(f"ro-{number:08x}"),
            model="digits",
            canary=canary,
            stable=stable,
            plan=RolloutPlan(),
            state=RolloutState.VALIDATING,
            started_at=self.clock(),
            started_by="ada",
        )


def digest_of(text: str) -> Digest:
    """Return some blake3 digest."""
    return Digest.blake3(hashlib.sha256(text.encode()).hexdigest())


def manifest(
    model: str,
    seed: int,
    *,
    run: str = "r-00000000",
    ended_at: datetime = START,
    parents: tuple[Digest, ...] = (),
) -> Manifest:
    """Return a small manifest."""
    part = digest_of(f"{model} {seed}")
    return Manifest(
        model=model,
        architecture=ArchitectureComponent(
            identity=part, content=part, family="linear", summary="linear"
        ),
        datasets=DatasetsComponent(identity=part),
        pipeline=PipelineComponent(identity=part, content=part, command=("python", "train.py")),
        hyperparameters=HyperparametersComponent(identity=part, content=part),
        artifact=ArtifactComponent(identity=part, content=part, size_bytes=1000 + seed),
        environment=Environment(identity=part, lock=part, python="3.11.7", platform="linux-x86_64"),
        evidence=Evidence(
            metrics=(
                Metric(name="accuracy", value=repr(0.5 + seed / 100_000), sample_size=360),
                Metric(name="recall", value="0.9", slice="class=8"),
            )
        ),
        provenance=Provenance(
            run=run, started_at=START, ended_at=ended_at, created_by="ada", parents=parents
        ),
        metadata={"owner": "ada"},
    )


_names = itertools.count(1)


def make_postgres_database(server: str) -> str:
    """Make an empty database and return its URL."""
    name = f"stemma_{next(_names)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/stemma.db"
    return make_postgres_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def project(database_url: str, tmp_path: Path) -> Iterator[Project]:
    """Return an empty project on each kind of database."""
    opened = Project(database_url, tmp_path, FakeClock())
    yield opened
    opened.close()


@pytest.fixture
def sqlite_project(tmp_path: Path) -> Iterator[Project]:
    """Return an empty project on SQLite."""
    opened = Project(f"sqlite:///{tmp_path}/stemma.db", tmp_path, FakeClock())
    yield opened
    opened.close()


@pytest.fixture
def make_manifest() -> Callable[..., Manifest]:
    """Return the maker of small manifests."""
    return manifest


@pytest.fixture
def make_old() -> Callable[[Database], None]:
    """Turn a database of today into the one that 0.1 made of the same rows."""
    return _make_old


def _make_old(database: Database) -> None:
    newer = {"experiment", "name", "deleted_at"}
    with database.write() as connection:
        rows = {
            table.name: [dict(row) for row in connection.execute(table.select()).mappings()]
            for table in metadata.sorted_tables
        }
        for table in (*reversed(metadata.sorted_tables), alembic_version):
            table.drop(connection)
        command.upgrade(configuration(connection), "0001")
        for name in set(inspect(connection).get_table_names()) & rows.keys():
            kept = rows[name]
            if name == "runs":
                kept = [{key: run[key] for key in run.keys() - newer} for run in kept]
                for run in kept:
                    ordered = [run[key] for key in sealed_columns(runs) if key not in newer]
                    run["row_digest"] = row_digest("runs", ordered)
            if kept:
                names = list(kept[0])
                connection.execute(insert(sa_table(name, *map(column, names))), kept)
