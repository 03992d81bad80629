"""Two versions of which a part stayed on a remote are compared all the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stemma.domain.facts import VersionFacts
from stemma.domain.manifest import Manifest, decode_manifest
from stemma.hub.base import VersionView
from stemma.hub.version_diffs import diff_of
from stemma.store.backends.memory import MemoryBackend
from stemma.store.hashing import hash_bytes
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

VECTOR = Path(__file__).parents[2] / "vectors" / "manifest" / "full.json"


def _view(version: str, manifest: Manifest) -> VersionView:
    digest = hash_bytes(version.encode())
    return VersionView(model="digits", version=version, digest=digest, manifest=manifest)


def test_what_differs_is_said_and_what_would_tell_more() -> None:
    """An equal component would seem changed, or a changed one equal, for want of its files."""
    left = decode_manifest(VECTOR.read_bytes())
    right = replace(
        left, hyperparameters=replace(left.hyperparameters, identity=hash_bytes(b"other"))
    )
    right = replace(right, pipeline=replace(right.pipeline, identity=hash_bytes(b"another")))
    diff = diff_of(
        ObjectStore(MemoryBackend(), MemoryChunkIndex()),
        (_view("1.0.0", left), _view("1.0.1", right)),
        (
            VersionFacts(manifest=left, hyperparameters={"depth": 3}, missing=("artifact",)),
            VersionFacts(manifest=right, missing=("code", "params")),
        ),
    )
    found = {component.component: component for component in diff.components}
    assert [name for name in found if not found[name].is_same] == ["pipeline", "hyperparameters"]
    assert found["hyperparameters"].summary == "differ"
    assert found["hyperparameters"].details == (
        "more is on the remote: stemma pull digits@1.0.1 --only params",
    )
    assert found["pipeline"].details[-1].endswith("stemma pull digits@1.0.1 --only code")
    assert diff.patch == ""
