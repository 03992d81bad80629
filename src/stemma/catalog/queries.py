"""All the SQL of versions, releases, channels and tracked trees.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * A list of releases has no gap in its sequences: a row that no longer turns up is
      an ``IntegrityError``, not a shorter list.
    * A function takes the connection of its caller's transaction and opens none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, and_, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from stemma.catalog import rows as build
from stemma.catalog.adopted import let_go
from stemma.db.forgetting import forget_runs
from stemma.db.rows import REBUILD_HINT, Value, check, check_all, check_part, seal
from stemma.db.schema import SEALED_TABLES, TRACKING_TABLES
from stemma.db.tables import (
    channel_moves,
    manifest_metrics,
    manifests,
    meta,
    models,
    releases,
    runs,
    tracked,
)
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.domain.manifest import Manifest, Metric
from stemma.domain.release import ChannelMove, Release
from stemma.domain.run import RunId, RunState
from stemma.domain.verdict import Level

_BATCH_SIZE: Final = 500
_SCAN_SIZE: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One release as ``log`` lists it.

    Attributes:
        sequence: Counts releases of the model from 1.
        version: SemVer text.
        level: Level applied.
        why: The verdict in one sentence; ``first version`` for the first.
        metric: The asked metric; ``None`` when not measured or not asked.
        released_at: When.
        released_by: Who.
        message: The releaser's message.
        manifest: sha256 of the manifest.
        size_bytes: Size of the artifact's files.
    """

    sequence: int
    version: str
    level: Level
    why: str
    metric: Metric | None
    released_at: datetime
    released_by: str
    message: str
    manifest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRow:
    """What the index says of a release.

    Attributes:
        record: sha256 of the release record.
        version: SemVer text.
        sequence: Counts releases of the model from 1.
        is_prerelease: Whether the number is a pre-release.
        manifest: sha256 of the manifest.
        values: The whole row without its digest, by column.
    """

    record: Digest
    version: str
    sequence: int
    is_prerelease: bool
    manifest: Digest
    values: dict[str, Value]


# versions -----------------------------------------------------------------------------------


def insert_manifest(connection: Connection, digest: Digest, manifest: Manifest) -> None:
    """Add a manifest's rows; those that are there stay."""
    _insert_new(connection, models, [{"name": manifest.model}])
    _insert_new(connection, manifests, [build.manifest_values(digest, manifest)])
    _insert_new(connection, manifest_metrics, build.metric_values(digest, manifest))


def find_manifest(connection: Connection, digest: Digest) -> dict[str, Value] | None:
    """Return a manifest's row."""
    query = select(manifests).where(manifests.c.digest == str(digest))
    row = connection.execute(query).one_or_none()
    return None if row is None else plain(manifests, check(manifests, row))


def find_metrics(connection: Connection, digest: Digest) -> list[dict[str, Value]]:
    """Return a manifest's metric rows, by key."""
    query = select(manifest_metrics).where(manifest_metrics.c.manifest == str(digest))
    found = check_all(manifest_metrics, connection.execute(query))
    return sorted((plain(manifest_metrics, row) for row in found), key=lambda row: str(row["key"]))


def manifests_of(connection: Connection, model: str) -> list[dict[str, Value]]:
    """Return the manifest rows of a model (of every model when empty), newest first."""
    query = select(manifests).order_by(manifests.c.created_at.desc(), manifests.c.digest)
    if model:
        query = query.where(manifests.c.model == model)
    return [plain(manifests, row) for row in check_all(manifests, connection.execute(query))]


def manifests_by_prefix(
    connection: Connection, model: str, hex_prefix: str, limit: int
) -> list[dict[str, Value]]:
    """Return the manifest rows of a model whose digest begins so."""
    query = select(manifests).where(
        manifests.c.model == model,
        manifests.c.digest.startswith(f"sha256:{hex_prefix}", autoescape=True),
    )
    found = check_all(
        manifests, connection.execute(query.order_by(manifests.c.digest).limit(limit))
    )
    return [plain(manifests, row) for row in found]


def model_names(connection: Connection) -> list[str]:
    """Return every model's name, sorted."""
    names = sorted(row.name for row in check_all(models, connection.execute(select(models))))
    named = set(connection.execute(select(manifests.c.model).distinct()).scalars())
    if not named <= set(names):
        raise missing_row(f"models: {', '.join(sorted(map(str, named - set(names))))}")
    return names


