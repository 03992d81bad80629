"""Reads of the registry: aliases from the history of channels, versions by alias and range.

Invariants:
    * An alias is a channel of the catalog; where its newest move points, the alias does.
    * What a client gives as an alias or a stage may be a number or a range of releases; those are
      no names of channels, so nothing means two things.
    * A model with releases that nobody has numbered is numbered before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, TypeVar

from stemma.catalog import queries as catalog_queries
from stemma.catalog.resolve import resolve
from stemma.catalog.service import CatalogService
from stemma.db.engine import Connection
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.names import fit_channel_name
from stemma.domain.ref import ExactVersion, VersionRange, parse_selector
from stemma.domain.registry import ModelStage, ModelVersion, RegisteredModel, parse_number
from stemma.domain.release import ChannelMove
from stemma.protocols.mlflow.ports import Services
from stemma.protocols.mlflow.registry_wire import (
    SearchRegistry,
    WireModel,
    WireVersion,
    to_wire_model,
    to_wire_version,
)
from stemma.tracking import registry
from stemma.tracking import registry_queries as queries
from stemma.tracking import registry_source_queries as source_queries
from stemma.tracking.release_numbers import number_all_releases
from stemma.tracking.search.values import Search

ResultT = TypeVar("ResultT")
Aliases = dict[str, dict[str, int]]
"""By registered model: the number that each alias names."""

_LATEST: Final = "latest"


async def read_model(
    services: Services, name: str, verb: Callable[[Connection], ResultT]
) -> ResultT:
    """Return what ``verb`` reads of a registered model, all of whose releases are numbered."""

    def look(connection: Connection) -> tuple[ResultT] | None:
        return None if registry.is_behind(connection, name) else (verb(connection),)

    found = await services.read(look)
    if found is None:
        now = services.clock()
        await services.write(lambda connection: registry.catch_up(connection, name, now))
        return await services.read(verb)
    return found[0]


async def number_all(services: Services) -> None:
    """Give every release of the project its number, where one has none yet."""
    if await services.read(source_queries.unlisted_models):
        now = services.clock()
        await services.write(lambda connection: number_all_releases(connection, now))


def to_search(asked: SearchRegistry, page_size: int) -> Search:
    """Return what a client searches for.

    Args:
        asked: What it sent.
        page_size: Items in a page when it says nothing.
    """
    return Search(
        filter=asked.filter,
        order=tuple(asked.order_by),
        page_size=asked.max_results or page_size,
        token=asked.page_token,
    )


def aliases_of(connection: Connection, models: Collection[RegisteredModel]) -> Aliases:
    """Return the aliases of registered models."""
    found: Aliases = {model.name: {} for model in models}
    names = {model.model: model.name for model in models}
    only = next(iter(names)) if len(names) == 1 else ""
    moves = [
        move
        for move in catalog_queries.current_moves(connection, only)
        if move.version and move.model in names
    ]
    if not moves:
        return found
    texts = {move.version for move in moves}
    released = {
        (version.name, version.version): version.number
        for version in queries.versions_at(connection, list(found), texts)
    }
    for move in moves:
        name = names[move.model]
        number = released.get((name, move.version)) or _candidate_number(connection, name, move)
        if number:
            found[name][move.channel] = number
    return found


def _candidate_number(connection: Connection, name: str, move: ChannelMove) -> int:
    if move.manifest is None:
        return 0
    same = queries.versions_with(connection, name, manifest=move.manifest)
    return same[0].number if same else 0


def wire_versions(
    connection: Connection, versions: Collection[ModelVersion], aliases: Aliases
) -> list[WireVersion]:
    """Return versions with their tags and aliases, as clients read them."""
    return [
        to_wire_version(version, names_at(aliases, version))
        for version in registry.with_version_tags(connection, versions)
    ]


def wire_models(connection: Connection, models: Collection[RegisteredModel]) -> list[WireModel]:
    """Return registered models with tags, aliases and the newest version of each stage."""
    aliases = aliases_of(connection, models)
    latest = wire_versions(
        connection, queries.latest_versions(connection, [model.name for model in models]), aliases
    )
    by_name: dict[str, list[WireVersion]] = {model.name: [] for model in models}
    for version in latest:
        by_name[version.name].append(version)
    return [
        to_wire_model(model, aliases[model.name], by_name[model.name])
        for model in registry.with_tags(connection, models)
    ]


def names_at(aliases: Aliases, version: ModelVersion) -> list[str]:
    """Return the aliases that name a version."""
    return [
        alias for alias, number in aliases.get(version.name, {}).items() if number == version.number
    ]


def version_named(connection: Connection, name: str, text: str) -> ModelVersion:
    """Return the version that a number, MLflow's or the release's, names.

    Raises:
        NotFoundError: If there is none.
        InvalidInputError: If it is no number.
    """
    if text.isdecimal():
        return registry.get_version(connection, name, parse_number(text))
    try:
        selector = parse_selector(text)
    except InvalidInputError:
        selector = None
    if not isinstance(selector, ExactVersion):
        raise InvalidInputError(
            f"not a number of a model version: {text[:80]!r}", code="bad-number"
        )
    return registry.released_version(connection, name, str(selector.version))


def version_at(
    catalog: CatalogService, connection: Connection, model: RegisteredModel, text: str
) -> ModelVersion:
    """Return the version that an alias, a release number or a range names.

    Raises:
        NotFoundError: If no release is in the range.
        InvalidInputError: If there is no such alias.
    """
    found = find_range(catalog, connection, model, text)
    if found is not None:
        return found
    numbers = aliases_of(connection, [model])[model.name]
    number = numbers.get(fit_channel_name(text), 0)
    if text.lower() == _LATEST:
        number = max((v.number for v in queries.all_versions(connection, model.name)), default=0)
    if not number:
        raise NotFoundError(
            f"registered model {model.name} has no alias {text[:80]}", code="alias-not-found"
        )
    return registry.get_version(connection, model.name, number)


def find_range(
    catalog: CatalogService, connection: Connection, model: RegisteredModel, text: str
) -> ModelVersion | None:
    """Return the version that a release number or a range names; ``None`` if it is neither.

    Raises:
        NotFoundError: If it is one, and there is no such release.
    """
    try:
        selector = parse_selector(text)
    except InvalidInputError:
        return None
    if not isinstance(selector, ExactVersion | VersionRange):
        return None
    release = resolve(catalog, f"{model.model}@{selector}").release
    version = "" if release is None else release.version
    return registry.released_version(connection, model.name, version)


def latest_in(
    catalog: CatalogService, connection: Connection, model: RegisteredModel, stages: list[str]
) -> list[ModelVersion]:
    """Return the newest version of each stage, of all when none is named.

    In the place of a stage a release number, a range or an alias may stand, for that is what
    ``models:/clf/1.4.2`` asks for.

    Raises:
        InvalidInputError: If it is none of these.
    """
    latest = queries.latest_versions(connection, [model.name])
    if not stages:
        return latest
    by_stage = {version.stage.value.lower(): version for version in latest}
    known = {stage.value.lower() for stage in ModelStage} - {ModelStage.DELETED.value.lower()}
    found = []
    for text in stages:
        if text.lower() in known:
            found += [by_stage[text.lower()]] if text.lower() in by_stage else []
            continue
        try:
            found.append(version_at(catalog, connection, model, text))
        except NotFoundError as error:
            if error.code != "alias-not-found":
                raise
            raise InvalidInputError(
                f"{text[:80]!r} is neither a stage nor an alias of {model.name}", code="bad-stage"
            ) from error
    return found
