"""``CatalogService``: versions, releases and channels, as records in the store and rows.

Invariants:
    * Order of every write: record durable in the store, then the row that names it; a
      record without row was never acknowledged, a row without record does not occur.
    * A number names one manifest for ever; sequences have no gaps; each release record
      and each channel move names the one before it.
    * Rows are an index: a manifest or release is read from its record (verified by
      sha256) and its row is checked against it.
    * One of two releases at once wins a number, the other gets a ``ConflictError``.

It neither captures components nor decides numbers; see ``stemma.catalog.recording`` and
``stemma.catalog.releasing``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, final

from stemma.catalog import candidates, queries
from stemma.catalog import rows as build
from stemma.catalog.candidates import GcRoot
from stemma.catalog.queries import LogEntry, ReleaseRow
from stemma.db.engine import Connection, Database
from stemma.db.rows import REBUILD_HINT, Value
from stemma.domain import canonical
from stemma.domain.canonical import timestamp
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, IntegrityError, NotFoundError
from stemma.domain.manifest import Manifest, decode_manifest, encode_manifest
from stemma.domain.names import check_channel_name, check_model_name
from stemma.domain.ref import suggest
from stemma.domain.release import ChannelMove, Release
from stemma.domain.run import RunId
from stemma.store.objects import ObjectStore

__all__ = ["CatalogService", "GcRoot", "LogEntry", "ModelSummary"]

_NAMED_COUNT: Final = 5
STABLE: Final = "stable"
PREVIOUS: Final = "previous"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """One model, as ``status`` lists it.

    Attributes:
        name: Its name.
        release_count: Releases so far.
        newest: Newest release (SemVer text); empty when there is none.
        channels: Where each channel points, ``{"stable": "1.0.0"}``.
        newest_run: Id of the newest run; ``None`` when there is none.
    """

    name: str
    release_count: int
    newest: str
    channels: dict[str, str]
    newest_run: RunId | None


@final
class CatalogService:
    """Versions, releases and channels, over records in the store and rows in the database."""

    def __init__(
        self, database: Database, objects: ObjectStore, *, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock

    # versions -------------------------------------------------------------------------------

    def register(self, manifest: Manifest) -> Digest:
        """Store the manifest's record, then its rows; the same manifest twice is one version.

        Raises:
            InvalidInputError: If the model's name is not allowed.
        """
        check_model_name(manifest.model)
        digest = self._objects.put_record(build.MANIFEST, encode_manifest(manifest))
        with self._database.write() as connection:
            queries.insert_manifest(connection, digest, manifest)
        return digest

    def manifest(self, digest: Digest) -> Manifest:
        """Return the manifest, read from its record and checked against its rows.

        Raises:
            NotFoundError: If no such manifest is registered.
            IntegrityError: If record or row are not what was written.
        """
        with self._database.read() as connection:
            row = queries.find_manifest(connection, digest)
            metrics = queries.find_metrics(connection, digest)
        if row is None:
            raise NotFoundError(
                f"no manifest {digest}", code="manifest-not-found", hint="stemma doctor"
            )
        manifest = decode_manifest(self._objects.read_record(build.MANIFEST, digest))
        _compare("manifests", str(digest), row, build.manifest_values(digest, manifest))
        expected = build.metric_values(digest, manifest)
        if metrics != expected:
            raise _differs("manifest_metrics", str(digest))
        return manifest

    def check_model(self, model: str) -> None:
        """Make sure that there is such a model.

        Raises:
            NotFoundError: If there is none; the hint names near ones.
        """
        with self._database.read() as connection:
            names = queries.model_names(connection)
        if model not in names:
            near = suggest(model, names)
            raise NotFoundError(
                f"no model {model}",
                code="model-not-found",
                hint=f"did you mean {' or '.join(near)}?" if near else "stemma status",
            )

    def manifest_of_run(self, model: str, prefix: str) -> Digest:
        """Return the candidate manifest of the model's run whose id begins so.

        Raises:
            NotFoundError: If there is no such run, or it has no manifest.
            ConflictError: If several runs begin so.
        """
        with self._database.read() as connection:
            found = queries.runs_by_prefix(connection, model, prefix, _NAMED_COUNT)
        names = [str(row["id"]) for row in found]
        row = found[_only(names, prefix, f"run of {model}")]
        if row["manifest"] is None:
            raise NotFoundError(
                f"run {row['id']!s} is {row['state']!s} and has no version",
                code="run-without-version",
                hint="stemma status",
            )
        return Digest.parse(str(row["manifest"]))

    def manifest_by_prefix(self, model: str, hex_prefix: str) -> Digest:
        """Return the one manifest of the model whose sha256 begins so.

        Raises:
            NotFoundError: If there is none.
            ConflictError: If there are several.
        """
        with self._database.read() as connection:
            found = queries.manifests_by_prefix(connection, model, hex_prefix, _NAMED_COUNT)
        names = [str(row["digest"]) for row in found]
        return Digest.parse(names[_only(names, f"sha256:{hex_prefix}", f"manifest of {model}")])

    def list_models(self) -> list[ModelSummary]:
        """Return every model, by name."""
        with self._database.read() as connection:
            moves = queries.current_moves(connection)
            return [
                _summary(connection, name, _pointing(move for move in moves if move.model == name))
                for name in queries.model_names(connection)
            ]

    # releases -------------------------------------------------------------------------------

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
                f"no version {model}@{version}",
                code="version-not-found",
                hint=f"did you mean {' or '.join(near)}?" if near else f"stemma log {model}",
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
            return [row.version for row in queries.release_rows(connection, model)]

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

    # channels -------------------------------------------------------------------------------

    def move_channel(
        self, model: str, channel: str, version: str, *, reason: str = "", moved_by: str
    ) -> ChannelMove:
        """Point a channel at a release; an empty ``version`` removes the channel.

        Moving ``stable`` also moves ``previous`` to where it pointed, in the same transaction.
        A channel that points there already does not move again.

        Raises:
            InvalidInputError: If the channel's name is not allowed.
            NotFoundError: If there is no such release, or no such channel to remove.
        """
        check_channel_name(channel)
        # Asked before the transaction, so that the message can name near versions.
        target = self.release(model, version) if version else None
        with self._database.write() as connection:
            history = queries.channel_rows(connection, model, channel, limit=1)
            current = history[0][1] if history else None
            if target is None and (current is None or not current.version):
                raise NotFoundError(
                    f"{model} has no channel {channel}",
                    code="channel-not-found",
                    hint=f"stemma show {model}",
                )
            if current is not None and current.version == version:
                return current
            if channel == STABLE and current is not None and current.version:
                self._append_move(
                    connection,
                    (model, PREVIOUS),
                    (current.version, current.manifest),
                    (f"{STABLE} moved to {version or 'nothing'}", moved_by),
                )
            manifest = None if target is None else target.manifest
            return self._append_move(
                connection, (model, channel), (version, manifest), (reason, moved_by)
            )

    def channels(self, model: str) -> dict[str, str]:
        """Return where each channel points: name to version."""
        with self._database.read() as connection:
            return _pointing(queries.current_moves(connection, model))

    def channel_history(self, model: str, channel: str) -> list[ChannelMove]:
        """Return every move of the channel, newest first."""
        with self._database.read() as connection:
            return [move for _, move in queries.channel_rows(connection, model, channel)]

    def channel_at(self, model: str, channel: str, moment: datetime) -> ChannelMove | None:
        """Return the move in force at ``moment``; ``None`` before the first.

        The whole history is read and checked: a damaged moment in another row must not
        change the answer silently.
        """
        wanted = timestamp(moment)
        return next(
            (
                move
                for move in self.channel_history(model, channel)
                if timestamp(move.moved_at) <= wanted
            ),
            None,
        )

    # what stays -----------------------------------------------------------------------------

    def track(self, path: str, content: Digest) -> None:
        """Keep a tracked file's or folder's tree from garbage collection."""
        with self._database.write() as connection:
            queries.replace_tracked(connection, path, content)

    def tracked(self) -> dict[str, Digest]:
        """Return tracked trees by path."""
        with self._database.read() as connection:
            return queries.tracked_trees(connection)

    def gc_roots(self, now: datetime, expiry: Callable[[str], timedelta]) -> list[GcRoot]:
        """Return what must stay, each with its first reason.

        Args:
            now: The moment.
            expiry: How long an unreleased candidate of a model stays.
        """
        with self._database.read() as connection:
            return candidates.gc_roots(connection, now, expiry)

    def forget_expired(self, now: datetime, expiry: Callable[[str], timedelta]) -> list[Digest]:
        """Drop the rows of expired candidates, before their records are collected.

        Returns the digests of their manifests.
        """
        with self._database.write() as connection:
            expired = candidates.expired(connection, now, expiry)
            queries.delete_candidates(connection, [str(digest) for digest in expired])
        return expired

    def completions(self, prefix: str, *, limit: int = 100) -> list[str]:
        """Return model names, or ``model@version`` and ``model@channel``, that begin so."""
        model, at, rest = prefix.partition("@")
        with self._database.read() as connection:
            if not at:
                names = queries.model_names(connection)
                return [name for name in names if name.startswith(model)][:limit]
            moves = queries.current_moves(connection, model)
            rows = queries.release_rows(connection, model)
        words = [*_pointing(moves), *(row.version for row in rows)]
        return [f"{model}@{word}" for word in words if word.startswith(rest)][:limit]

    # ----------------------------------------------------------------------------------------

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
        _compare("releases", str(row.record), row.values, build.release_values(row.record, release))
        return release

    def _append_move(
        self,
        connection: Connection,
        name: tuple[str, str],
        target: tuple[str, Digest | None],
        why: tuple[str, str],
    ) -> ChannelMove:
        """Store the record of a move and add its row."""
        model, channel = name
        history = queries.channel_rows(connection, model, channel, limit=1)
        record, last = history[0] if history else (None, None)
        now = self._clock()
        move = ChannelMove(
            model=model,
            channel=channel,
            version=target[0],
            manifest=target[1],
            sequence=1 if last is None else last.sequence + 1,
            previous=record,
            reason=why[0],
            # A clock that was set back must not put a move before the one it follows.
            moved_at=now if last is None else max(now, last.moved_at),
            moved_by=why[1],
        )
        digest = self._objects.put_record(build.CHANNEL_MOVE, canonical.encode(move))
        queries.insert_move(connection, digest, move)
        return move


def _only(names: list[str], prefix: str, what: str) -> int:
    """Return where the one name is that ``prefix`` means."""
    if prefix in names:
        return names.index(prefix)
    if not names:
        raise NotFoundError(
            f"no {what} begins with {prefix}", code="not-found", hint="stemma status"
        )
    if len(names) > 1:
        raise ConflictError(
            f"{prefix} may mean {', '.join(names)}", code="ambiguous-ref", hint="give more digits"
        )
    return 0


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


def _summary(connection: Connection, name: str, channels: dict[str, str]) -> ModelSummary:
    last = queries.last_release(connection, name, include_prereleases=False) or (
        queries.last_release(connection, name, include_prereleases=True)
    )
    return ModelSummary(
        name=name,
        release_count=queries.count_releases(connection, name),
        newest="" if last is None else last.version,
        channels=channels,
        newest_run=queries.newest_run(connection, name),
    )


def _pointing(moves: Iterable[ChannelMove]) -> dict[str, str]:
    """Return where channels point; removed ones are left out."""
    return {move.channel: move.version for move in moves if move.version}


def _compare(table: str, key: str, row: dict[str, Value], expected: dict[str, Value]) -> None:
    if row != expected:
        columns = [name for name, value in expected.items() if row.get(name) != value]
        raise _differs(table, f"{key} ({', '.join(columns)})")


def _differs(table: str, where: str) -> IntegrityError:
    return IntegrityError(
        f"table {table}, row {where}: the row is not what its record says",
        code="row-differs-from-record",
        hint=REBUILD_HINT,
    )