# runs, as far as refs and garbage collection need them --------------------------------------


def runs_by_prefix(
    connection: Connection, model: str, prefix: str, limit: int
) -> list[dict[str, Value]]:
    """Return the run rows of a model whose id begins so."""
    query = select(runs).where(runs.c.model == model, runs.c.id.startswith(prefix, autoescape=True))
    found = check_all(runs, connection.execute(query.order_by(runs.c.id).limit(limit)))
    return [plain(runs, row) for row in found]


def newest_run(connection: Connection, model: str) -> RunId | None:
    """Return the id of the model's newest run that is not deleted."""
    query = select(runs).where(runs.c.model == model, runs.c.deleted_at.is_(None))
    query = query.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else RunId(check(runs, row).id)


def running_run_ids(connection: Connection) -> list[str]:
    """Return the ids of runs that have not been closed."""
    query = select(runs).where(runs.c.state == RunState.RUNNING.value)
    return [row.id for row in check_all(runs, connection.execute(query))]


def delete_candidates(connection: Connection, digests: Sequence[str]) -> None:
    """Forget candidates: their manifests' rows, their runs and curves, and a model left empty."""
    for start in range(0, len(digests), _BATCH_SIZE):
        batch = digests[start : start + _BATCH_SIZE]
        let_go(connection, batch)
        forget_runs(connection, select(runs.c.id).where(runs.c.manifest.in_(batch)))
        connection.execute(delete(manifest_metrics).where(manifest_metrics.c.manifest.in_(batch)))
        connection.execute(delete(manifests).where(manifests.c.digest.in_(batch)))
    if digests:
        # No record would say that a model exists of which nothing is left.
        connection.execute(delete(models).where(models.c.name.not_in(select(manifests.c.model))))


# releases -----------------------------------------------------------------------------------


def insert_release(connection: Connection, record: Digest, release: Release) -> None:
    """Add a release's row."""
    connection.execute(
        insert(releases).values(seal(releases, build.release_values(record, release)))
    )


def find_release(connection: Connection, model: str, version: str) -> ReleaseRow | None:
    """Return the release with that number."""
    query = select(releases).where(releases.c.model == model, releases.c.version == version)
    row = connection.execute(query).one_or_none()
    return None if row is None else _release_row(row)


def last_release(
    connection: Connection, model: str, *, include_prereleases: bool
) -> ReleaseRow | None:
    """Return the release with the highest sequence.

    Looks at rows from the newest on instead of asking SQL for the newest that is no
    pre-release: a damaged flag would then hide a release without anybody noticing.
    """
    before = 0
    while found := release_rows(connection, model, limit=_SCAN_SIZE, before=before):
        if not before and found[0].sequence != count_releases(connection, model):
            raise missing_row(f"releases: {model} counts {found[0].sequence} releases")
        for row in found:
            if include_prereleases or not row.is_prerelease:
                return row
        before = found[-1].sequence
        if before == 1:
            break
    return None


def release_rows(
    connection: Connection, model: str, *, limit: int | None = None, before: int = 0
) -> list[ReleaseRow]:
    """Return releases, newest first, without gaps."""
    query = select(releases).where(releases.c.model == model)
    if before:
        query = query.where(releases.c.sequence < before)
    found = connection.execute(query.order_by(releases.c.sequence.desc()).limit(limit)).all()
    listed = [_release_row(row) for row in found]
    refuse_gaps(
        f"releases: {model}",
        [row.sequence for row in listed],
        before=before,
        is_whole=limit is None,
    )
    return listed


def version_numbers(connection: Connection, model: str) -> list[str]:
    """Return every release number of a model, newest first, without gaps."""
    query = select(releases).where(releases.c.model == model)
    rows = check_all(releases, connection.execute(query.order_by(releases.c.sequence.desc())))
    sequences = [row.sequence for row in rows]
    refuse_gaps(f"releases: {model}", sequences, before=0, is_whole=True)
    return [row.version for row in rows]


def all_release_rows(connection: Connection) -> list[ReleaseRow]:
    """Return every release of every model."""
    return [_release_row(row) for row in connection.execute(select(releases)).all()]


