"""What the registry of the tracking protocol needs of the hub.

Invariants:
    * An alias is a channel; the policy of the model says which names are allowed.
    * A version that is not released becomes a candidate before an alias points at it, and
      ``stable`` never does.
"""

from __future__ import annotations

from typing import final

from stemma.domain.errors import NotFoundError
from stemma.domain.registry import ModelVersion, RegisteredModel
from stemma.hub.aliasing import point_alias
from stemma.hub.exposing import expose
from stemma.hub.local import LocalHub
from stemma.hub.local_parts import LocalParts


@final
class RegistryBridge:
    """Channels and candidates of one project."""

    def __init__(self, parts: LocalParts) -> None:
        """Work on what ``parts`` hold."""
        self._parts = parts

    def point(self, model: RegisteredModel, alias: str, version: ModelVersion, by: str) -> None:
        """Let a channel point at a version.

        Raises:
            ConflictError: If the channel is ``stable`` and the version is not released.
            InvalidInputError: If no channel may be called that, or the files cannot be adopted.
        """
        point_alias(self._parts, model, alias, version, by)

    def expose(self, version: ModelVersion) -> None:
        """Let clients load a release that Stemma recorded, where they can at all."""
        expose(self._parts, version)

    def drop(self, model: RegisteredModel, alias: str, by: str) -> None:
        """Remove a channel; none is fine."""
        try:
            LocalHub(self._parts).move_channel(
                model.model, alias, "", reason="alias removed", moved_by=by
            )
        except NotFoundError as error:
            if error.code != "channel-not-found":
                raise
