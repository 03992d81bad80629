"""Loads the tables a version is compared and shown by.

Decisions read ``stemma.domain.facts.VersionFacts``; this module is the only one
that turns a manifest's blobs into them.  It measures nothing.
"""

from __future__ import annotations

import json
from typing import cast

from stemma.domain import canonical
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.domain.facts import Structure, VersionFacts
from stemma.domain.manifest import Manifest
from stemma.store.objects import ObjectStore


def load_facts(objects: ObjectStore, manifest: Manifest) -> VersionFacts:
    """Load structure, tokens, tensor digests and hyperparameters of ``manifest``.

    Raises:
        IntegrityError: If a blob is missing, flipped or not of its form.
    """
    architecture = manifest.architecture
    structure = Structure()
    if architecture.structure is not None:
        structure = canonical.decode(
            objects.read_bytes(architecture.structure), Structure, what="structure"
        )
    tokens = cast("list[str]", _json(objects, architecture.tokens, []))
    tensors = cast("dict[str, str]", _json(objects, manifest.artifact.tensors, {}))
    return VersionFacts(
        manifest=manifest,
        structure=structure,
        tokens=tuple(tokens),
        tensor_digests=tensors,
        hyperparameters=load_hyperparameters(objects, manifest),
    )


def load_hyperparameters(objects: ObjectStore, manifest: Manifest) -> dict[str, object]:
    """Return every hyperparameter by name; passed values win over defaults.

    Raises:
        IntegrityError: If the blob is missing, flipped or not of its form.
    """
    table = _json(objects, manifest.hyperparameters.content, {})
    if not isinstance(table, dict):
        raise _bad_blob(manifest.hyperparameters.content)
    return {**table.get("defaulted", {}), **table.get("passed", {})}


def _json(objects: ObjectStore, digest: Digest | None, empty: object) -> object:
    if digest is None:
        return empty
    try:
        return json.loads(objects.read_bytes(digest))
    except ValueError as error:
        raise _bad_blob(digest) from error


def _bad_blob(digest: Digest) -> IntegrityError:
    return IntegrityError(
        f"blob {digest} is not the JSON table its manifest names",
        code="bad-blob",
        hint="stemma doctor",
    )
