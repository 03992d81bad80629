"""Checks every row against its record, and the database file against its seal.

What a healthy database may hold besides: a record that nobody was told about, left by a
process that was killed between record and row.  It is named and harmless.

Invariants:
    * Nothing is written, and nothing is repaired: ``stemma doctor --rebuild`` does that.
    * A row that is missing, differs, or has no record is found, as is any bit of the file
      when its seal is not stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stemma.catalog import rows as build
from stemma.catalog.delivery_rows import configuration_values, deployment_values
from stemma.catalog.replay import Records, load_records
from stemma.db.engine import Database
from stemma.db.mark import is_mark_damaged, mark_path
from stemma.db.rows import Value, is_sound, name_row
from stemma.db.salvage import engine_complaints, read_rows
from stemma.db.schema import SEALED_TABLES, TRACKING_TABLES, read_generation
from stemma.db.seal import Claim, SealState
from stemma.db.tables import (
    channel_moves,
    configurations,
    deployments,
    manifest_metrics,
    manifests,
    meta,
    models,
    releases,
    rollout_events,
    rollouts,
    runs,
)
from stemma.db.tracking_rows import TrackingReport, examine_tracking
from stemma.domain.errors import IntegrityError
from stemma.domain.release import is_candidate
from stemma.domain.run import RunState
from stemma.store.objects import ObjectStore

TableRows = dict[str, dict[str, Value]]
"""Rows of one table: name of the row → its values without digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """One thing that is wrong with the rows.

    Attributes:
        kind: Stable machine name, e.g. ``row-differs-from-record``.
        where: Table and row, or file.
        detail: What is wrong.
        is_harmless: Nothing is lost or wrong, only worth knowing.
    """

    kind: str
    where: str
    detail: str
    is_harmless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReport:
    """What was checked and found.

    Attributes:
        problems: What is wrong, in order of checking.
        rows_checked: How many rows were checked.
    """

    problems: tuple[RowProblem, ...]
    rows_checked: int


def examine(database: Database, objects: ObjectStore) -> RowReport:
    """Check everything the database says: file, rows, and rows against records."""
    problems = [*_examine_file(database)]
    tables: dict[str, TableRows] = {}
    for table in SEALED_TABLES:
        if table in TRACKING_TABLES:
            continue
        found: TableRows = {}
        names = [column.name for column in table.columns]
        try:
            for row in read_rows(database, table):
                if is_sound(table, row):
                    found[name_row(table, row)] = dict(zip(names[:-1], row[:-1], strict=True))
                else:
                    where = f"{table.name} {name_row(table, row)}"
                    problems.append(_problem("row-damaged", where, "not what was written"))
        except IntegrityError as error:
            problems.append(_problem(error.code, table.name, error.message))
        tables[table.name] = found
    records = load_records(objects)
    problems += _examine_records(tables, records)
    problems += _examine_links(tables)
    tracking = examine_tracking(database)
    problems += _tracking_problems(tracking)
    count = sum(len(found) for found in tables.values()) + tracking.rows_checked
    return RowReport(problems=tuple(problems), rows_checked=count)


def _tracking_problems(report: TrackingReport) -> Iterator[RowProblem]:
    for where in report.damaged:
        yield _problem("row-damaged", where, "not what was written")
    for table, count in report.orphaned:
        yield _problem("row-missing", table, f"{count} rows belong to what has no row")
    for table, message in report.unreadable:
        yield _problem("corrupt-database", table, message)


def _problem(kind: str, where: str, detail: str) -> RowProblem:
    return RowProblem(kind=kind, where=where, detail=detail)


