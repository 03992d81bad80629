"""Makes the database again from the records in the store.

Manifests, releases, channel moves, models, configurations and deployments come from records
alone (``replay`` says which of two claimants counts).  Finished runs come from their manifests.
What has no record (failed and running runs, who ran what where, learning curves, tracked
paths; rollouts with their logs, rollbacks and drills; all that tracking clients wrote) is
carried over from the old database, row by row, each row only if it matches its digest or check;
a rollout only with its whole log, and of tracking nothing whose run or model is lost.

Invariants:
    * SQLite: a new file is made and sealed beside the old one and swapped in by rename, so
      that a crash leaves either database whole.  The old log goes before the rename: SQLite
      would replay it into the new file.  Its generation goes on from the old seal and mark, so
      neither is ever believed about the other file, whichever step a crash comes after.
    * PostgreSQL: all rows change in one transaction.
    * The chunk index is made again from the objects.
    * Rebuilding a sound database gives the same rows.

The caller holds the store's lock exclusively.  Curves that the old database lost come
back from journals: ``RunService.restore_curves``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stemma.catalog import queries
from stemma.catalog import rows as build
from stemma.catalog.delivery_queries import UNRECORDED, insert_records, insert_unrecorded
from stemma.catalog.delivery_rows import configuration_values, deployment_values
from stemma.catalog.replay import Records, load_records
from stemma.catalog.run_rows import insert_runs
from stemma.db.chunk_index import SqlChunkIndex
from stemma.db.engine import Connection, Database, sqlite_path
from stemma.db.mark import mark_path
from stemma.db.rows import Value
from stemma.db.salvage import sound_rows
from stemma.db.schema import count_rows, raise_generation
from stemma.db.seal import known_generation, sidecar_path, sync_folder
from stemma.db.tables import runs, tracked
from stemma.db.tracking_rows import carry_over, drop_damaged, tidy
from stemma.domain.errors import StemmaError
from stemma.store.backends.base import BlobBackend
from stemma.store.index import ChunkLocation, MemoryChunkIndex
from stemma.store.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvage:
    """What the old database still knew that no record says.

    Attributes:
        runs: Sound rows of runs.
        tracked: Sound rows of tracked trees.
        delivery: Sound rows of rollouts, their logs and metrics, and rollbacks, by table.
    """

    runs: list[dict[str, Value]] = field(default_factory=list)
    tracked: list[dict[str, Value]] = field(default_factory=list)
    delivery: dict[str, list[dict[str, Value]]] = field(default_factory=dict)


def rebuild(url: str, backend: BlobBackend) -> dict[str, int]:
    """Make every row again.

    Args:
        url: Where the database is, whatever state it is in.
        backend: Where the objects are.

    Returns:
        How many rows each table has now, ``damaged_records``: records that were left out, and
        ``lost_rollouts``: rollouts whose log was not whole.
    """
    records = load_records(ObjectStore(backend, MemoryChunkIndex()))
    with _opened(url) as old:
        salvage = _salvage(old)
    path = sqlite_path(url)
    if path is None:
        with Database.open(url, may_create=True) as database:
            counts = _fill(database, backend, records, salvage, None)
    else:
        beside = path.with_name(f"{path.name}.rebuild-{os.getpid()}")
        _remove(beside)
        try:
            with Database.open(f"sqlite:///{beside}", may_create=True) as database:
                with database.write() as connection:
                    raise_generation(connection, known_generation(path))
                with _opened(url) as old:
                    counts = _fill(database, backend, records, salvage, old)
            _swap(beside, path)
        finally:
            _remove(beside)
    return {**counts, "damaged_records": len(records.damaged)}


@contextmanager
def _opened(url: str) -> Iterator[Database | None]:
    """Open the old database whatever is wrong with it; ``None`` when it cannot be."""
    try:
        database = Database.open(url, may_create=False, is_salvage=True)
    except StemmaError:
        yield None
        return
    with database:
        yield database


def _salvage(database: Database | None) -> Salvage:
    """Take what can be read of the old database."""
    if database is None:
        return Salvage()
    return Salvage(
        runs=sound_rows(database, runs),
        tracked=sound_rows(database, tracked),
        delivery={table.name: sound_rows(database, table) for table in UNRECORDED},
    )


def _fill(
    database: Database,
    backend: BlobBackend,
    records: Records,
    salvage: Salvage,
    old: Database | None,
) -> dict[str, int]:
    """Write every row, then the chunk index; rows of tracking come from ``old`` or are there."""
    with database.write() as connection:
        queries.delete_everything(connection)
        if old is not None:
            carry_over(old, connection)
        else:
            drop_damaged(connection)
        _write_records(connection, records)
        _write_runs(connection, records, salvage)
        tidy(connection)
        queries.insert_rows(connection, tracked, salvage.tracked)
        lost = insert_unrecorded(connection, salvage.delivery)
    ObjectStore(backend, SqlChunkIndex(database, ChunkLocation)).rebuild_index()
    with database.read() as connection:
        return {**count_rows(connection), "lost_rollouts": lost}


def _write_records(connection: Connection, records: Records) -> None:
    for digest, manifest in sorted(records.manifests.items()):
        queries.insert_manifest(connection, digest, manifest)
    for record, release in sorted(records.releases.items()):
        queries.insert_release(connection, record, release)
    for record, move in sorted(records.moves.items()):
        queries.insert_move(connection, record, move)
    insert_records(
        connection,
        [configuration_values(*pair) for pair in sorted(records.configurations.items())],
        [deployment_values(*pair) for pair in sorted(records.deployments.items())],
    )


def _write_runs(connection: Connection, records: Records, salvage: Salvage) -> None:
    """Write salvaged runs, and for the others what their manifests know."""
    by_id = {str(row["id"]): row for row in salvage.runs}
    for digest, manifest in sorted(records.manifests.items()):
        row = build.run_values(digest, manifest)
        by_id.setdefault(str(row["id"]), row)
    insert_runs(connection, by_id.values())


def _swap(new: Path, path: Path) -> None:
    """Put a closed, sealed database in the place of another; each step leaves one whole."""
    for leftover in (_log(path), _shared_memory(path)):
        leftover.unlink(missing_ok=True)
    sync_folder(path.parent)
    new.replace(path)
    sync_folder(path.parent)
    for place in (sidecar_path, mark_path):
        if place(new).exists():
            place(new).replace(place(path))
    sync_folder(path.parent)


def _remove(path: Path) -> None:
    for leftover in (path, mark_path(path), sidecar_path(path), _log(path), _shared_memory(path)):
        leftover.unlink(missing_ok=True)


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _shared_memory(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")
