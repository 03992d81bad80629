"""What went wrong with model processes, for ``status`` and for people.

Invariants:
    * The file is bounded: the newest are kept.
    * A line that a power cut left half is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.files import replace_bytes

_KEPT: Final = 200
_MOST: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One thing that went wrong.

    Attributes:
        at: When it was seen.
        slot: Name of the slot.
        replica: Number of the process; -1 for the whole slot.
        kind: ``crash``, ``hang``, ``memory``, ``slow-start``, ``gave-up`` or ``preparation``.
        detail: What happened, in one sentence.
    """

    at: datetime
    slot: str
    replica: int
    kind: str
    detail: str


def append_incident(layout: ServeLayout, incident: Incident) -> None:
    """Add one; a disk that is full loses it rather than the watch."""
    path = _path(layout)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(msgspec.json.encode(incident) + b"\n")
        lines = path.read_bytes().splitlines(keepends=True)
        if len(lines) > _MOST:
            replace_bytes(path, b"".join(lines[-_KEPT:]))
    except OSError:
        return


def read_incidents(layout: ServeLayout, limit: int = 50) -> tuple[Incident, ...]:
    """Return the newest incidents, oldest first."""
    try:
        lines = _path(layout).read_bytes().splitlines()
    except OSError:
        return ()
    found: list[Incident] = []
    for line in lines[-limit:]:
        try:
            found.append(msgspec.json.decode(line, type=Incident))
        except msgspec.DecodeError:
            continue
    return tuple(found)


def _path(layout: ServeLayout) -> Path:
    return layout.slots_file.with_name("incidents.jsonl")