def _examine_file(database: Database) -> Iterator[RowProblem]:
    """Compare the file with its seal, and ask the engine."""
    if database.path is not None:
        # The order counts: sidecar, hash, and only then the generation; see stemma.db.seal.
        claim = Claim.examine(database.path, limit_bytes=None)
        try:
            with database.read() as connection:
                state = claim.judge(read_generation(connection))
        except IntegrityError as error:
            yield _problem(error.code, meta.name, error.message)
            state = SealState.BROKEN
        if state is SealState.BROKEN:
            yield _problem("file-damaged", database.name, "its bytes are not what was sealed")
        if state is SealState.BEHIND:
            yield _problem("rows-lost", database.name, "what was written last is gone")
        if is_mark_damaged(database.path):
            yield _problem("mark-damaged", str(mark_path(database.path)), "not what was written")
        if state is SealState.DAMAGED_SEAL:
            yield _problem("seal-damaged", f"{database.name}.seal", "not what was written")
    for line in engine_complaints(database):
        yield _problem("engine-complaint", database.name, line)


def _examine_records(tables: dict[str, TableRows], records: Records) -> Iterator[RowProblem]:
    """Compare rows with what records say they should be."""
    for digest in sorted(records.damaged):
        yield _problem("record-damaged", str(digest), "the record cannot be read")
    for digest in sorted(records.superseded):
        yield RowProblem(
            kind="record-superseded",
            where=str(digest),
            detail="left by an interrupted command; another record took its place",
            is_harmless=True,
        )
    expected = _expected(records)
    unacknowledged = _unacknowledged(tables, expected)
    for table, rows in expected.items():
        actual = tables[table]
        for name, row in rows.items():
            if name not in actual:
                yield _missing(table, name, is_harmless=name in unacknowledged[table])
            elif actual[name] != row:
                columns = [key for key, value in row.items() if actual[name].get(key) != value]
                yield _problem(
                    "row-differs-from-record", f"{table} {name}", f"differs in {', '.join(columns)}"
                )
        for name in sorted(actual.keys() - rows.keys()):
            yield _problem("row-without-record", f"{table} {name}", "no record says so")


def _missing(table: str, name: str, *, is_harmless: bool) -> RowProblem:
    if is_harmless:
        detail = "left by an interrupted command; nobody was told that it happened"
        return RowProblem(
            kind="record-without-row", where=f"{table} {name}", detail=detail, is_harmless=True
        )
    return _problem("row-missing", f"{table} {name}", "its record is there, its row is not")


def _expected(records: Records) -> dict[str, TableRows]:
    """Return the rows that the records stand for."""
    metrics = [
        row
        for digest, manifest in records.manifests.items()
        for row in build.metric_values(digest, manifest)
    ]
    return {
        models.name: {
            manifest.model: {"name": manifest.model} for manifest in records.manifests.values()
        },
        manifests.name: {
            str(digest): build.manifest_values(digest, manifest)
            for digest, manifest in records.manifests.items()
        },
        manifest_metrics.name: {f"{row['manifest']!s} {row['key']!s}": row for row in metrics},
        releases.name: {
            str(record): build.release_values(record, release)
            for record, release in records.releases.items()
        },
        channel_moves.name: {
            str(record): build.move_values(record, move) for record, move in records.moves.items()
        },
        configurations.name: {
            str(record): configuration_values(record, made)
            for record, made in records.configurations.items()
        },
        deployments.name: {
            str(record): deployment_values(record, made)
            for record, made in records.deployments.items()
        },
    }


def _unacknowledged(
    tables: dict[str, TableRows], expected: dict[str, TableRows]
) -> dict[str, frozenset[str]]:
    """Return per table the missing rows that a killed process explains.

    A manifest that no row names; and of each chain the record right after the newest row,
    when it is the last.  Any other missing row was there once.
    """
    named = {
        str(row["manifest"])
        for table in (runs.name, releases.name, channel_moves.name)
        for row in tables[table].values()
    }
    free = {name for name in expected[manifests.name] if name not in tables[manifests.name]}
    free -= named
    kept_models = {str(row["model"]) for row in tables[manifests.name].values()}
    kept_models |= {str(row["model"]) for row in tables[releases.name].values()}
    return {
        manifests.name: frozenset(free),
        manifest_metrics.name: frozenset(
            name for name in expected[manifest_metrics.name] if name.split(" ")[0] in free
        ),
        models.name: frozenset(expected[models.name].keys() - kept_models),
        releases.name: _tips(tables[releases.name], expected[releases.name], ("model",)),
        channel_moves.name: _tips(
            tables[channel_moves.name], expected[channel_moves.name], ("model", "channel")
        ),
        configurations.name: _tips(
            tables[configurations.name], expected[configurations.name], ("model",)
        ),
        deployments.name: _tips(tables[deployments.name], expected[deployments.name], ("model",)),
    }


