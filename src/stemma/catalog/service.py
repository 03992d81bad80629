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

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, final

from stemma.catalog import candidates, queries
from stemma.catalog import rows as build
from stemma.catalog.candidates import GcRoot
from stemma.catalog.channel_verbs import ChannelVerbs, pointing
from stemma.catalog.queries import LogEntry
from stemma.catalog.release_verbs import compare_row, row_differs
from stemma.db.engine import Connection
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, NotFoundError
from stemma.domain.manifest import Manifest, decode_manifest, encode_manifest
from stemma.domain.names import check_model_name
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.run import RunId

__all__ = ["CatalogService", "GcRoot", "LogEntry", "ModelSummary"]

_NAMED_COUNT: Final = 5


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
class CatalogService(ChannelVerbs):
    """Versions, releases and channels, over records in the store and rows in the database.

    Its verbs on releases and channels stand in ``release_verbs`` and ``channel_verbs``.
    """

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
        compare_row("manifests", str(digest), row, build.manifest_values(digest, manifest))
        expected = build.metric_values(digest, manifest)
        if metrics != expected:
            raise row_differs("manifest_metrics", str(digest))
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
                f"no model {model}{did_you_mean(near)}",
                code="model-not-found",
                hint=f"stemma log {near[0]}" if near else "stemma log",
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
                _summary(connection, name, pointing(move for move in moves if move.model == name))
                for name in queries.model_names(connection)
            ]

    # what stays -----------------------------------------------------------------------------

    def track(self, path: str, content: Digest) -> None:
        """Keep a tracked file's or folder's tree from garbage collection."""
        with self._database.write() as connection:
            queries.replace_tracked(connection, path, content)

    def tracked(self) -> dict[str, Digest]:
        """Return tracked trees by path."""
        with self._database.read() as connection:
            return queries.tracked_trees(connection)

    def gc_roots(
        self,
        now: datetime,
        expiry: Callable[[str], timedelta],
        leased: Collection[Digest] = (),
    ) -> list[GcRoot]:
        """Return what must stay, each with its first reason.

        Args:
            now: The moment.
            expiry: How long an unreleased candidate of a model stays.
            leased: What is being read.
        """
        with self._database.read() as connection:
            return candidates.gc_roots(connection, now, expiry, leased)

    def forget_expired(
        self,
        now: datetime,
        expiry: Callable[[str], timedelta],
        leased: Collection[Digest] = (),
    ) -> list[Digest]:
        """Drop the rows of expired candidates, before their records are collected.

        Returns the digests of their manifests.
        """
        with self._database.write() as connection:
            expired = candidates.expired(connection, now, expiry, leased)
            queries.delete_candidates(connection, [str(digest) for digest in expired])
        return expired

    def remember(self, records: Iterable[Digest]) -> list[Digest]:
        """Make the rows of candidates again whose records came back from the trash.

        Returns the digests of those whose rows were gone.
        """
        found = [
            (digest, decode_manifest(self._objects.read_record(build.MANIFEST, digest)))
            for digest in records
        ]
        with self._database.write() as connection:
            return [
                digest
                for digest, manifest in found
                if candidates.remember(connection, digest, manifest)
            ]

    def completions(self, prefix: str, *, limit: int = 100) -> list[str]:
        """Return model names, or ``model@version`` and ``model@channel``, that begin so."""
        model, at, rest = prefix.partition("@")
        with self._database.read() as connection:
            if not at:
                names = queries.model_names(connection)
                return [name for name in names if name.startswith(model)][:limit]
            moves = queries.current_moves(connection, model)
            rows = queries.release_rows(connection, model)
        words = [*pointing(moves), *(row.version for row in rows)]
        return [f"{model}@{word}" for word in words if word.startswith(rest)][:limit]


def _only(names: list[str], prefix: str, what: str) -> int:
    """Return where the one name is that ``prefix`` means."""
    if prefix in names:
        return names.index(prefix)
    if not names:
        raise NotFoundError(
            f"no {what} begins with {prefix}", code="not-found", hint="stemma log --runs"
        )
    if len(names) > 1:
        raise ConflictError(
            f"{prefix} may mean {', '.join(names)}", code="ambiguous-ref", hint="stemma log --runs"
        )
    return 0


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
