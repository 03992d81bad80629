"""Releases: records that bind a number to a manifest for ever, and the rows that find them.

Invariants:
    * A number is given once; sequences have no gaps; each record names the one before it.
    * Of two releases at once one wins, the other gets a ``ConflictError``.
    * A release is read from its record, and its row is checked against it.

It does not decide numbers; see ``stemma.catalog.releasing``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from stemma.catalog import queries
from stemma.catalog import rows as build
from stemma.catalog.queries import LogEntry, ReleaseRow
from stemma.db.engine import Connection, Database
from stemma.db.rows import REBUILD_HINT, Value
from stemma.domain import canonical
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, IntegrityError, NotFoundError
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.release import Release
from stemma.store.objects import ObjectStore


def _nothing(_connection: Connection, _release: Release) -> None:
    """Do nothing more."""


class ReleaseVerbs:
    """Verbs on releases."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        *,
        clock: Callable[[], datetime],
        on_release: Callable[[Connection, Release], object] = _nothing,
    ) -> None:
        """Hold the services; ``on_release`` is part of the transaction of each release."""
        self._on_release = on_release
        self._database = database
        self._objects = objects
        self._clock = clock

    def append_release(self, release: Release) -> Digest:
        """Release; returns the digest of the record.

        Raises:
            NotFoundError: If the manifest is not registered under the model.
            ConflictError: If the number exists (``version-exists``), or another release came
                in between (``release-raced``): decide again and try again.
        """
        with self._database.write() as connection:
            last = queries.last_release(connection, release.model, include_prereleases=True)
            if queries.find_release(connection, release.model, release.version) is not None:
                raise ConflictError(
                    f"{release.model}@{release.version} exists already",
                    code="version-exists",
                    hint=f"stemma show {release.model}@{release.version}",
                )
            _refuse_raced(release, last)
            row = queries.find_manifest(connection, release.manifest)
            if row is None or row["model"] != release.model:
                raise NotFoundError(
                    f"{release.model} has no manifest {release.manifest}",
                    code="manifest-not-found",
                    hint="stemma run first",
                )
            record = self._objects.put_record(build.RELEASE, canonical.encode(release))
            queries.insert_release(connection, record, release)
            self._on_release(connection, release)
        return record

    def releases(self, model: str, *, limit: int = 50, before: int = 0) -> list[Release]:
        """Return release records, newest first; ``before`` is a sequence for keyset paging."""
        with self._database.read() as connection:
            rows = queries.release_rows(connection, model, limit=limit, before=before)
        return [self._read_release(row) for row in rows]

    def release(self, model: str, version: str) -> Release:
        """Return the release with that number.

        Raises:
            NotFoundError: If there is none; the hint names near ones.
        """
        found = self.find_version(model, version)
        if found is None:
            near = suggest(version, self.versions(model))
            raise NotFoundError(
                f"no version {model}@{version}{did_you_mean(near)}",
                code="version-not-found",
                hint=f"stemma log {model}",
            )
        return found

    def find_version(self, model: str, version: str) -> Release | None:
        """Return the release with that number, or ``None``."""
        row = self._find_release(model, version)
        return None if row is None else self._read_release(row)

    def last_release(self, model: str, *, include_prereleases: bool = False) -> Release | None:
        """Return the release with the highest sequence."""
        with self._database.read() as connection:
            row = queries.last_release(connection, model, include_prereleases=include_prereleases)
        return None if row is None else self._read_release(row)

    def release_digest(self, model: str, version: str) -> Digest:
        """Return the digest of a release's record: ``previous`` of the release after it.

        Raises:
            NotFoundError: If there is no such release.
        """
        row = self._find_release(model, version)
        if row is None:
            raise NotFoundError(f"no version {model}@{version}", code="version-not-found")
        return row.record

    def versions(self, model: str) -> list[str]:
        """Return every release number of the model, newest first."""
        with self._database.read() as connection:
            return queries.version_numbers(connection, model)

    def versions_of(self, manifest: Digest) -> list[tuple[str, str]]:
        """Return model and number of every release that names this manifest."""
        with self._database.read() as connection:
            return queries.versions_of(connection, manifest)

    def log_rows(
        self, model: str, *, metric: str = "", limit: int = 50, before: int = 0
    ) -> list[LogEntry]:
        """Return releases with one metric, newest first, in one query."""
        with self._database.read() as connection:
            return queries.log_entries(connection, model, metric=metric, limit=limit, before=before)

    def _find_release(self, model: str, version: str) -> ReleaseRow | None:
        """Find by index; before saying no, look at every row: an index may be damaged."""
        with self._database.read() as connection:
            row = queries.find_release(connection, model, version)
            if row is not None:
                return row
            scanned = queries.release_rows(connection, model)
        if any(row.version == version for row in scanned):
            raise IntegrityError(
                f"table releases: the index does not find {model}@{version}",
                code="corrupt-database",
                hint=REBUILD_HINT,
            )
        return None

    def _read_release(self, row: ReleaseRow) -> Release:
        data = self._objects.read_record(build.RELEASE, row.record)
        release = canonical.decode(data, Release, what="release")
        compare_row(
            "releases", str(row.record), row.values, build.release_values(row.record, release)
        )
        return release


def _refuse_raced(release: Release, last: ReleaseRow | None) -> None:
    sequence = 1 if last is None else last.sequence + 1
    previous = None if last is None else last.record
    if release.sequence != sequence or release.previous != previous:
        newest = "nothing" if last is None else f"{release.model}@{last.version}"
        raise ConflictError(
            f"{release.model}@{release.version} was decided against another state; "
            f"{newest} is the newest release now",
            code="release-raced",
            hint=f"stemma release {release.model}",
        )


def compare_row(table: str, key: str, row: dict[str, Value], expected: dict[str, Value]) -> None:
    """Refuse a row that is not what its record says.

    Raises:
        IntegrityError: If they differ; the message names the columns.
    """
    if row != expected:
        columns = [name for name, value in expected.items() if row.get(name) != value]
        raise row_differs(table, f"{key} ({', '.join(columns)})")


def row_differs(table: str, where: str) -> IntegrityError:
    """Return the error for a row that is not what its record says."""
    return IntegrityError(
        f"table {table}, row {where}: the row is not what its record says",
        code="row-differs-from-record",
        hint=REBUILD_HINT,
    )
