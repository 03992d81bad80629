"""Models that MLflow logged, made into candidates that can be released."""

from __future__ import annotations

from dataclasses import dataclass

from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError
from stemma.domain.registry import ModelVersion, RegisteredModel
from stemma.domain.run import RunId
from stemma.hub.local_parts import LocalParts


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A version that can be released.

    Attributes:
        run: The run it is of.
        manifest: Its manifest.
    """

    run: RunId
    manifest: Digest


def adopt_version(parts: LocalParts, model: RegisteredModel, version: ModelVersion) -> Candidate:
    """Make a candidate of a registered version."""
    del parts
    raise ConflictError(
        f"version {version.number} of {model.name} is not released", code="unreleased-on-stable"
    )