def versions_of(connection: Connection, manifest: Digest) -> list[tuple[str, str]]:
    """Return model and number of every release of a manifest, in order of release."""
    query = select(releases).where(releases.c.manifest == str(manifest))
    rows = check_all(releases, connection.execute(query.order_by(releases.c.sequence)))
    return [(row.model, row.version) for row in rows]


def count_releases(connection: Connection, model: str) -> int:
    """Return how many releases a model has."""
    query = select(func.count()).select_from(releases).where(releases.c.model == model)
    return int(connection.execute(query).scalar_one())


def log_entries(
    connection: Connection, model: str, *, metric: str, limit: int, before: int
) -> list[LogEntry]:
    """Return releases with one metric, newest first, in one query."""
    query = (
        select(releases, manifests, manifest_metrics)
        .select_from(releases)
        .outerjoin(manifests, manifests.c.digest == releases.c.manifest)
        .outerjoin(
            manifest_metrics,
            and_(
                manifest_metrics.c.manifest == releases.c.manifest,
                manifest_metrics.c.key == metric,
            ),
        )
        .where(releases.c.model == model)
    )
    if before:
        query = query.where(releases.c.sequence < before)
    found = connection.execute(query.order_by(releases.c.sequence.desc()).limit(limit)).all()
    entries = [_log_entry(tuple(row)) for row in found]
    refuse_gaps(
        f"releases: {model}", [entry.sequence for entry in entries], before=before, is_whole=False
    )
    return entries


_MANIFEST_START: Final = len(releases.columns)
_METRIC_START: Final = _MANIFEST_START + len(manifests.columns)
_RELEASE_AT: Final = {column.name: at for at, column in enumerate(releases.columns)}
_SIZE_AT: Final = _MANIFEST_START + [column.name for column in manifests.columns].index(
    "size_bytes"
)
_METRIC_AT: Final = {
    column.name: _METRIC_START + at for at, column in enumerate(manifest_metrics.columns)
}


def _log_entry(row: tuple[Any, ...]) -> LogEntry:
    check_part(releases, row, 0)
    check_part(manifests, row, _MANIFEST_START)
    metric = None
    if row[_METRIC_START] is not None:
        check_part(manifest_metrics, row, _METRIC_START)
        metric = Metric(
            name=row[_METRIC_AT["name"]],
            value=row[_METRIC_AT["value"]],
            slice=row[_METRIC_AT["slice"]],
            sample_size=row[_METRIC_AT["sample_size"]],
            unit=row[_METRIC_AT["unit"]],
        )
    return LogEntry(
        sequence=row[_RELEASE_AT["sequence"]],
        version=row[_RELEASE_AT["version"]],
        level=Level(row[_RELEASE_AT["level"]]),
        why=row[_RELEASE_AT["why"]],
        metric=metric,
        released_at=datetime.fromisoformat(row[_RELEASE_AT["released_at"]]),
        released_by=row[_RELEASE_AT["released_by"]],
        message=row[_RELEASE_AT["message"]],
        manifest=Digest.parse(row[_RELEASE_AT["manifest"]]),
        size_bytes=row[_SIZE_AT],
    )


def _release_row(row: Row[Any]) -> ReleaseRow:
    check(releases, row)
    return ReleaseRow(
        record=Digest.parse(row.record),
        version=row.version,
        sequence=row.sequence,
        is_prerelease=bool(row.is_prerelease),
        manifest=Digest.parse(row.manifest),
        values=plain(releases, row),
    )


def refuse_gaps(what: str, sequences: Sequence[int], *, before: int, is_whole: bool) -> None:
    """Refuse a list of numbered rows, newest first, that leaves something out.

    Raises:
        IntegrityError: If it does.
    """
    if not sequences:
        return
    first = before - 1 if before else sequences[0]
    expected = list(range(first, first - len(sequences), -1))
    if list(sequences) != expected or (is_whole and sequences[-1] != 1):
        raise missing_row(
            f"{what} number(s) {sorted(set(range(1, first + 1)) - set(sequences))[-3:]}"
        )


def missing_row(what: str) -> IntegrityError:
    """Return the error for a row that must be there and is not."""
    return IntegrityError(f"table {what}: a row is missing", code="row-missing", hint=REBUILD_HINT)


# channels -----------------------------------------------------------------------------------


