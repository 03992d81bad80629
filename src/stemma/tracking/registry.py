"""Verbs on registered models and their versions, as functions of a connection.

Invariants:
    * A version counts once it is registered; its files and its number never change.
    * Releases of the catalog are versions too: each gets the next number, in order of release,
      before any later registration does.
    * What is released can be neither deleted nor renamed.

It moves no channel and builds no manifest; see ``stemma.hub.adopting``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from stemma.db.engine import Connection
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.names import fit_model_name
from stemma.domain.registry import (
    REGISTRY_TAG_LENGTH_LIMIT,
    ModelStage,
    ModelVersion,
    NewVersion,
    RegisteredModel,
    check_description,
    check_registered_name,
    parse_source,
)
from stemma.domain.tracking import check_tags
from stemma.tracking import registry_queries as queries
from stemma.tracking import registry_source_queries as sources
from stemma.tracking.registered_sources import settle
from stemma.tracking.release_numbers import number_releases

_ONE_PER_TIME: Final = frozenset({ModelStage.STAGING, ModelStage.PRODUCTION})


# registered models --------------------------------------------------------------------------


def create_model(
    connection: Connection,
    name: str,
    now: datetime,
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> RegisteredModel:
    """Register a model.

    Raises:
        InvalidInputError: If the name, the description or a tag may not be.
        ConflictError: If it is registered (``registered-model-exists``), or another name fits to
            the same model of the catalog (``model-name-taken``).
    """
    check_registered_name(name)
    check_tags(tags or {}, length_limit=REGISTRY_TAG_LENGTH_LIMIT)
    if find_model(connection, name, now) is not None:
        raise ConflictError(
            f"registered model {name} exists already", code="registered-model-exists"
        )
    model = RegisteredModel(
        name=name,
        model=_fitted(connection, name),
        description=check_description(storable(description)),
        created_at=now,
        updated_at=now,
        tags=_storable_tags(tags or {}),
    )
    queries.insert_model(connection, model)
    queries.replace_model_tags(connection, name, model.tags)
    return model


def find_model(connection: Connection, name: str, now: datetime) -> RegisteredModel | None:
    """Return a registered model without its tags; a model with releases is registered by it."""
    model = queries.find_model(connection, name)
    if model is None and queries.find_model_of(connection, name) is None:
        if not sources.is_behind(connection, name):
            return None
        number_releases(connection, name, now)
        return queries.find_model(connection, name)
    return model


def model_of(connection: Connection, model: str, now: datetime) -> RegisteredModel:
    """Return the registered model that stands for a model of the catalog; it is made if need be."""
    found = queries.find_model_of(connection, model)
    if found is None:
        number_releases(connection, model, now)
        found = queries.find_model_of(connection, model)
    return found or create_model(connection, model, now)


def is_behind(connection: Connection, name: str) -> bool:
    """Return whether a release of the model has no number yet; ``catch_up`` gives it one."""
    model = queries.find_model(connection, name)
    return sources.is_behind(connection, name if model is None else model.model)


def catch_up(connection: Connection, name: str, now: datetime) -> None:
    """Give every release of the model a number."""
    model = queries.find_model(connection, name)
    number_releases(connection, name if model is None else model.model, now)


def get_model(connection: Connection, name: str) -> RegisteredModel:
    """Return a registered model with its tags.

    Raises:
        NotFoundError: If there is none of that name.
    """
    model = queries.find_model(connection, name)
    if model is None:
        raise _no_model(name)
    return with_tags(connection, [model])[0]


def with_tags(connection: Connection, models: Collection[RegisteredModel]) -> list[RegisteredModel]:
    """Return the registered models with their tags."""
    tags = queries.model_tags(connection, [model.name for model in models])
    return [replace(model, tags=tags[model.name]) for model in models]


def update_model(
    connection: Connection, name: str, description: str, now: datetime
) -> RegisteredModel:
    """Describe a registered model anew.

    Raises:
        NotFoundError: If there is none of that name.
    """
    described = check_description(storable(description))
    model = replace(get_model(connection, name), description=described, updated_at=now)
    queries.update_model(connection, name, model)
    return model


def rename_model(
    connection: Connection, name: str, new_name: str, now: datetime
) -> RegisteredModel:
    """Give a registered model another name; what the catalog adopted of it is adopted anew.

    Raises:
        NotFoundError: If there is none of that name.
        ConflictError: If it has a release (``model-released``), or the new name is taken.
    """
    check_registered_name(new_name)
    model = get_model(connection, name)
    _refuse_released(connection, name, "renamed")
    if new_name == name:
        return model
    if find_model(connection, new_name, now) is not None:
        raise ConflictError(
            f"registered model {new_name} exists already", code="registered-model-exists"
        )
    fitted = fit_model_name(new_name)
    if fitted != model.model:
        fitted = _fitted(connection, new_name)
    renamed = replace(model, name=new_name, model=fitted, updated_at=now)
    queries.update_model(connection, name, renamed)
    queries.move_rows(connection, name, new_name)
    for version in queries.all_versions(connection, new_name):
        if version.manifest is not None:
            queries.update_version(connection, replace(version, manifest=None))
    return renamed


def delete_model(connection: Connection, name: str) -> None:
    """Forget a registered model and its versions; runs and logged models stay.

    Raises:
        NotFoundError: If there is none of that name.
        ConflictError: If it has a release (``model-released``).
    """
    get_model(connection, name)
    _refuse_released(connection, name, "deleted")
    queries.delete_model(connection, name)


def set_model_tag(connection: Connection, name: str, key: str, value: str, now: datetime) -> None:
    """Write a tag of a registered model.

    Raises:
        NotFoundError: If there is none of that name.
        InvalidInputError: If the tag may not be.
    """
    check_tags({key: value}, length_limit=REGISTRY_TAG_LENGTH_LIMIT)
    _touch(connection, name, now)
    queries.replace_model_tags(connection, name, _storable_tags({key: value}))


def delete_model_tag(connection: Connection, name: str, key: str, now: datetime) -> None:
    """Remove a tag of a registered model; one that is not there is fine.

    Raises:
        NotFoundError: If there is no such registered model.
    """
    _touch(connection, name, now)
    queries.delete_model_tag(connection, name, key)


# versions -----------------------------------------------------------------------------------


def create_version(connection: Connection, new: NewVersion, now: datetime) -> ModelVersion:
    """Register files of a run or a logged model as the next version.

    Raises:
        NotFoundError: If there is no such registered model.
        InvalidInputError: If the source is no place of this project, or not the run's or logged
            model's that the client names.
    """
    check_tags(new.tags, length_limit=REGISTRY_TAG_LENGTH_LIMIT)
    # Before the model is looked for, so that the answer does not depend on it.
    source = parse_source(new.source)
    model = _touch(connection, new.name, now)
    run, logged_model, text = settle(connection, new, source)
    number_releases(connection, model.model, now)
    version = ModelVersion(
        name=new.name,
        number=queries.last_number(connection, new.name) + 1,
        run=run,
        logged_model=logged_model,
        source=text,
        description=check_description(storable(new.description)),
        created_at=now,
        updated_at=now,
        created_by=storable(new.created_by),
        tags=_storable_tags(new.tags),
    )
    queries.insert_version(connection, version)
    queries.replace_version_tags(connection, version.name, version.number, version.tags)
    return version


def get_version(connection: Connection, name: str, number: int) -> ModelVersion:
    """Return a version with its tags.

    Raises:
        NotFoundError: If there is none, or it was deleted.
    """
    return with_version_tags(connection, [_existing(connection, name, number)])[0]


def with_version_tags(
    connection: Connection, versions: Collection[ModelVersion]
) -> list[ModelVersion]:
    """Return the versions with their tags."""
    tags = queries.version_tags(connection, versions)
    return [replace(version, tags=tags[version.name, version.number]) for version in versions]


def released_version(connection: Connection, name: str, version: str) -> ModelVersion:
    """Return the version with that release number, with its tags.

    Raises:
        NotFoundError: If there is none.
    """
    found = queries.versions_with(connection, name, version=version)
    if not found:
        raise NotFoundError(
            f"registered model {name} has no version {version}",
            code="version-not-found",
            hint=f"stemma log {fit_model_name(name)}",
        )
    return with_version_tags(connection, found[:1])[0]


def update_version(
    connection: Connection, name: str, number: int, description: str, now: datetime
) -> ModelVersion:
    """Describe a version anew; nothing else of it changes.

    Raises:
        NotFoundError: If there is none, or it was deleted.
    """
    described = check_description(storable(description))
    version = get_version(connection, name, number)
    version = replace(version, description=described, updated_at=now)
    queries.update_version(connection, version)
    _touch(connection, name, now)
    return version


def transition(
    connection: Connection,
    version: ModelVersion,
    stage: ModelStage,
    now: datetime,
    *,
    should_archive: bool,
) -> ModelVersion:
    """Let a version stand in a stage.

    Args:
        connection: The caller's transaction.
        version: The version.
        stage: Where it shall stand.
        now: The moment.
        should_archive: Move those that stand there to ``Archived``.

    Raises:
        InvalidInputError: If others shall be archived from a stage that may hold many.
    """
    if should_archive and stage not in _ONE_PER_TIME:
        raise InvalidInputError(
            f"archive_existing_versions does not go with stage {stage.value}", code="bad-stage"
        )
    if should_archive:
        for other in queries.in_stage(connection, version.name, stage):
            if other.number != version.number:
                archived = replace(other, stage=ModelStage.ARCHIVED, updated_at=now)
                queries.update_version(connection, archived)
    moved = replace(version, stage=stage, updated_at=now)
    queries.update_version(connection, moved)
    _touch(connection, version.name, now)
    return moved


def delete_version(connection: Connection, name: str, number: int, now: datetime) -> None:
    """Hide a version for ever; its number is not given again.

    Raises:
        NotFoundError: If there is none, or it was deleted.
        ConflictError: If it is released (``version-released``).
    """
    version = _existing(connection, name, number)
    if version.version:
        raise ConflictError(
            f"version {number} of {name} is released as {version.version}, which stays for ever",
            code="version-released",
            hint="transition it to Archived",
        )
    queries.update_version(connection, replace(version, stage=ModelStage.DELETED, updated_at=now))
    _touch(connection, name, now)


def set_version_tags(
    connection: Connection, name: str, number: int, tags: Mapping[str, str], now: datetime
) -> None:
    """Write tags of a version.

    Raises:
        NotFoundError: If there is none, or it was deleted.
        InvalidInputError: If a tag may not be.
    """
    check_tags(tags, length_limit=REGISTRY_TAG_LENGTH_LIMIT)
    version = _existing(connection, name, number)
    queries.update_version(connection, replace(version, updated_at=now))
    queries.replace_version_tags(connection, name, number, _storable_tags(tags))


def delete_version_tag(
    connection: Connection, name: str, number: int, key: str, now: datetime
) -> None:
    """Remove a tag of a version; one that is not there is fine.

    Raises:
        NotFoundError: If there is no such version.
    """
    version = _existing(connection, name, number)
    queries.update_version(connection, replace(version, updated_at=now))
    queries.delete_version_tag(connection, name, number, key)


def adopted(connection: Connection, name: str, number: int, manifest: Digest) -> None:
    """Note the manifest that the catalog made of a version.

    Raises:
        NotFoundError: If there is no such version.
        ConflictError: If it is released already (``version-released``).
    """
    version = _existing(connection, name, number)
    if version.version and version.manifest != manifest:
        raise ConflictError(
            f"version {number} of {name} is released as {version.version}", code="version-released"
        )
    queries.update_version(connection, replace(version, manifest=manifest))


# parts --------------------------------------------------------------------------------------


def _fitted(connection: Connection, name: str) -> str:
    """Return the catalog's name for a registered model, when no other one has it."""
    fitted = fit_model_name(name)
    holder = queries.find_model_of(connection, fitted)
    if holder is not None:
        raise ConflictError(
            f"registered model {name} would be {fitted} in the catalog, as {holder.name} is",
            code="model-name-taken",
            hint="take a name that differs in more than case and punctuation",
        )
    return fitted


def _existing(connection: Connection, name: str, number: int) -> ModelVersion:
    version = queries.find_version(connection, name, number)
    if version is None or version.stage is ModelStage.DELETED:
        raise NotFoundError(
            f"registered model {name} has no version {number}", code="version-not-found"
        )
    return version


def _touch(connection: Connection, name: str, now: datetime) -> RegisteredModel:
    """Note that something of a registered model changed; returns it without its tags."""
    model = find_model(connection, name, now)
    if model is None:
        raise _no_model(name)
    model = replace(model, updated_at=max(now, model.updated_at))
    queries.update_model(connection, name, model)
    return model


def _refuse_released(connection: Connection, name: str, what: str) -> None:
    if queries.has_released_versions(connection, name):
        raise ConflictError(
            f"registered model {name} has a release and cannot be {what}",
            code="model-released",
            hint="register a model of another name",
        )


def _no_model(name: str) -> NotFoundError:
    return NotFoundError(
        f"no registered model {name[:80]}",
        code="registered-model-not-found",
    )


def storable(text: str) -> str:
    """Return text that both engines can hold: no NUL, no half characters."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def _storable_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: storable(value) for key, value in tags.items()}
