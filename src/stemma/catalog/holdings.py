"""What each recorded version names in the store.

Invariants:
    * Every tree and blob that a manifest needs to be compared, loaded or checked out is named.

It reads nothing; ``stemma.catalog.harm`` asks what of it is there and sound.
"""

from __future__ import annotations

from collections.abc import Iterator

from stemma.domain.digest import Digest
from stemma.domain.manifest import Manifest


def contents(manifest: Manifest) -> Iterator[tuple[str, Digest]]:
    """Yield each tree and blob of a version with the part it belongs to, in words."""
    for part, digest in (*_trees(manifest), *_blobs(manifest)):
        if digest is not None:
            yield part, digest


def _trees(manifest: Manifest) -> Iterator[tuple[str, Digest]]:
    yield "code", manifest.architecture.content
    for dataset in manifest.datasets.datasets:
        yield f"dataset {dataset.name}", dataset.content
    yield "pipeline", manifest.pipeline.content
    yield "artifact", manifest.artifact.content


def _blobs(manifest: Manifest) -> Iterator[tuple[str, Digest | None]]:
    architecture, golden = manifest.architecture, manifest.evidence.golden
    yield "uncommitted changes", architecture.git.patch if architecture.git else None
    yield "structure", architecture.structure
    yield "tokens", architecture.tokens
    for dataset in manifest.datasets.datasets:
        yield f"statistics of {dataset.name}", dataset.statistics
        yield f"row digests of {dataset.name}", dataset.row_digests
    yield "hyperparameters", manifest.hyperparameters.content
    yield "tensor digests", manifest.artifact.tensors
    yield "environment lock", manifest.environment.lock
    yield "predictions", golden.predictions if golden else None
