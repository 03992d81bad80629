"""Slots a command asks the server for, beside what the database says is to run.

A rollback to a version that is not warm needs its processes before it decides anything: it
leaves a file in ``asked/``, and the server keeps that slot running as long as the file counts.

Invariants:
    * What a process asked for counts no longer than that process lives.
    * A file that cannot be read asks for nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import SlotSpec
from stemma.delivery.slots.files import replace_bytes
from stemma.delivery.slots.process import is_running, look_at


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One file: the slot, and who asks."""

    spec: SlotSpec
    pid: int
    start_ticks: int


def ask_for(layout: ServeLayout, spec: SlotSpec) -> None:
    """Ask the server to keep a slot running until ``take_back``, or this process's end."""
    seen = look_at(os.getpid())
    asked = _Asked(spec=spec, pid=os.getpid(), start_ticks=seen.start_ticks if seen else 0)
    path = _path(layout, spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(path, msgspec.json.encode(asked))


def take_back(layout: ServeLayout, spec: SlotSpec) -> None:
    """Ask for it no longer."""
    _path(layout, spec).unlink(missing_ok=True)


def asked_slots(layout: ServeLayout) -> tuple[SlotSpec, ...]:
    """Return what is asked for now; what dead processes left is removed."""
    found = []
    for path in sorted(layout.asked.glob("*.json")):
        try:
            asked = msgspec.json.decode(path.read_bytes(), type=_Asked)
        except (OSError, msgspec.DecodeError):
            continue
        if is_running(asked.pid, asked.start_ticks):
            found.append(asked.spec)
        else:
            path.unlink(missing_ok=True)
    return tuple(found)


def _path(layout: ServeLayout, spec: SlotSpec) -> Path:
    return layout.asked / f"{spec.name}.{os.getpid()}.json"
