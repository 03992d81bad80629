"""All the SQL of registered models and their versions.

Invariants:
    * Every row that is returned matched its digest; every row that is written is sealed.
    * A function takes the connection of its caller's transaction and opens none.
    * Statements are built once, so that a registration costs their execution only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    Row,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from stemma.db.rows import Value, check, check_all, seal
from stemma.db.tracking_tables import (
    model_version_tags,
    model_versions,
    registered_model_tags,
    registered_models,
)
from stemma.domain.canonical import timestamp
from stemma.domain.digest import Digest
from stemma.domain.registry import ModelStage, ModelVersion, RegisteredModel

_DELETED: Final = ModelStage.DELETED.value
_BATCH_SIZE: Final = 500

_name: Final[BindParameter[str]] = bindparam("wanted_name")
_number: Final[BindParameter[int]] = bindparam("wanted_number")

_MODEL: Final = select(registered_models).where(registered_models.c.name == _name)
_MODEL_OF: Final = select(registered_models).where(registered_models.c.model == _name)
_UPDATE_MODEL: Final = update(registered_models).where(registered_models.c.name == _name)
_VERSION: Final = select(model_versions).where(
    model_versions.c.name == _name, model_versions.c.number == _number
)
_UPDATE_VERSION: Final = update(model_versions).where(
    model_versions.c.name == _name, model_versions.c.number == _number
)
_LAST_NUMBER: Final = select(func.max(model_versions.c.number)).where(
    model_versions.c.name == _name
)
# registered models --------------------------------------------------------------------------


def find_model(connection: Connection, name: str) -> RegisteredModel | None:
    """Return the registered model of that name, without its tags."""
    row = connection.execute(_MODEL, {"wanted_name": name}).one_or_none()
    return None if row is None else _to_model(row)


def find_model_of(connection: Connection, model: str) -> RegisteredModel | None:
    """Return the registered model that stands for a model of the catalog, without its tags."""
    row = connection.execute(_MODEL_OF, {"wanted_name": model}).one_or_none()
    return None if row is None else _to_model(row)


def models_named(connection: Connection, names: Collection[str]) -> list[RegisteredModel]:
    """Return those registered models, without their tags, in any order."""
    found = []
    for batch in _batches(names):
        query = select(registered_models).where(registered_models.c.name.in_(batch))
        found += [_to_model(row) for row in connection.execute(query)]
    return found


def insert_model(connection: Connection, model: RegisteredModel) -> None:
    """Add a registered model, without its tags."""
    connection.execute(insert(registered_models), [seal(registered_models, _model_values(model))])


def update_model(connection: Connection, name: str, model: RegisteredModel) -> None:
    """Write a registered model anew; ``name`` is the one it had."""
    connection.execute(
        _UPDATE_MODEL, {"wanted_name": name, **seal(registered_models, _model_values(model))}
    )


def delete_model(connection: Connection, name: str) -> None:
    """Remove a registered model, its versions and all their tags."""
    for table in (model_version_tags, model_versions, registered_model_tags, registered_models):
        connection.execute(delete(table).where(table.c.name == name))


def move_rows(connection: Connection, name: str, new_name: str) -> None:
    """Let versions and tags of a registered model name it by its new name."""
    for table in (registered_model_tags, model_versions, model_version_tags):
        query = select(table).where(table.c.name == name)
        found = [dict(row._mapping) for row in check_all(table, connection.execute(query))]  # noqa: SLF001 - SQLAlchemy's public name for it
        connection.execute(delete(table).where(table.c.name == name))
        if found:
            connection.execute(
                insert(table), [seal(table, {**values, "name": new_name}) for values in found]
            )


def model_tags(connection: Connection, names: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the tags of registered models by name."""
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for batch in _batches(names):
        query = select(registered_model_tags).where(registered_model_tags.c.name.in_(batch))
        for row in check_all(registered_model_tags, connection.execute(query)):
            found[row.name][row.key] = row.value
    return found


def replace_model_tags(connection: Connection, name: str, tags: Mapping[str, str]) -> None:
    """Write tags of a registered model; others stay."""
    _replace_tags(connection, registered_model_tags, {"name": name}, tags)


def delete_model_tag(connection: Connection, name: str, key: str) -> None:
    """Remove a tag of a registered model."""
    table = registered_model_tags
    connection.execute(delete(table).where(table.c.name == name, table.c.key == key))


# versions -----------------------------------------------------------------------------------


