"""What clients send to the registry, and what they are answered, field by field.

Invariants:
    * Every field has MLflow's name; a field that is not sent is empty.
    * ``semver`` and ``digest`` of a version are ours; clients pass them over.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stemma.domain.registry import ModelVersion, RegisteredModel
from stemma.domain.tracking import to_microseconds


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A tag."""

    key: str
    value: str = ""


class CreateModel(msgspec.Struct, frozen=True, kw_only=True):
    """Register a model."""

    name: str
    tags: list[Tag] = []
    description: str = ""


class ModelName(msgspec.Struct, frozen=True, kw_only=True):
    """Which registered model is meant."""

    name: str


class RenameModel(msgspec.Struct, frozen=True, kw_only=True):
    """Give a registered model another name."""

    name: str
    new_name: str = ""


class UpdateModel(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a registered model."""

    name: str
    description: str = ""


class ModelTag(msgspec.Struct, frozen=True, kw_only=True):
    """A tag of a registered model."""

    name: str
    key: str
    value: str = ""


class ModelAlias(msgspec.Struct, frozen=True, kw_only=True):
    """An alias of a registered model, and the version it shall name."""

    name: str
    alias: str
    version: str = ""


class StageNames(msgspec.Struct, frozen=True, kw_only=True):
    """Which stages of a registered model are asked for."""

    name: str
    stages: list[str] = []


class CreateVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Register a version."""

    name: str
    source: str
    run_id: str = ""
    tags: list[Tag] = []
    description: str = ""
    model_id: str = ""


class VersionName(msgspec.Struct, frozen=True, kw_only=True):
    """Which version is meant."""

    name: str
    version: str


class UpdateVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a version; its source never changes."""

    name: str
    version: str
    description: str = ""
    source: str = ""


class TransitionStage(msgspec.Struct, frozen=True, kw_only=True):
    """Let a version stand in a stage."""

    name: str
    version: str
    stage: str
    archive_existing_versions: bool = False


class VersionTag(msgspec.Struct, frozen=True, kw_only=True):
    """A tag of a version."""

    name: str
    version: str
    key: str
    value: str = ""


class SearchRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """A search; 0 results means MLflow's own number of them."""

    filter: str = ""
    max_results: int = 0
    order_by: list[str] = []
    page_token: str = ""


class AliasOfModel(msgspec.Struct, frozen=True, kw_only=True):
    """An alias, with the number of the version it names."""

    alias: str
    version: str


class WireVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version."""

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    current_stage: str
    status: str
    source: str
    user_id: str = ""
    description: str = ""
    run_id: str = ""
    model_id: str = ""
    tags: list[Tag] = []
    aliases: list[str] = []
    semver: str = ""
    digest: str = ""


class WireModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registered model."""

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str = ""
    latest_versions: list[WireVersion] = []
    tags: list[Tag] = []
    aliases: list[AliasOfModel] = []


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model is the answer."""

    registered_model: WireModel


class VersionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A version is the answer."""

    model_version: WireVersion


def tags_of(tags: list[Tag]) -> dict[str, str]:
    """Return tags by key; of two with one key the last counts."""
    return {tag.key: tag.value for tag in tags}


def to_wire_version(version: ModelVersion, aliases: list[str] | None = None) -> WireVersion:
    """Return a version as clients read it."""
    return WireVersion(
        name=version.name,
        version=str(version.number),
        creation_timestamp=to_microseconds(version.created_at) // 1000,
        last_updated_timestamp=to_microseconds(version.updated_at) // 1000,
        current_stage=version.stage.value,
        status="READY",
        source=version.source,
        user_id=version.created_by,
        description=version.description,
        run_id=version.run,
        model_id=version.logged_model,
        tags=_wire_tags(version.tags),
        aliases=sorted(aliases or []),
        semver=version.version,
        digest="" if version.manifest is None else str(version.manifest),
    )


def to_wire_model(
    model: RegisteredModel,
    aliases: dict[str, int] | None = None,
    latest: list[WireVersion] | None = None,
) -> WireModel:
    """Return a registered model as clients read it."""
    return WireModel(
        name=model.name,
        creation_timestamp=to_microseconds(model.created_at) // 1000,
        last_updated_timestamp=to_microseconds(model.updated_at) // 1000,
        description=model.description,
        latest_versions=latest or [],
        tags=_wire_tags(model.tags),
        aliases=[
            AliasOfModel(alias=alias, version=str(number))
            for alias, number in sorted((aliases or {}).items())
        ],
    )


def _wire_tags(tags: Mapping[str, str]) -> list[Tag]:
    return [Tag(key=key, value=value) for key, value in sorted(tags.items())]
