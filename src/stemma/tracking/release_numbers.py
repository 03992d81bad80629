"""Releases of the catalog as numbered versions of registered models.

Invariants:
    * Each release of a model gets the next number, in order of release, once; a version that it
      was made of keeps its own.
    * A release that came from elsewhere, or from before there was a registry, is numbered when
      somebody looks.

It releases nothing; see ``stemma.catalog.releasing``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from stemma.db.engine import Connection
from stemma.domain.digest import Digest
from stemma.domain.registry import ModelVersion, RegisteredModel, RunFolder
from stemma.tracking import registry_queries as queries
from stemma.tracking import registry_source_queries as sources
from stemma.tracking.artifacts import NATIVE_FOLDER


def number_releases(connection: Connection, model: str, now: datetime) -> int:
    """Give each release of a model that has none its number, in order; returns how many."""
    unlisted = sources.unlisted_releases(connection, model)
    if not unlisted:
        return 0
    registered = queries.find_model_of(connection, model)
    if registered is None:
        registered = RegisteredModel(name=model, model=model, created_at=now, updated_at=now)
        queries.insert_model(connection, registered)
    for release in unlisted:
        _number(connection, registered.name, release)
    return len(unlisted)


def number_all_releases(connection: Connection, now: datetime) -> int:
    """Give every release of the project its number; returns how many had none."""
    return sum(
        number_releases(connection, model, now) for model in sources.unlisted_models(connection)
    )


def _number(connection: Connection, name: str, release: sources.UnlistedRelease) -> None:
    """Number a release: the version it was adopted from, else a new one."""
    manifest = Digest.parse(release.manifest)
    moment = datetime.fromisoformat(release.released_at)
    same = queries.versions_with(connection, name, manifest=manifest)
    waiting = [version for version in same if not version.version]
    if waiting:
        queries.update_version(
            connection,
            replace(
                waiting[0],
                version=release.version,
                updated_at=max(moment, waiting[0].created_at),
            ),
        )
        return
    source = str(RunFolder(str(release.experiment), release.run, NATIVE_FOLDER))
    new = ModelVersion(
        name=name,
        number=queries.last_number(connection, name) + 1,
        run=same[0].run if same else release.run,
        logged_model=same[0].logged_model if same else "",
        source=same[0].source if same else source,
        description=release.message,
        created_at=moment,
        updated_at=moment,
        created_by=release.released_by,
        manifest=manifest,
        version=release.version,
    )
    queries.insert_version(connection, new)
