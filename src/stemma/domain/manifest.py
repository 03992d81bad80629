"""The manifest: one immutable version, as the record whose sha256 is its identity.

Invariants (normative text: ``docs/formats/manifest.md``):
    * ``sha256(encode_manifest(m))`` identifies the version; golden vectors in
      ``tests/vectors/`` fix the bytes.
    * Nothing in it is a float: metric values are decimal text as ``repr`` gives it.
    * From manifests, release records and channel moves alone the catalog can be rebuilt.

This module does not read the store or the clock.

Example:
    >>> decode_manifest(encode_manifest(manifest)) == manifest  # doctest: +SKIP
    True
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stemma.domain import canonical
from stemma.domain.component import (
    ArchitectureComponent,
    ArtifactComponent,
    DatasetsComponent,
    Environment,
    HyperparametersComponent,
    PipelineComponent,
)
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError

MANIFEST_SCHEMA: Final = "stemma.manifest/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measured value.

    Attributes:
        name: e.g. ``accuracy`` or ``recall``.
        value: Decimal text as ``repr(float)`` gives it; finite.
        slice: Part of the data it was measured on, e.g. ``class=8``; empty for all of it.
        sample_size: Number of rows behind it; 0 when unknown.
        unit: e.g. ``ms``; empty when there is none.
    """

    name: str
    value: str
    slice: str = ""
    sample_size: int = 0
    unit: str = ""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number.

        Raises:
            InvalidInputError: If ``value`` is NaN, infinite or not a number.
        """
        try:
            number = float(self.value)
        except ValueError as error:
            raise InvalidInputError(
                f"metric {self.key} is not a number: {self.value!r}", code="bad-metric"
            ) from error
        if not math.isfinite(number):
            raise InvalidInputError(
                f"metric {self.key} is {self.value}; a metric must be finite",
                code="metric-not-finite",
                hint="look for an empty slice or a division by zero in the evaluation",
            )

    @property
    def key(self) -> str:
        """Name with slice: ``recall[class=8]``, or ``accuracy``."""
        return f"{self.name}[{self.slice}]" if self.slice else self.name

    @property
    def number(self) -> float:
        """The value as a float."""
        return float(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSet:
    """Predictions of this version on its golden set.

    Attributes:
        dataset: Name of the dataset (role test) that is the golden set.
        identity: Identity of that dataset.
        predictions: Blob ``npz`` (never pickled) with arrays ``row_digest`` (n, 16) uint8,
            ``prediction`` (n,), optionally ``label`` (n,), ``score`` (n, k), ``slice`` (n,).
        row_count: n.
        task: ``classification``, ``regression`` or ``other``.
        metric: Name of the metric that behaviour is judged by.
        training_overlap_count: Rows that are also training rows; such rows prove nothing.
    """

    dataset: str
    identity: Digest
    predictions: Digest
    row_count: int
    task: str
    metric: str
    training_overlap_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about how the version behaves.

    Attributes:
        metrics: Sorted by key.
        golden: Predictions on the golden set; ``None`` when there is none.
        service: Measured service level and resource use (``latency_p99`` in ms, ``memory_peak``…).
        licence: SPDX expression; empty when not declared.
        personal_data: ``none``, ``pseudonymised``, ``personal``, ``sensitive``; empty: undeclared.
    """

    metrics: tuple[Metric, ...] = ()
    golden: GoldenSet | None = None
    service: tuple[Metric, ...] = ()
    licence: str = ""
    personal_data: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who made it, when, how and from what.

    Attributes:
        run: Id of the run, ``r-`` and hexadecimal digits.
        started_at: When the run started.
        ended_at: When it ended.
        created_by: User name.
        host: Host name.
        reason: Why, in the user's words; may be empty.
        parents: Manifests this version descends from (fine-tuned from, previous), in order.
        summary_step_count: How many logged steps the run's learning curves have.
    """

    run: str
    started_at: datetime
    ended_at: datetime
    created_by: str
    host: str = ""
    reason: str = ""
    parents: tuple[Digest, ...] = ()
    summary_step_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One version: five components, environment, evidence, provenance.

    Attributes:
        schema: Always ``stemma.manifest/1``.
        model: Name of the model.
        architecture: Component 1.
        datasets: Component 2.
        pipeline: Component 3.
        hyperparameters: Component 4.
        artifact: Component 5.
        environment: What it ran in.
        evidence: What is known of its behaviour.
        provenance: Who, when, why, from what.
        metadata: The model's own required and free metadata, by name.
    """

    model: str
    architecture: ArchitectureComponent
    datasets: DatasetsComponent
    pipeline: PipelineComponent
    hyperparameters: HyperparametersComponent
    artifact: ArtifactComponent
    environment: Environment
    evidence: Evidence
    provenance: Provenance
    metadata: dict[str, str | bool | int | list[str]]
    schema: str = MANIFEST_SCHEMA

    def __post_init__(self) -> None:
        """Refuse a schema this program does not know.

        Raises:
            InvalidInputError: If ``schema`` is not ``stemma.manifest/1``.
        """
        if self.schema != MANIFEST_SCHEMA:
            raise InvalidInputError(
                f"manifest schema {self.schema!r} is not {MANIFEST_SCHEMA!r}",
                code="unknown-schema",
                hint="upgrade stemma",
            )

    @property
    def identities(self) -> dict[str, Digest]:
        """Identity per component and of the environment, by name, in display order."""
        return {
            "architecture": self.architecture.identity,
            "datasets": self.datasets.identity,
            "pipeline": self.pipeline.identity,
            "hyperparameters": self.hyperparameters.identity,
            "artifact": self.artifact.identity,
            "environment": self.environment.identity,
        }

    def metric(self, key: str) -> Metric | None:
        """Return the metric with that key, such as ``recall[class=8]``."""
        return next((metric for metric in self.evidence.metrics if metric.key == key), None)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes; their sha256 is the version's identity."""
    return canonical.encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest from JSON bytes.

    Raises:
        InvalidInputError: If they are not a manifest of a known schema.
    """
    return canonical.decode(data, Manifest, what="manifest")


def pretty_manifest(manifest: Manifest) -> str:
    """Return indented JSON for people; not the bytes that are hashed."""
    return json.dumps(canonical.to_plain(manifest), ensure_ascii=False, indent=2, sort_keys=True)