def insert_move(connection: Connection, record: Digest, move: ChannelMove) -> None:
    """Add a channel move's row."""
    connection.execute(
        insert(channel_moves).values(seal(channel_moves, build.move_values(record, move)))
    )


def channel_rows(
    connection: Connection, model: str, channel: str, *, limit: int | None = None
) -> list[tuple[Digest, ChannelMove]]:
    """Return the moves of a channel with their records, newest first."""
    query = select(channel_moves).where(
        channel_moves.c.model == model, channel_moves.c.channel == channel
    )
    found = connection.execute(query.order_by(channel_moves.c.sequence.desc()).limit(limit)).all()
    moves = [(Digest.parse(row.record), _move(row)) for row in found]
    sequences = [move.sequence for _, move in moves]
    what = f"channel_moves: {model}@{channel}"
    refuse_gaps(what, sequences, before=0, is_whole=limit is None)
    return moves


def all_moves(connection: Connection) -> list[tuple[Digest, ChannelMove]]:
    """Return every move of every channel, with its record."""
    found = connection.execute(select(channel_moves)).all()
    return [(Digest.parse(row.record), _move(row)) for row in found]


def current_moves(connection: Connection, model: str = "") -> list[ChannelMove]:
    """Return the newest move of every channel (of one model, or of all), by name."""
    newest = select(
        channel_moves.c.model,
        channel_moves.c.channel,
        func.max(channel_moves.c.sequence).label("sequence"),
        func.count().label("move_count"),
    ).group_by(channel_moves.c.model, channel_moves.c.channel)
    if model:
        newest = newest.where(channel_moves.c.model == model)
    last = newest.subquery()
    query = select(channel_moves, last.c.move_count).join(
        last,
        and_(
            channel_moves.c.model == last.c.model,
            channel_moves.c.channel == last.c.channel,
            channel_moves.c.sequence == last.c.sequence,
        ),
    )
    moves: list[ChannelMove] = []
    for row in connection.execute(query).all():
        check_part(channel_moves, row, 0)
        if row.move_count != row.sequence:
            raise missing_row(f"channel_moves: {row.model}@{row.channel}")
        moves.append(_to_move(row))
    return sorted(moves, key=lambda move: (move.model, move.channel))


def _move(row: Row[Any]) -> ChannelMove:
    check(channel_moves, row)
    return _to_move(row)


def _to_move(row: Row[Any]) -> ChannelMove:
    return ChannelMove(
        model=row.model,
        channel=row.channel,
        version=row.version,
        manifest=None if row.manifest is None else Digest.parse(row.manifest),
        sequence=row.sequence,
        previous=None if row.previous is None else Digest.parse(row.previous),
        reason=row.reason,
        moved_at=datetime.fromisoformat(row.moved_at),
        moved_by=row.moved_by,
    )


# tracked trees ------------------------------------------------------------------------------


def replace_tracked(connection: Connection, path: str, content: Digest) -> None:
    """Say which tree a tracked path has now."""
    connection.execute(delete(tracked).where(tracked.c.path == path))
    values = seal(tracked, {"path": path, "content": str(content)})
    connection.execute(insert(tracked).values(values))


def tracked_trees(connection: Connection) -> dict[str, Digest]:
    """Return tracked trees by path."""
    found = check_all(tracked, connection.execute(select(tracked)))
    return {row.path: Digest.parse(row.content) for row in sorted(found, key=lambda row: row.path)}


# any table -----------------------------------------------------------------------------------


def plain(table: Table, row: Row[Any]) -> dict[str, Value]:
    """Return a row's values by column, without its digest."""
    names = [column.name for column in table.columns]
    return {name: value for name, value in zip(names, row, strict=True) if name != "row_digest"}


def delete_everything(connection: Connection) -> None:
    """Empty every table that records state; ``meta``, the chunk index and tracking stay."""
    for table in SEALED_TABLES:
        if table is not meta and table not in TRACKING_TABLES:
            connection.execute(delete(table))


def insert_rows(connection: Connection, table: Table, rows: Iterable[dict[str, Value]]) -> None:
    """Seal and add rows."""
    sealed = [seal(table, row) for row in rows]
    if sealed:
        connection.execute(insert(table), sealed)


def _insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Value]]) -> None:
    """Seal and add the rows whose key is not there yet."""
    sealed = [seal(table, row) for row in rows]
    if not sealed:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), sealed)
    else:
        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), sealed)