def find_version(connection: Connection, name: str, number: int) -> ModelVersion | None:
    """Return that version, without its tags, also when it was deleted."""
    values = {"wanted_name": name, "wanted_number": number}
    row = connection.execute(_VERSION, values).one_or_none()
    return None if row is None else _to_version(row)


def versions_with(
    connection: Connection, name: str, *, version: str = "", manifest: Digest | None = None
) -> list[ModelVersion]:
    """Return versions of a release number or a manifest, without their tags, first ones first."""
    query = select(model_versions).where(
        model_versions.c.name == name, model_versions.c.stage != _DELETED
    )
    if version:
        query = query.where(model_versions.c.version == version)
    if manifest is not None:
        query = query.where(model_versions.c.manifest == str(manifest))
    return _versions(connection.execute(query.order_by(model_versions.c.number)))


def versions_at(
    connection: Connection, names: Collection[str], versions: Collection[str]
) -> list[ModelVersion]:
    """Return versions of registered models by release numbers, without their tags."""
    found = []
    for batch in _batches(names):
        query = select(model_versions).where(
            model_versions.c.name.in_(batch), model_versions.c.version.in_(list(versions))
        )
        found += _versions(connection.execute(query))
    return found


def has_released_versions(connection: Connection, name: str) -> bool:
    """Return whether a version of the registered model is released."""
    query = select(model_versions.c.number).where(
        model_versions.c.name == name, model_versions.c.version != ""
    )
    return connection.execute(query.limit(1)).first() is not None


