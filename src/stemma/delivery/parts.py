"""What delivery is composed of in one project; ``stemma.server`` chooses the classes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from stemma.delivery.layout import ServeLayout
from stemma.delivery.planes.base import DataPlane
from stemma.delivery.production.reading import DesireReader
from stemma.delivery.records.service import DeliveryService
from stemma.delivery.recovery.drill import DrillParts
from stemma.delivery.recovery.rollback import RollbackParts
from stemma.delivery.slots.preparing import Preparer
from stemma.delivery.staging.run import StagingOptions, StagingSubject, Told
from stemma.delivery.values import StagingReport


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryParts:
    """Delivery of one project.

    Attributes:
        service: Rows of delivery.
        reader: Reads what production is to be.
        layout: Where serving keeps its files.
        preparer: Makes versions ready in that folder.
        plane: Makes a handle on the data plane that serves, or served last; starts nothing.
        rollback_parts: Composes a rollback; ends what it opened.
        drill_parts: Composes a drill; ends what it opened.
        stage: Tries a version on an idle slot.
        end_staging: Ends processes that a killed validation left.
        cancelled: Set to end a validation under way.
    """

    service: DeliveryService
    reader: DesireReader
    layout: ServeLayout
    preparer: Preparer
    plane: Callable[[], DataPlane]
    rollback_parts: Callable[[], AbstractContextManager[RollbackParts]]
    drill_parts: Callable[[], AbstractContextManager[DrillParts]]
    stage: Callable[[StagingSubject, StagingOptions, Told], StagingReport]
    end_staging: Callable[[], None]
    cancelled: threading.Event
