"""Versions of registered models: registered, found, described, tagged, staged and hidden.

Invariants:
    * A version's files and number never change; a request that would change them is refused.
    * Whoever moves a version to ``Production`` moves the channel ``stable``, so both hold releases
      only; a channel that is moved elsewhere moves no stage.
"""

from __future__ import annotations

from typing import Final

import anyio.to_thread

from stemma.db.engine import Connection
from stemma.domain.errors import ConflictError
from stemma.domain.registry import (
    ModelStage,
    ModelVersion,
    NewVersion,
    RegisteredModel,
    parse_stage,
)
from stemma.domain.release import STABLE
from stemma.protocols.mlflow import registry_wire as wire
from stemma.protocols.mlflow.ports import Services
from stemma.protocols.mlflow.registry_reading import (
    aliases_of,
    names_at,
    number_all,
    read_model,
    to_search,
    version_named,
    wire_versions,
)
from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs
from stemma.tracking import registry
from stemma.tracking import registry_queries as queries
from stemma.tracking.registered_sources import artifact_uri
from stemma.tracking.search.records import search_model_versions
from stemma.tracking.search.values import MODEL_VERSIONS_PAGE_LIMIT

_ROOT: Final = "/api/2.0/mlflow/model-versions"


async def create(request: MlflowRequest) -> object:
    """Register files of a run or a logged model as the next version."""
    asked = await request.body(wire.CreateVersion)
    services, now = request.services, request.services.clock()
    new = NewVersion(
        name=asked.name,
        source=asked.source,
        run=asked.run_id,
        logged_model=asked.model_id,
        description=asked.description,
        tags=wire.tags_of(asked.tags),
        created_by=request.user,
    )
    version = await services.write(lambda connection: registry.create_version(connection, new, now))
    return wire.VersionAnswer(model_version=wire.to_wire_version(version))


async def get(request: MlflowRequest) -> object:
    """Answer with a version."""
    asked = await request.body(wire.VersionName)
    return await _answer(request.services, asked.name, asked.version)


async def update(request: MlflowRequest) -> object:
    """Describe a version."""
    asked = await request.body(wire.UpdateVersion)
    services, now = request.services, request.services.clock()
    found = await _find(services, asked)
    if asked.source not in {"", found.source}:
        raise ConflictError(
            f"version {found.number} of {found.name} is {found.source} for ever",
            code="version-immutable",
            hint="register the other files as another version",
        )
    await services.write(
        lambda connection: registry.update_version(
            connection, found.name, found.number, asked.description, now
        )
    )
    return await _answer(services, found.name, str(found.number))


async def transition(request: MlflowRequest) -> object:
    """Let a version stand in a stage; a release in production becomes stable."""
    asked = await request.body(wire.TransitionStage)
    services, now = request.services, request.services.clock()
    stage = parse_stage(asked.stage)
    model, version = await read_model(
        services, asked.name, lambda connection: _named(connection, asked)
    )
    if stage is ModelStage.PRODUCTION:
        # First the channel, whose move may be refused and has a record.
        port = services.ports.registry
        await anyio.to_thread.run_sync(port.point, model, STABLE, version, request.user)
    await services.write(
        lambda connection: registry.transition(
            connection,
            registry.get_version(connection, version.name, version.number),
            stage,
            now,
            should_archive=asked.archive_existing_versions,
        )
    )
    return await _answer(services, version.name, str(version.number))


async def delete(request: MlflowRequest) -> object:
    """Hide a version that is not released."""
    asked = await request.body(wire.VersionName)
    services, now = request.services, request.services.clock()
    model, version = await read_model(
        services, asked.name, lambda connection: _named(connection, asked)
    )
    aliases = await services.read(lambda connection: aliases_of(connection, [model]))
    await services.write(
        lambda connection: registry.delete_version(connection, version.name, version.number, now)
    )
    for alias in names_at(aliases, version):
        await anyio.to_thread.run_sync(services.ports.registry.drop, model, alias, request.user)
    return {}


