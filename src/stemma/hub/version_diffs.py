"""Two versions compared as far as what is here tells.

Invariants:
    * What stayed on a remote changes no answer to whether a component is the same: identities
      are in the manifests.
    * Where details cannot be told, the command that fetches them is.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from stemma.catalog.diff import ComponentDiff, Sources, diff_components, unified_patch
from stemma.catalog.sources import load_sources
from stemma.domain.facts import Structure, VersionFacts
from stemma.hub.base import VersionDiff, VersionView
from stemma.store.objects import ObjectStore
from stemma.store.sizes import added_bytes

_PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "architecture": "code",
        "pipeline": "code",
        "hyperparameters": "params",
        "artifact": "artifact",
    }
)
"""The part that the details of a component are read from."""


def diff_of(
    objects: ObjectStore,
    views: tuple[VersionView, VersionView],
    facts: tuple[VersionFacts, VersionFacts],
) -> VersionDiff:
    """Compare two versions component by component."""
    missing = {*facts[0].missing, *facts[1].missing}
    before, after = (_without(it, missing) for it in facts)
    sources = Sources(texts={}), Sources(texts={})
    if "code" not in missing:
        sources = load_sources(objects, before), load_sources(objects, after)
    stored_bytes = None
    if "artifact" not in missing:
        stored_bytes = added_bytes(
            objects,
            after.manifest.artifact.content,
            beside=before.manifest.artifact.content,
        )
    components = diff_components(before, after, sources, stored_bytes)
    return VersionDiff(
        before=views[0].label,
        after=views[1].label,
        components=tuple(_told(component, views, facts) for component in components),
        patch=unified_patch(sources),
    )


def _without(facts: VersionFacts, missing: set[str]) -> VersionFacts:
    """Leave out the tables that one of the two versions lacks."""
    if "code" in missing:
        facts = replace(facts, structure=Structure(), tokens=())
    if "params" in missing:
        facts = replace(facts, hyperparameters={})
    if "artifact" in missing:
        facts = replace(facts, tensor_digests={})
    return facts


def _told(
    component: ComponentDiff,
    views: tuple[VersionView, VersionView],
    facts: tuple[VersionFacts, VersionFacts],
) -> ComponentDiff:
    """Say what would tell more of a component that differs."""
    part = _PARTS.get(component.component, "")
    lacking = [
        view.label for view, it in zip(views, facts, strict=True) if part and part in it.missing
    ]
    left, right = (it.manifest.hyperparameters for it in facts)
    if part == "params" and lacking and left.identity != right.identity:
        component = replace(component, is_same=False, summary="differ")
    if component.is_same or not lacking:
        return component
    pulls = " && ".join(shlex.join(["stemma", "pull", label, "--only", part]) for label in lacking)
    return replace(component, details=(*component.details, f"more is on the remote: {pulls}"))
