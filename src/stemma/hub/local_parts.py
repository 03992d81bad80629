"""What a local hub is composed of; ``stemma.server.wiring`` chooses the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stemma.catalog.releasing import Releaser
from stemma.catalog.service import CatalogService
from stemma.db.engine import Database
from stemma.domain.policy import ModelPolicy, parse_policy
from stemma.store.leases import Leases
from stemma.store.locks import StoreLock
from stemma.store.objects import ObjectStore
from stemma.tracking.service import RunService

if TYPE_CHECKING:
    from stemma.delivery.parts import DeliveryParts

_PATIENCE_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalParts:
    """The services of one project.

    Attributes:
        root: The project's folder.
        user: Name written into records.
        models: Raw policy tables by model.
        objects: Content store.
        lock: Store lock.
        leases: What is being read.
        lock_timeout_seconds: How long to wait for it.
        database: Rows; closed with the hub.
        catalog: Versions, releases, channels.
        releaser: Decides and appends releases.
        runs: Runs.
        clock: Aware current time.
        make_delivery: Composes delivery at its first use, for most verbs do without.
        may_use_network: Whether environments may be fetched from the package index.
        load_remotes: Reads the address of each remote by name, as the settings have it now.
    """

    root: Path
    user: str
    models: Mapping[str, Mapping[str, object]]
    objects: ObjectStore
    lock: StoreLock
    leases: Leases
    lock_timeout_seconds: float
    database: Database
    catalog: CatalogService
    releaser: Releaser
    runs: RunService
    clock: Callable[[], datetime]
    make_delivery: Callable[[LocalParts], DeliveryParts]
    may_use_network: bool = True
    load_remotes: Callable[[], Mapping[str, str]] = dict

    @property
    def delivery(self) -> DeliveryParts:
        """Delivery of this project."""
        return self.make_delivery(self)

    def policy(self, model: str) -> ModelPolicy:
        """Return the model's policy; the default one when ``stemma.toml`` names none.

        Raises:
            InvalidInputError: If its table has a wrong key, type or gate.
        """
        return parse_policy(self.models.get(model, {}), f"model.{model}")

    def writing(self, *, is_patient: bool = False) -> AbstractContextManager[None]:
        """Hold the store shared from the first ``put`` until the row that names the result.

        Args:
            is_patient: Wait for an hour: what is to be written cost hours to make.

        Raises:
            LockedError: If garbage collection holds it for longer than the timeout.
        """
        seconds = _PATIENCE_SECONDS if is_patient else self.lock_timeout_seconds
        return self.lock.shared(timeout_seconds=seconds)
