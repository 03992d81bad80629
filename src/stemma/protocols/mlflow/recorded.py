"""The model that a finished run recorded itself, as files among the run's artifacts.

Invariants:
    * They are the files of the manifest; nothing is copied and no row is written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from stemma.catalog.service import CatalogService
from stemma.domain.artifact import Artifact, ArtifactEntry, check_artifact_folder
from stemma.domain.digest import Digest
from stemma.domain.tree import Tree
from stemma.protocols.mlflow.ports import Services
from stemma.store.objects import ObjectStore
from stemma.tracking.artifacts import NATIVE_FOLDER

_REMEMBERED: Final = 16


def recorded_entries(services: Services, manifest: Digest, folder: str) -> list[ArtifactEntry]:
    """Return what a folder of the recorded model holds; ``folder`` is below the run's root."""
    prefix = f"{folder}/" if check_artifact_folder(folder) else ""
    found: dict[str, ArtifactEntry] = {}
    for path, file in _files(services, manifest).items():
        if path.startswith(prefix):
            name, slash, _ = path[len(prefix) :].partition("/")
            is_folder = bool(slash)
            found[name] = ArtifactEntry(
                path=prefix + name,
                is_folder=is_folder,
                size_bytes=0 if is_folder else file.size_bytes,
            )
    return list(found.values())


def recorded_file(services: Services, manifest: Digest, path: str) -> Artifact | None:
    """Return a file of the recorded model."""
    return _files(services, manifest).get(path)


def _files(services: Services, manifest: Digest) -> dict[str, Artifact]:
    tree = _tree(services.catalog, services.objects, manifest)
    return {
        f"{NATIVE_FOLDER}/{entry.path}": Artifact(
            owner="", path=entry.path, file=entry.digest, size_bytes=entry.size_bytes
        )
        for entry in tree.entries
        if entry.digest is not None
    }


@lru_cache(maxsize=_REMEMBERED)
def _tree(catalog: CatalogService, objects: ObjectStore, manifest: Digest) -> Tree:
    return objects.read_tree(catalog.manifest(manifest).artifact.content)
