"""Where requests go: the whole route table as one value.

Invariants:
    * A data plane that applied a table sends no request anywhere the table does not name.
    * ``canary_weight_bp`` counts basis points of the model's requests, 10 000 = all.

This module moves nothing; see ``stemma.delivery.planes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stemma.domain.errors import InvalidInputError

ALL_TRAFFIC_BP: Final = 10_000

NOT_READY_HEADER: Final = "x-stemma-not-ready"
"""On an answer of a process that is still loading: a data plane asks another replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The processes of one slot.

    Attributes:
        slot: Name of the slot, unique in a table; letters, digits, ``.``, ``-``, ``_``.
        version: SemVer text of the version it serves.
        sockets: Absolute path of the Unix socket of each replica.
    """

    slot: str
    version: str
    sockets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRoute:
    """How one model's requests are spread.

    Attributes:
        model: Name of the model.
        stable: Where requests go that are not the canary's; also rescues what the canary fails.
        canary: The version on trial; ``None`` when there is none.
        canary_weight_bp: Share of requests meant for the canary, 0 to 10 000.
        probe: A slot reached only by requests with the header ``x-stemma-slot`` naming it
            (drills, staging); ``None`` when there is none.
        standby: Slots that get no request but must be known to the data plane, so that a
            rollback to one of them is a change of routes alone.
        timeout_seconds: How long a request may take; then 504.
    """

    model: str
    stable: Endpoint
    canary: Endpoint | None = None
    canary_weight_bp: int = 0
    probe: Endpoint | None = None
    standby: tuple[Endpoint, ...] = ()
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse a weight without a canary, or one that is no share.

        Raises:
            InvalidInputError: If the weight is wrong.
        """
        if not 0 <= self.canary_weight_bp <= ALL_TRAFFIC_BP or (
            self.canary is None and self.canary_weight_bp
        ):
            raise InvalidInputError(
                f"{self.model}: a canary weight of {self.canary_weight_bp} basis points"
                f"{' without a canary' if self.canary is None else ''}",
                code="bad-weight",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """All routes of one data plane.

    Attributes:
        revision: Grows with every change; a plane reports which one it has in force.
        models: One route per served model, by name; the first is the default for paths that
            name no model (``/invocations``).
        control_socket: Unix socket of the control application, which answers every other path;
            empty when there is none.
    """

    revision: int
    models: tuple[ModelRoute, ...] = ()
    control_socket: str = ""
