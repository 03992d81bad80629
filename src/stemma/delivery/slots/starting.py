"""Gets a slot running: through the server when there is one, by itself when not.

Invariants:
    * A process started here goes on when this command ends; the next server adopts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol, final

from typing_extensions import override

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.asked import ask_for, take_back
from stemma.delivery.slots.base import SlotSpec, SlotState, SlotStatus
from stemma.delivery.slots.probe import Answer, Probe
from stemma.delivery.slots.statuses import read_statuses
from stemma.delivery.slots.supervisor import Supervisor
from stemma.domain.errors import UnavailableError

_ROUND_SECONDS: Final = 0.05
_ASKING_SECONDS: Final = 0.002
_SPARE_SECONDS: Final = 5.0


class SlotStarter(Protocol):
    """Knows slots, and can wait for one."""

    def statuses(self) -> Mapping[str, SlotStatus]:
        """Return every slot by name."""
        ...

    def status(self, name: str) -> SlotStatus | None:
        """Return one slot; ``None`` when there is none of that name."""
        ...

    def ensure(self, spec: SlotSpec, timeout_seconds: float) -> SlotStatus:
        """Return the slot once it is ready.

        Raises:
            UnavailableError: If it fails, or takes longer than the timeout.
        """
        ...


@final
class ServerSlots(SlotStarter):
    """Slots of a server that runs: it starts what the database, or this command, asks for."""

    def __init__(self, layout: ServeLayout) -> None:
        """Read what the server's supervisor writes down; ``close`` it afterwards."""
        self._layout = layout
        self._asked: list[SlotSpec] = []

    def close(self) -> None:
        """Ask for nothing any more: what the database names runs on."""
        for spec in self._asked:
            take_back(self._layout, spec)
        self._asked.clear()

    @override
    def statuses(self) -> Mapping[str, SlotStatus]:
        return read_statuses(self._layout)

    @override
    def status(self, name: str) -> SlotStatus | None:
        return self.statuses().get(name)

    @override
    def ensure(self, spec: SlotSpec, timeout_seconds: float) -> SlotStatus:
        # The server keeps warm only what it would fall back to first.
        self._asked.append(spec)
        ask_for(self._layout, spec)
        return _wait(spec, timeout_seconds, lambda: self.status(spec.name))


@final
class OwnSlots(SlotStarter):
    """Slots of this command's own supervisor, when no server runs."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Adopt what runs; ``close`` it afterwards."""
        self._supervisor = supervisor

    def close(self) -> None:
        """Let go of what runs: it goes on, and the next server adopts it."""
        self._supervisor.close()

    @override
    def statuses(self) -> Mapping[str, SlotStatus]:
        return self._supervisor.statuses()

    @override
    def status(self, name: str) -> SlotStatus | None:
        return self.statuses().get(name)

    @override
    def ensure(self, spec: SlotSpec, timeout_seconds: float) -> SlotStatus:
        others = [status.spec for name, status in self.statuses().items() if name != spec.name]
        self._supervisor.want([*others, spec])

        def look() -> SlotStatus | None:
            self._supervisor.tick()
            return self.status(spec.name)

        return _wait(spec, timeout_seconds, look)


def is_answering(status: SlotStatus, timeout_seconds: float = 1.0) -> bool:
    """Ask a slot's processes now; what a supervisor saw last may be some seconds old.

    Returns:
        Whether at least one says within the time that it is ready.
    """
    deadline = time.monotonic() + timeout_seconds
    for path in status.sockets:
        probe, result = Probe(path, deadline=deadline), None
        while result is None:
            result = probe.advance(time.monotonic())
            if result is None:
                time.sleep(_ASKING_SECONDS)
        if result.answer is Answer.READY:
            return True
    return False


def _wait(
    spec: SlotSpec, timeout_seconds: float, look: Callable[[], SlotStatus | None]
) -> SlotStatus:
    end = time.monotonic() + timeout_seconds + _SPARE_SECONDS
    while True:
        status = look()
        if status is not None and status.state is SlotState.READY and is_answering(status):
            return status
        if status is not None and status.state is SlotState.FAILED:
            raise UnavailableError(
                f"{spec.model} {spec.version} does not start: {status.detail}",
                code="slot-failed",
                hint="stemma status",
            )
        if time.monotonic() > end:
            state = "not started by the server" if status is None else status.state.value
            raise UnavailableError(
                f"{spec.model} {spec.version} is not ready after {timeout_seconds:.0f} s: {state}",
                code="slot-not-ready",
                hint="stemma status",
            )
        time.sleep(_ROUND_SECONDS)