async def set_tag(request: MlflowRequest) -> object:
    """Write a tag."""
    asked = await request.body(wire.VersionTag)
    services, now = request.services, request.services.clock()
    found = await _find(services, asked)
    await services.write(
        lambda connection: registry.set_version_tags(
            connection, found.name, found.number, {asked.key: asked.value}, now
        )
    )
    return {}


async def delete_tag(request: MlflowRequest) -> object:
    """Remove a tag."""
    asked = await request.body(wire.VersionTag)
    services, now = request.services, request.services.clock()
    found = await _find(services, asked)
    await services.write(
        lambda connection: registry.delete_version_tag(
            connection, found.name, found.number, asked.key, now
        )
    )
    return {}


async def search(request: MlflowRequest) -> object:
    """Answer with versions that fit a filter, a page at a time."""
    asked = await request.body(wire.SearchRegistry)
    services = request.services
    await number_all(services)

    def look(connection: Connection) -> dict[str, object]:
        page = search_model_versions(connection, to_search(asked, MODEL_VERSIONS_PAGE_LIMIT))
        versions = queries.versions_keyed(connection, page.items)
        names = {version.name for version in versions}
        aliases = aliases_of(connection, queries.models_named(connection, names))
        return {
            "model_versions": wire_versions(connection, versions, aliases),
            "next_page_token": page.next_token,
        }

    return await services.read(look)


async def download_uri(request: MlflowRequest) -> object:
    """Answer with the address of a version's files on this server."""
    asked = await request.body(wire.VersionName)

    def look(connection: Connection) -> tuple[str, ModelVersion]:
        version = version_named(connection, asked.name, asked.version)
        return artifact_uri(connection, version), version

    uri, version = await read_model(request.services, asked.name, look)
    if version.version and not version.logged_model:
        await anyio.to_thread.run_sync(request.services.ports.registry.expose, version)
    return {"artifact_uri": uri}


_Named = wire.VersionName | wire.UpdateVersion | wire.TransitionStage | wire.VersionTag


def _named(connection: Connection, asked: _Named) -> tuple[RegisteredModel, ModelVersion]:
    model = registry.get_model(connection, asked.name)
    return model, version_named(connection, asked.name, asked.version)


async def _find(services: Services, asked: _Named) -> ModelVersion:
    found = await read_model(services, asked.name, lambda connection: _named(connection, asked))
    return found[1]


async def _answer(services: Services, name: str, version: str) -> wire.VersionAnswer:
    def look(connection: Connection) -> wire.WireVersion:
        model = registry.get_model(connection, name)
        found = version_named(connection, name, version)
        return wire_versions(connection, [found], aliases_of(connection, [model]))[0]

    return wire.VersionAnswer(model_version=await read_model(services, name, look))


ROUTES: Final = (
    MlflowRoute(
        method="POST",
        path=f"{_ROOT}/create",
        handler=create,
        needs=Needs.WRITE,
        is_whole=False,
        remark="files of a run or a logged model of this server only",
    ),
    MlflowRoute(method="GET", path=f"{_ROOT}/get", handler=get, needs=Needs.READ),
    MlflowRoute(method="GET", path=f"{_ROOT}/search", handler=search, needs=Needs.READ),
    MlflowRoute(
        method="PATCH",
        path=f"{_ROOT}/update",
        handler=update,
        needs=Needs.WRITE,
        remark="another source is refused: 409",
    ),
    MlflowRoute(
        method="POST",
        path=f"{_ROOT}/transition-stage",
        handler=transition,
        needs=Needs.WRITE,
        is_whole=False,
        remark="`Production` takes releases only, and moves the channel `stable`",
    ),
    MlflowRoute(
        method="DELETE",
        path=f"{_ROOT}/delete",
        handler=delete,
        needs=Needs.WRITE,
        is_whole=False,
        remark="a release stays: 409",
    ),
    MlflowRoute(method="POST", path=f"{_ROOT}/set-tag", handler=set_tag, needs=Needs.WRITE),
    MlflowRoute(method="DELETE", path=f"{_ROOT}/delete-tag", handler=delete_tag, needs=Needs.WRITE),
    MlflowRoute(
        method="GET", path=f"{_ROOT}/get-download-uri", handler=download_uri, needs=Needs.READ
    ),
)
