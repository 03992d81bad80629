"""The SQL of what versions are made of: runs, logged models, their files, and releases.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * A function takes the connection of its caller's transaction and opens none.

It writes nothing but files of releases; see ``stemma.tracking.registry_queries``.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, Connection, Row, bindparam, exists, select

from stemma.db.rows import check, check_all
from stemma.db.tables import manifests, releases, runs
from stemma.db.tracking_tables import artifacts, logged_models, model_versions, registered_models

_name: Final[BindParameter[str]] = bindparam("wanted_name")
_RUN: Final = select(runs).where(runs.c.id == _name)
_LOGGED_MODEL: Final = select(logged_models).where(logged_models.c.id == _name)
_is_listed: Final = exists().where(
    model_versions.c.name == registered_models.c.name,
    model_versions.c.version == releases.c.version,
)
_UNLISTED: Final = (
    select(releases)
    .select_from(
        releases.outerjoin(registered_models, registered_models.c.model == releases.c.model)
    )
    .where(releases.c.model == _name, ~_is_listed)
    .order_by(releases.c.sequence)
)
_UNLISTED_MODELS: Final = (
    select(releases.c.model)
    .select_from(
        releases.outerjoin(registered_models, registered_models.c.model == releases.c.model)
    )
    .where(~_is_listed)
    .distinct()
)


class SourceRun(NamedTuple):
    """What a registration needs of a run."""

    experiment: int
    is_deleted: bool


class SourceModel(NamedTuple):
    """What a registration needs of a logged model."""

    experiment: int
    run: str
    is_deleted: bool


class UnlistedRelease(NamedTuple):
    """A release that has no number among the versions of its registered model."""

    version: str
    manifest: str
    run: str
    experiment: int
    message: str
    released_at: str
    released_by: str


# what versions are made of ------------------------------------------------------------------


def newest_logged_model(connection: Connection, run: str) -> str:
    """Return the logged model that a run made last; empty for none."""
    query = (
        select(logged_models)
        .where(logged_models.c.run == run, logged_models.c.deleted_at.is_(None))
        .order_by(logged_models.c.created_at.desc(), logged_models.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return "" if row is None else str(check(logged_models, row).id)


def folder_with(connection: Connection, owner: str, name: str) -> str | None:
    """Return the folder among artifacts that holds a file of that name and was written last."""
    query = select(artifacts).where(
        artifacts.c.owner == owner, artifacts.c.path.endswith(f"/{name}", autoescape=True)
    )
    query = query.order_by(artifacts.c.stored_at.desc(), artifacts.c.path).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else str(check(artifacts, row).path).rpartition("/")[0]


def has_files(connection: Connection, owner: str, folder: str) -> bool:
    """Return whether a folder among the artifacts of a run or logged model holds anything."""
    query = select(artifacts.c.path).where(
        artifacts.c.owner == owner, artifacts.c.path > f"{folder}/", artifacts.c.path < f"{folder}0"
    )
    return connection.execute(query.limit(1)).first() is not None


def find_source_run(connection: Connection, run: str) -> SourceRun | None:
    """Return what a registration needs of a run."""
    row = connection.execute(_RUN, {"wanted_name": run}).one_or_none()
    if row is None:
        return None
    check(runs, row)
    return SourceRun(row.experiment, row.deleted_at is not None)


def find_source_model(connection: Connection, logged_model: str) -> SourceModel | None:
    """Return what a registration needs of a logged model."""
    row = connection.execute(_LOGGED_MODEL, {"wanted_name": logged_model}).one_or_none()
    if row is None:
        return None
    check(logged_models, row)
    return SourceModel(row.experiment, row.run, row.deleted_at is not None)


def logged_model_named(connection: Connection, run: str, name: str) -> str:
    """Return the newest logged model of that name that a run made; empty for none."""
    query = (
        select(logged_models)
        .where(
            logged_models.c.run == run,
            logged_models.c.name == name,
            logged_models.c.deleted_at.is_(None),
        )
        .order_by(logged_models.c.created_at.desc(), logged_models.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return "" if row is None else str(check(logged_models, row).id)


# releases that were made outside of the registry --------------------------------------------


def unlisted_models(connection: Connection) -> list[str]:
    """Return models of the catalog of which a release has no number yet."""
    return [str(name) for name in connection.execute(_UNLISTED_MODELS).scalars()]


def is_behind(connection: Connection, model: str) -> bool:
    """Return whether a release of the model has no number yet."""
    return connection.execute(_UNLISTED.limit(1), {"wanted_name": model}).first() is not None


def unlisted_releases(connection: Connection, model: str) -> list[UnlistedRelease]:
    """Return the releases of a model that have no number yet, in order of release."""
    found = check_all(releases, connection.execute(_UNLISTED, {"wanted_name": model}))
    return [_unlisted(connection, row) for row in found]


def _unlisted(connection: Connection, row: Row[Any]) -> UnlistedRelease:
    query = select(manifests).where(manifests.c.digest == row.manifest)
    manifest = connection.execute(query).one_or_none()
    run = "" if manifest is None else str(check(manifests, manifest).run)
    source = find_source_run(connection, run)
    return UnlistedRelease(
        version=row.version,
        manifest=row.manifest,
        run=run,
        experiment=0 if source is None else source.experiment,
        message=row.message,
        released_at=row.released_at,
        released_by=row.released_by,
    )
