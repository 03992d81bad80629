"""Registered models: made, found, described, tagged, renamed and forgotten; and their aliases.

Invariants:
    * Every move of an alias is a move of a channel, with its history.
    * An alias is dropped before the version or model that it names is.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

import anyio.to_thread

from stemma.db.engine import Connection
from stemma.domain.errors import InvalidInputError
from stemma.domain.names import fit_channel_name
from stemma.domain.registry import ModelVersion, RegisteredModel
from stemma.protocols.mlflow import registry_wire as wire
from stemma.protocols.mlflow.ports import Services
from stemma.protocols.mlflow.registry_reading import (
    aliases_of,
    latest_in,
    number_all,
    read_model,
    to_search,
    version_at,
    version_named,
    wire_models,
    wire_versions,
)
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs
from stemma.tracking import registry
from stemma.tracking import registry_queries as queries
from stemma.tracking.search.records import search_registered_models

_ROOT: Final = "/api/2.0/mlflow/registered-models"
_PAGE_SIZE: Final = 100
_ALIAS: Final = re.compile(r"[\w\-]{1,255}")


async def create(request: MlflowRequest) -> object:
    """Register a model."""
    asked = await request.body(wire.CreateModel)
    services, now = request.services, request.services.clock()
    tags = wire.tags_of(asked.tags)
    model = await services.write(
        lambda connection: registry.create_model(
            connection, asked.name, now, description=asked.description, tags=tags
        )
    )
    return wire.ModelAnswer(registered_model=wire.to_wire_model(model))


async def get(request: MlflowRequest) -> object:
    """Answer with a registered model."""
    asked = await request.body(wire.ModelName)
    return await _answer(request.services, asked.name)


async def update(request: MlflowRequest) -> object:
    """Describe a registered model."""
    asked = await request.body(wire.UpdateModel)
    services, now = request.services, request.services.clock()
    await services.write(
        lambda connection: registry.update_model(connection, asked.name, asked.description, now)
    )
    return await _answer(services, asked.name)


async def rename(request: MlflowRequest) -> object:
    """Give a registered model another name; its aliases go with it."""
    asked = await request.body(wire.RenameModel)
    services, now = request.services, request.services.clock()
    model, aliases = await read_model(services, asked.name, partial(_with_aliases, asked.name))
    renamed = await services.write(
        lambda connection: registry.rename_model(connection, asked.name, asked.new_name, now)
    )
    if renamed.model != model.model:
        await _drop(request, model, list(aliases))
        for alias, number in aliases.items():
            version = await services.read(
                partial(registry.get_version, name=renamed.name, number=number)
            )
            await _point(request, renamed, alias, version)
    return await _answer(services, renamed.name)


async def delete(request: MlflowRequest) -> object:
    """Forget a registered model that has no release."""
    asked = await request.body(wire.ModelName)
    services = request.services
    model, aliases = await read_model(services, asked.name, partial(_with_aliases, asked.name))
    await services.write(lambda connection: registry.delete_model(connection, asked.name))
    await _drop(request, model, list(aliases))
    return {}


async def search(request: MlflowRequest) -> object:
    """Answer with registered models that fit a filter, a page at a time."""
    asked = await request.body(wire.SearchRegistry)
    services = request.services
    await number_all(services)

    def look(connection: Connection) -> dict[str, object]:
        page = search_registered_models(connection, to_search(asked, _PAGE_SIZE))
        found = {model.name: model for model in queries.models_named(connection, page.items)}
        models = [found[name] for name in page.items if name in found]
        return {
            "registered_models": wire_models(connection, models),
            "next_page_token": page.next_token,
        }

    return await services.read(look)


async def latest_versions(request: MlflowRequest) -> object:
    """Answer with the newest version of each stage, or with what a range names."""
    asked = await request.body(wire.StageNames)
    services = request.services

    def look(connection: Connection) -> list[wire.WireVersion]:
        model = registry.get_model(connection, asked.name)
        found = latest_in(services.catalog, connection, model, asked.stages)
        return wire_versions(connection, found, aliases_of(connection, [model]))

    return {"model_versions": await read_model(services, asked.name, look)}


async def set_tag(request: MlflowRequest) -> object:
    """Write a tag."""
    asked = await request.body(wire.ModelTag)
    now = request.services.clock()
    await request.services.write(
        lambda connection: registry.set_model_tag(
            connection, asked.name, asked.key, asked.value, now
        )
    )
    return {}


async def delete_tag(request: MlflowRequest) -> object:
    """Remove a tag."""
    asked = await request.body(wire.ModelTag)
    now = request.services.clock()
    await request.services.write(
        lambda connection: registry.delete_model_tag(connection, asked.name, asked.key, now)
    )
    return {}


async def set_alias(request: MlflowRequest) -> object:
    """Let an alias name a version."""
    asked = await request.body(wire.ModelAlias)
    if not _ALIAS.fullmatch(asked.alias):
        raise InvalidInputError(
            f"not an alias: {asked.alias[:80]!r}; use letters, digits, '_' and '-'",
            code="bad-alias",
        )

    def look(connection: Connection) -> tuple[RegisteredModel, ModelVersion]:
        model = registry.get_model(connection, asked.name)
        return model, version_named(connection, asked.name, asked.version)

    model, version = await read_model(request.services, asked.name, look)
    await _point(request, model, fit_channel_name(asked.alias), version)
    return {}


async def delete_alias(request: MlflowRequest) -> object:
    """Remove an alias; one that is not there is fine."""
    asked = await request.body(wire.ModelAlias)
    model, aliases = await read_model(
        request.services, asked.name, partial(_with_aliases, asked.name)
    )
    alias = fit_channel_name(asked.alias)
    await _drop(request, model, [alias] if alias in aliases else [])
    return {}


async def get_by_alias(request: MlflowRequest) -> object:
    """Answer with the version that an alias, a release number or a range names."""
    asked = await request.body(wire.ModelAlias)
    services = request.services

    def look(connection: Connection) -> wire.WireVersion:
        model = registry.get_model(connection, asked.name)
        found = version_at(services.catalog, connection, model, asked.alias)
        return wire_versions(connection, [found], aliases_of(connection, [model]))[0]

    return wire.VersionAnswer(model_version=await read_model(services, asked.name, look))


async def _answer(services: Services, name: str) -> wire.ModelAnswer:
    def look(connection: Connection) -> wire.WireModel:
        return wire_models(connection, [registry.get_model(connection, name)])[0]

    return wire.ModelAnswer(registered_model=await read_model(services, name, look))


def _with_aliases(name: str, connection: Connection) -> tuple[RegisteredModel, dict[str, int]]:
    model = registry.get_model(connection, name)
    return model, aliases_of(connection, [model])[name]


async def _point(
    request: MlflowRequest, model: RegisteredModel, alias: str, version: ModelVersion
) -> None:
    port = request.services.ports.registry
    await anyio.to_thread.run_sync(port.point, model, alias, version, request.user)


async def _drop(request: MlflowRequest, model: RegisteredModel, aliases: list[str]) -> None:
    port = request.services.ports.registry
    for alias in aliases:
        await anyio.to_thread.run_sync(port.drop, model, alias, request.user)


ROUTES: Final = (
    MlflowRoute(method="POST", path=f"{_ROOT}/create", handler=create, needs=Needs.WRITE),
    MlflowRoute(method="GET", path=f"{_ROOT}/get", handler=get, needs=Needs.READ),
    MlflowRoute(method="GET", path=f"{_ROOT}/search", handler=search, needs=Needs.READ),
    MlflowRoute(method="PATCH", path=f"{_ROOT}/update", handler=update, needs=Needs.WRITE),
    MlflowRoute(
        method="POST",
        path=f"{_ROOT}/rename",
        handler=rename,
        needs=Needs.WRITE,
        is_whole=False,
        remark="only while it has no release",
    ),
    MlflowRoute(
        method="DELETE",
        path=f"{_ROOT}/delete",
        handler=delete,
        needs=Needs.WRITE,
        is_whole=False,
        remark="only while it has no release",
    ),
    MlflowRoute(
        method="GET",
        path=f"{_ROOT}/get-latest-versions",
        handler=latest_versions,
        needs=Needs.READ,
        remark="also by release number, range or alias: `models:/clf/1.4.2`",
    ),
    MlflowRoute(
        method="POST",
        path=f"{_ROOT}/get-latest-versions",
        handler=latest_versions,
        needs=Needs.READ,
        remark="also by release number, range or alias: `models:/clf/1.4.2`",
    ),
    MlflowRoute(method="POST", path=f"{_ROOT}/set-tag", handler=set_tag, needs=Needs.WRITE),
    MlflowRoute(method="DELETE", path=f"{_ROOT}/delete-tag", handler=delete_tag, needs=Needs.WRITE),
    MlflowRoute(
        method="POST",
        path=f"{_ROOT}/alias",
        handler=set_alias,
        needs=Needs.WRITE,
        is_whole=False,
        remark="kept as a channel: lower case, `-` for `_`; `stable` takes releases only",
    ),
    MlflowRoute(method="DELETE", path=f"{_ROOT}/alias", handler=delete_alias, needs=Needs.WRITE),
    MlflowRoute(
        method="GET",
        path=f"{_ROOT}/alias",
        handler=get_by_alias,
        needs=Needs.READ,
        remark="also by release number or range: `models:/clf@^1.4`",
    ),
)