def _tips(actual: TableRows, expected: TableRows, chain: tuple[str, ...]) -> frozenset[str]:
    """Return records that stand alone after the newest row of their chain."""

    def newest(rows: TableRows) -> dict[tuple[Value, ...], int]:
        found: dict[tuple[Value, ...], int] = {}
        for row in rows.values():
            key = tuple(row[column] for column in chain)
            found[key] = max(found.get(key, 0), int(str(row["sequence"])))
        return found

    in_rows, in_records = newest(actual), newest(expected)
    tips: set[str] = set()
    for name, row in expected.items():
        key = tuple(row[column] for column in chain)
        sequence = int(str(row["sequence"]))
        if sequence == in_records[key] == in_rows.get(key, 0) + 1:
            tips.add(name)
    return frozenset(tips)


def _examine_links(tables: dict[str, TableRows]) -> Iterator[RowProblem]:
    """Check that what a row names is there."""
    known = tables[manifests.name].keys()
    run_ids = tables[runs.name].keys()
    versions = {(row["model"], row["version"]) for row in tables[releases.name].values()}
    for table in (runs.name, releases.name, channel_moves.name):
        for name, row in tables[table].items():
            if row["manifest"] is not None and row["manifest"] not in known:
                yield _problem("row-missing", f"{table} {name}", "its manifest has no row")
    for name, row in tables[channel_moves.name].items():
        version = str(row["version"])
        is_release = version and not is_candidate(version)
        if is_release and (row["model"], version) not in versions:
            yield _problem("row-missing", f"{channel_moves.name} {name}", "its release has no row")
    for name, row in tables[manifests.name].items():
        if row["run"] not in run_ids:
            yield _problem("row-missing", f"{manifests.name} {name}", "its run has no row")
    for name, row in tables[runs.name].items():
        # A run of a tracking client has neither model nor manifest until it is released.
        is_finished = row["state"] == RunState.FINISHED.value
        if is_finished and row["model"] and row["manifest"] is None:
            yield _problem("row-damaged", f"{runs.name} {name}", "finished without a manifest")
    yield from _examine_delivery(tables, versions)


def _examine_delivery(
    tables: dict[str, TableRows], versions: set[tuple[Value, Value]]
) -> Iterator[RowProblem]:
    """Check that what serves is known, and that each rollout has its whole log."""
    known = {(row["model"], row["digest"]) for row in tables[configurations.name].values()}
    for name, row in tables[deployments.name].items():
        where = f"{deployments.name} {name}"
        if (row["model"], row["version"]) not in versions:
            yield _problem("row-missing", where, "its release has no row")
        if (row["model"], row["configuration"]) not in known:
            yield _problem("row-missing", where, "its configuration has no row")
    logs: dict[Value, set[Value]] = {row["id"]: set() for row in tables[rollouts.name].values()}
    for name, row in tables[rollout_events.name].items():
        if row["rollout"] in logs:
            logs[row["rollout"]].add(row["sequence"])
        else:
            yield _problem("row-missing", f"{rollout_events.name} {name}", "its rollout has no row")
    for name, row in tables[rollouts.name].items():
        if logs[row["id"]] != set(range(1, int(str(row["event_count"])) + 1)):
            yield _problem("row-missing", f"{rollouts.name} {name}", "its log is not whole")
