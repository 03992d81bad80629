"""Loads the tables a version is compared and shown by.

Decisions read ``stemma.domain.facts.VersionFacts``; this module is the only one
that turns a manifest's blobs into them.  It measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import cast

from stemma.domain import canonical
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.domain.facts import Structure, VersionFacts
from stemma.domain.manifest import Manifest
from stemma.store.objects import ObjectStore


def load_facts(
    objects: ObjectStore, manifest: Manifest, absent: Collection[Digest] = ()
) -> VersionFacts:
    """Load structure, tokens, tensor digests and hyperparameters of ``manifest``.

    Args:
        objects: Where they are stored.
        manifest: The version.
        absent: Contents that were left elsewhere; what they would tell stays empty.

    Raises:
        IntegrityError: If a blob is missing, flipped or not of its form.
    """
    architecture = manifest.architecture
    structure = Structure()
    if architecture.structure is not None and architecture.structure not in absent:
        structure = canonical.decode(
            objects.read_bytes(architecture.structure), Structure, what="structure"
        )
    tokens = _json(objects, architecture.tokens, [], absent)
    tensors = _json(objects, manifest.artifact.tensors, {}, absent)
    is_absent = manifest.hyperparameters.content in absent
    return VersionFacts(
        manifest=manifest,
        structure=structure,
        tokens=tuple(cast("list[str]", tokens)),
        tensor_digests=cast("dict[str, str]", tensors),
        hyperparameters={} if is_absent else load_hyperparameters(objects, manifest),
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


def _json(
    objects: ObjectStore, digest: Digest | None, empty: object, absent: Collection[Digest] = ()
) -> object:
    if digest is None or digest in absent:
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
