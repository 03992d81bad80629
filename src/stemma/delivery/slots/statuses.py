"""What the supervisor sees, in one file for other processes.

Invariants:
    * A reader sees one round whole, and never takes a process that has ended for one that runs.

Example:
    >>> read_statuses(ServeLayout(state=Path("/nowhere/.stemma")))
    {}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import ReplicaStatus, SlotState, SlotStatus
from stemma.delivery.slots.files import replace_bytes
from stemma.delivery.slots.process import is_running

_WORST_FIRST: Final = (
    SlotState.FAILED,
    SlotState.RESTARTING,
    SlotState.UNREADY,
    SlotState.STOPPED,
    SlotState.PREPARING,
    SlotState.STARTING,
    SlotState.READY,
)
_GONE: Final = "its process is gone, and no server watches it"


class _File(msgspec.Struct, frozen=True):
    """The file: statuses, and when each of their processes started."""

    slots: tuple[SlotStatus, ...]
    start_ticks: dict[str, int]


def worst(states: Iterable[SlotState]) -> SlotState:
    """Return the state of a slot whose processes are in these; STOPPED when it has none."""
    return min(states, key=_WORST_FIRST.index, default=SlotState.STOPPED)


def write_statuses(
    layout: ServeLayout, statuses: Sequence[SlotStatus], start_ticks: Mapping[int, int]
) -> None:
    """Write ``slots.json``; ``start_ticks`` are by process id."""
    layout.slots_file.parent.mkdir(parents=True, exist_ok=True)
    content = _File(tuple(statuses), {str(pid): ticks for pid, ticks in start_ticks.items()})
    replace_bytes(layout.slots_file, msgspec.json.encode(content))


def read_statuses(layout: ServeLayout) -> dict[str, SlotStatus]:
    """Return slots by name as last written, less the processes that do not run any more."""
    try:
        content = msgspec.json.decode(layout.slots_file.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError):
        return {}
    return {status.spec.name: _checked(status, content.start_ticks) for status in content.slots}


def _checked(status: SlotStatus, start_ticks: Mapping[str, int]) -> SlotStatus:
    replicas = tuple(_checked_replica(replica, start_ticks) for replica in status.replicas)
    if replicas == status.replicas:
        return status
    return replace(status, replicas=replicas, state=worst(r.state for r in replicas), detail=_GONE)


def _checked_replica(replica: ReplicaStatus, start_ticks: Mapping[str, int]) -> ReplicaStatus:
    if not replica.pid or is_running(replica.pid, start_ticks.get(str(replica.pid), -1)):
        return replica
    return replace(replica, pid=0, memory_bytes=0, state=SlotState.STOPPED, detail=_GONE)
