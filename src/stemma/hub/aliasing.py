"""Aliases of registered models, which are channels of the catalog.

Invariants:
    * The policy of the model says which names are allowed.
    * A version that is not released becomes a candidate before an alias points at it, and
      ``stable`` never does.
"""

from __future__ import annotations

from stemma.catalog.channel_verbs import not_released
from stemma.domain.registry import ModelVersion, RegisteredModel
from stemma.domain.release import STABLE
from stemma.hub.adopting import adopt_version
from stemma.hub.local import LocalHub
from stemma.hub.local_parts import LocalParts


def point_alias(
    parts: LocalParts, model: RegisteredModel, alias: str, version: ModelVersion, by: str
) -> None:
    """Let a channel point at a version, released or not.

    Raises:
        ConflictError: If the channel is ``stable`` and the version is not released.
        InvalidInputError: If no channel may be called that, or the files cannot be adopted.
    """
    hub = LocalHub(parts)
    label = f"version {version.number} of {model.name}"
    hub.check_channel(model.model, alias)
    if version.version:
        hub.move_channel(
            model.model,
            alias,
            f"{model.model}@{version.version}",
            reason=f"alias of {label}",
            moved_by=by,
        )
        return
    if alias == STABLE:
        raise not_released(model.model, label)
    run = adopt_version(parts, model, version).run
    if run.manifest is not None:
        parts.catalog.move_channel_to_candidate(
            model.model, alias, (run.id, run.manifest), moved_by=by or parts.user
        )
