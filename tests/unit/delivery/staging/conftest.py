"""A version of a model as small as a table can be made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from stemma.delivery.load.result import LoadResult, Sample
from stemma.delivery.staging.table import Hardware, Measured, Start, Usage
from stemma.domain.component import (
    ArchitectureComponent,
    ArtifactComponent,
    DatasetsComponent,
    Environment,
    HyperparametersComponent,
    Package,
    PipelineComponent,
    Signature,
    ValueSpec,
)
from stemma.domain.configuration import Configuration
from stemma.domain.digest import Digest
from stemma.domain.facts import VersionFacts
from stemma.domain.manifest import Evidence, Manifest, Metric, Provenance
from stemma.domain.policy import parse_policy
from stemma.store.hashing import hash_bytes

POLICY = {
    "gates": {"accuracy": ">= 0.95"},
    "budgets": {"latency_p99_ms": 10, "memory_peak_mib": 512},
}


def digest(text: str) -> Digest:
    return hash_bytes(text.encode())


def manifest(**changes: Any) -> Manifest:
    """Return a version of digits; ``hyperparameters`` names the blob in its store."""
    table = changes.pop("hyperparameters", digest("{}"))
    environment = Environment(
        identity=digest("environment"),
        lock=digest("lock"),
        packages=(Package(name="numpy", version=changes.pop("numpy", "2.0")),),
        python=changes.pop("python", "3.11.9"),
        platform="linux-x86_64",
        accelerator=changes.pop("accelerator", ""),
    )
    inputs = ValueSpec(name="x", dtype=changes.pop("dtype", "float32"), shape=(-1, 2))
    return Manifest(
        model="digits",
        architecture=ArchitectureComponent(
            identity=digest("a"),
            content=digest("a"),
            family="f",
            summary="s",
            signature=Signature(inputs=(inputs,), methods=("predict",)),
            labels=changes.pop("labels", ("0", "1")),
        ),
        datasets=DatasetsComponent(identity=digest("d")),
        pipeline=PipelineComponent(identity=digest("p"), content=digest("p")),
        hyperparameters=HyperparametersComponent(identity=table, content=table),
        artifact=ArtifactComponent(identity=digest("w"), content=digest("w")),
        environment=environment,
        evidence=Evidence(
            metrics=(Metric(name="accuracy", value="0.97"),),
            service=(Metric(name="latency_p99", value="99.0", unit="ms"),),
        ),
        provenance=Provenance(
            run="r-1",
            started_at=datetime(2026, 5, 3, tzinfo=UTC),
            ended_at=datetime(2026, 5, 3, tzinfo=UTC),
            created_by="ann",
        ),
        metadata={},
    )


def measured(**changes: Any) -> Measured:
    """Return what was measured of a version that keeps everything asked for."""
    samples = tuple(
        Sample(scheduled_at=i / 200, latency_us=1000 + i % 20 * 50, status=200) for i in range(2000)
    )
    return replace(
        Measured(
            label="digits@1.1.0",
            policy=parse_policy(POLICY, "model.digits"),
            facts=VersionFacts(manifest=manifest()),
            deployed_label="digits@1.0.0",
            deployed=VersionFacts(manifest=manifest()),
            configuration=Configuration(),
            hardware=Hardware(has_python=True, platform="linux-x86_64"),
            start=Start(is_prepared=True, is_ready=True),
            load=LoadResult(samples=samples, seconds=10.0),
            usage=Usage(memory_peak_bytes=141 << 20, cpu_seconds=1.0),
        ),
        **changes,
    )


@pytest.fixture
def make_measured() -> Callable[..., Measured]:
    return measured


@pytest.fixture
def make_manifest() -> Callable[..., Manifest]:
    return manifest
