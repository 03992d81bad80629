"""What each recorded version names in the store, and what of it is not there.

A tree or blob that is gone leaves no bytes to verify, so only the manifest can tell.

Invariants:
    * Every tree and blob that a manifest needs to be compared, loaded or checked out is asked for.

It reads no contents; ``stemma.store.verify`` checks the bytes that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stemma.catalog.replay import load_records
from stemma.domain.digest import Digest
from stemma.domain.manifest import Manifest
from stemma.store.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something a version names that the store does not hold.

    Attributes:
        version: Model and run of the version, as a ref.
        part: Which part of it, in words.
        digest: What is not there.
    """

    version: str
    part: str
    digest: Digest


def find_losses(objects: ObjectStore) -> Iterator[Loss]:
    """Yield what recorded versions name and the store does not hold."""
    for manifest in load_records(objects).manifests.values():
        version = f"{manifest.model}@{manifest.provenance.run}"
        for part, tree in _trees(manifest):
            if not objects.has_tree(tree):
                yield Loss(version=version, part=part, digest=tree)
        for part, blob in _blobs(manifest):
            if blob is not None and not objects.has(blob):
                yield Loss(version=version, part=part, digest=blob)


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
