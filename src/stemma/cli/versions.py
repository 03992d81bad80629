"""What several verbs ask the hub about one version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stemma.domain.facts import VersionFacts
    from stemma.domain.manifest import Manifest
    from stemma.hub.base import Hub, VersionView


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedVersion:
    """A version with its tables.

    Attributes:
        view: The version.
        facts: Its tables.
        passed: Names of the hyperparameters that were passed.
    """

    view: VersionView
    facts: VersionFacts
    passed: tuple[str, ...]


def load_version(hub: Hub, ref: str) -> LoadedVersion:
    """Resolve a ref and load its tables.

    Raises:
        NotFoundError: If nothing has that name.
    """
    view = hub.resolve(ref)
    facts = hub.facts(view)
    passed = () if "params" in facts.missing else passed_names(hub, view.manifest)
    return LoadedVersion(view=view, facts=facts, passed=passed)


def passed_names(hub: Hub, manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the hyperparameters that were passed."""
    table = json.loads(hub.objects.read_bytes(manifest.hyperparameters.content))
    return tuple(table.get("passed", {}))
