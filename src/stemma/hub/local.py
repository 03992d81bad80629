"""The hub of one machine: services composed in this process, no server.

Invariants:
    * Whoever stores holds the store's lock shared (``writing``); ``collect_garbage``
      holds it alone.
    * The head snapshot that ``status`` reads is written after the rows, never before.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

from typing_extensions import override

from stemma.hub.base import Hub
from stemma.hub.local_delivery import LocalDelivery
from stemma.hub.local_parts import LocalParts
from stemma.hub.local_repair import LocalRepair
from stemma.hub.local_runs import LocalRuns
from stemma.hub.local_tokens import LocalTokens
from stemma.hub.local_tracked import LocalTracked
from stemma.store.objects import ObjectStore


@final
class LocalHub(LocalRuns, LocalDelivery, LocalTracked, LocalRepair, LocalTokens, Hub):
    """Every verb, in this process."""

    def __init__(self, parts: LocalParts) -> None:
        """Hold the services."""
        self._parts = parts

    @property
    def parts(self) -> LocalParts:
        """The services it is composed of, for the server."""
        return self._parts

    @property
    @override
    def objects(self) -> ObjectStore:
        return self._parts.objects

    @property
    @override
    def project_root(self) -> Path:
        return self._parts.root

    @property
    @override
    def user(self) -> str:
        return self._parts.user

    @override
    def writing(self, *, is_patient: bool = False) -> AbstractContextManager[None]:
        return self._parts.writing(is_patient=is_patient)

    @override
    def close(self) -> None:
        self._parts.database.close()