def newest_unreleased(connection: Connection, name: str) -> ModelVersion | None:
    """Return the version with the highest number that is not released, without its tags."""
    query = select(model_versions).where(
        model_versions.c.name == name,
        model_versions.c.version == "",
        model_versions.c.stage != _DELETED,
    )
    row = connection.execute(query.order_by(model_versions.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else _to_version(row)


def versions_keyed(connection: Connection, keys: Sequence[tuple[str, int]]) -> list[ModelVersion]:
    """Return versions by name and number in that order, without their tags."""
    numbers: dict[str, list[int]] = {}
    for name, number in keys:
        numbers.setdefault(name, []).append(number)
    found: dict[tuple[str, int], ModelVersion] = {}
    for name, wanted in numbers.items():
        query = select(model_versions).where(model_versions.c.name == name)
        if len(wanted) <= _BATCH_SIZE:
            query = query.where(model_versions.c.number.in_(wanted))
        for version in _versions(connection.execute(query)):
            found[version.name, version.number] = version
    return [found[name, number] for name, number in keys if (name, number) in found]


def versions_of_run(connection: Connection, name: str, run: str) -> list[ModelVersion]:
    """Return the versions of a registered model that a run made, without their tags."""
    query = select(model_versions).where(
        model_versions.c.run == run,
        model_versions.c.name == name,
        model_versions.c.stage != _DELETED,
    )
    return _versions(connection.execute(query.order_by(model_versions.c.number)))


def folder_versions(connection: Connection, run: str) -> list[ModelVersion]:
    """Return the versions whose files are among the artifacts of a run, without their tags."""
    query = select(model_versions).where(
        model_versions.c.run == run,
        model_versions.c.logged_model == "",
        model_versions.c.stage != _DELETED,
    )
    return _versions(connection.execute(query))


def last_number(connection: Connection, name: str) -> int:
    """Return the highest number given, to deleted versions too; 0 when there is none."""
    return connection.execute(_LAST_NUMBER, {"wanted_name": name}).scalar_one() or 0


def in_stage(connection: Connection, name: str, stage: ModelStage) -> list[ModelVersion]:
    """Return the versions of a registered model in a stage, without their tags."""
    query = select(model_versions).where(
        model_versions.c.name == name, model_versions.c.stage == stage.value
    )
    return _versions(connection.execute(query))


def latest_versions(connection: Connection, names: Collection[str]) -> list[ModelVersion]:
    """Return the newest version of each stage of registered models, without their tags."""
    found = []
    newest = model_versions.alias("newest")
    for batch in _batches(names):
        best = (
            select(newest.c.name, func.max(newest.c.number).label("number"))
            .where(newest.c.name.in_(batch), newest.c.stage != _DELETED)
            .group_by(newest.c.name, newest.c.stage)
            .subquery()
        )
        query = select(model_versions).join(
            best,
            (model_versions.c.name == best.c.name) & (model_versions.c.number == best.c.number),
        )
        found += _versions(connection.execute(query))
    return sorted(found, key=lambda version: (version.name, version.number))


def all_versions(connection: Connection, name: str) -> list[ModelVersion]:
    """Return the versions of a registered model that are not deleted, without their tags."""
    query = select(model_versions).where(
        model_versions.c.name == name, model_versions.c.stage != _DELETED
    )
    return _versions(connection.execute(query.order_by(model_versions.c.number)))


def insert_version(connection: Connection, version: ModelVersion) -> None:
    """Add a version, without its tags."""
    connection.execute(insert(model_versions), [seal(model_versions, _version_values(version))])


def update_version(connection: Connection, version: ModelVersion) -> None:
    """Write a version's new state."""
    values = seal(model_versions, _version_values(version))
    keys = {"wanted_name": version.name, "wanted_number": version.number}
    connection.execute(_UPDATE_VERSION, {**keys, **values})


def version_tags(
    connection: Connection, versions: Iterable[ModelVersion]
) -> dict[tuple[str, int], dict[str, str]]:
    """Return the tags of versions by name and number."""
    found: dict[tuple[str, int], dict[str, str]] = {
        (version.name, version.number): {} for version in versions
    }
    table = model_version_tags
    numbers: dict[str, list[int]] = {}
    for name, number in found:
        numbers.setdefault(name, []).append(number)
    for name, wanted in numbers.items():
        query = select(table).where(table.c.name == name)
        if len(wanted) <= _BATCH_SIZE:
            query = query.where(table.c.number.in_(wanted))
        for row in check_all(table, connection.execute(query)):
            if (row.name, row.number) in found:
                found[row.name, row.number][row.key] = row.value
    return found


def replace_version_tags(
    connection: Connection, name: str, number: int, tags: Mapping[str, str]
) -> None:
    """Write tags of a version; others stay."""
    _replace_tags(connection, model_version_tags, {"name": name, "number": number}, tags)


def delete_version_tag(connection: Connection, name: str, number: int, key: str) -> None:
    """Remove a tag of a version."""
    table = model_version_tags
    connection.execute(
        delete(table).where(table.c.name == name, table.c.number == number, table.c.key == key)
    )


# rows and values ----------------------------------------------------------------------------


def _replace_tags(
    connection: Connection, table: Table, owner: Mapping[str, Value], tags: Mapping[str, str]
) -> None:
    if not tags:
        return
    query = delete(table).where(table.c.key.in_(list(tags)))
    for name, value in owner.items():
        query = query.where(table.c[name] == value)
    connection.execute(query)
    rows = [seal(table, {**owner, "key": key, "value": value}) for key, value in tags.items()]
    connection.execute(insert(table), rows)


def _model_values(model: RegisteredModel) -> dict[str, Value]:
    return {
        "name": model.name,
        "model": model.model,
        "description": model.description,
        "created_at": timestamp(model.created_at),
        "updated_at": timestamp(model.updated_at),
    }


def _to_model(row: Row[Any]) -> RegisteredModel:
    check(registered_models, row)
    return RegisteredModel(
        name=row.name,
        model=row.model,
        description=row.description,
        created_at=datetime.fromisoformat(row.created_at),
        updated_at=datetime.fromisoformat(row.updated_at),
    )


def _version_values(version: ModelVersion) -> dict[str, Value]:
    return {
        "name": version.name,
        "number": version.number,
        "run": version.run,
        "logged_model": version.logged_model,
        "source": version.source,
        "description": version.description,
        "stage": version.stage.value,
        "created_at": timestamp(version.created_at),
        "updated_at": timestamp(version.updated_at),
        "created_by": version.created_by,
        "manifest": None if version.manifest is None else str(version.manifest),
        "version": version.version,
    }


def _to_version(row: Row[Any]) -> ModelVersion:
    check(model_versions, row)
    return ModelVersion(
        name=row.name,
        number=row.number,
        run=row.run,
        logged_model=row.logged_model,
        source=row.source,
        description=row.description,
        stage=ModelStage(row.stage),
        created_at=datetime.fromisoformat(row.created_at),
        updated_at=datetime.fromisoformat(row.updated_at),
        created_by=row.created_by,
        manifest=None if row.manifest is None else Digest.parse(row.manifest),
        version=row.version,
    )


def _versions(rows: Iterable[Row[Any]]) -> list[ModelVersion]:
    return [_to_version(row) for row in rows]


def _batches(names: Collection[str]) -> Iterable[list[str]]:
    ordered = list(names)
    for start in range(0, len(ordered), _BATCH_SIZE):
        yield ordered[start : start + _BATCH_SIZE]
