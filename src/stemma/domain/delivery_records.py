"""Configuration and deployment records: what production is to be, as immutable records.

Invariants (normative text: ``docs/formats/manifest.md``):
    * The newest deployment record of a model says what production is to be.
    * A configuration's digest is written into its record and never computed again, so that
      a later program that knows more settings still finds it by the digest it was given.
    * Records are canonical JSON named by sha256, so the database is only an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stemma.domain.configuration import Configuration
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError

CONFIGURATION_SCHEMA: Final = "stemma.configuration/1"
DEPLOYMENT_SCHEMA: Final = "stemma.deployment/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationRecord:
    """A configuration that a model was, or was to be, served with.

    Attributes:
        schema: Always ``stemma.configuration/1``.
        model: Name of the model.
        sequence: Counts the model's configurations from 1; shown as ``c3``.
        digest: sha256 of the values, as of the program that wrote the record.
        configuration: The values.
        previous: Record of the configuration before this one.
        created_at: When it was first used.
        created_by: User name.
    """

    model: str
    sequence: int
    digest: Digest
    configuration: Configuration
    previous: Digest | None = None
    created_at: datetime
    created_by: str
    schema: str = CONFIGURATION_SCHEMA

    def __post_init__(self) -> None:
        """Refuse a schema this program does not know."""
        _check_schema(self.schema, CONFIGURATION_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRecord:
    """What production is to be for one model, from a moment on.

    Attributes:
        schema: Always ``stemma.deployment/1``.
        model: Name of the model.
        sequence: Counts the deployments of the model from 1.
        version: SemVer text.
        manifest: sha256 of its manifest.
        configuration: sha256 of its configuration.
        kind: ``serve``, ``promote``, ``rollback``, ``reconfigure``; ``withdraw``: the version
            named here is served no more.
        previous: Record of the deployment before this one.
        reason: Why.
        deployed_at: When.
        deployed_by: User name.
    """

    model: str
    sequence: int
    version: str
    manifest: Digest
    configuration: Digest
    kind: str
    previous: Digest | None = None
    reason: str = ""
    deployed_at: datetime
    deployed_by: str
    schema: str = DEPLOYMENT_SCHEMA

    def __post_init__(self) -> None:
        """Refuse a schema this program does not know."""
        _check_schema(self.schema, DEPLOYMENT_SCHEMA)


def _check_schema(schema: str, known: str) -> None:
    if schema != known:
        raise InvalidInputError(
            f"schema {schema!r} is not known; this program knows {known!r}",
            code="unknown-schema",
            hint="upgrade stemma",
        )
