"""Starts, watches and stops the processes of the slots that are wanted.

    supervisor = Supervisor(layout, Launcher(...).prepare, clock)
    supervisor.want([spec])
    while True:
        supervisor.tick()           # every 100 to 200 ms
        supervisor.statuses()[spec.name].state

Invariants:
    * No call but ``stop_all`` waits: preparing runs in threads, health requests never block.
    * Processes survive their supervisor; the next one adopts them with the state they had.
    * A slot's processes end before another slot takes its name.
    * Until the first ``want`` nothing that runs is stopped.

One thread calls ``want``, ``tick``, ``stop_all`` and ``close``; any may call ``statuses``.
One supervisor per layout at a time: whoever makes one holds the server's lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final, final

import msgspec

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import SlotSpec, SlotStatus
from stemma.delivery.slots.incidents import Incident, read_incidents
from stemma.delivery.slots.process import Launch, ModelProcess, adopt_all
from stemma.delivery.slots.replica import Timings
from stemma.delivery.slots.slot import SPEC_FILE, Slot, SlotParts
from stemma.delivery.slots.statuses import write_statuses

_PREPARING_THREADS: Final = 2
_ROUND_SECONDS: Final = 0.02
_KILL_SECONDS: Final = 5.0
_REWRITE_SECONDS: Final = 2.0
"""Memory changes each round; it is written this often when nothing else changes."""


@final
class Supervisor:
    """Makes what runs follow what is wanted."""

    def __init__(
        self,
        layout: ServeLayout,
        prepare: Callable[[SlotSpec], Launch],
        clock: Callable[[], datetime],
        *,
        timings: Timings | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Adopt what an earlier supervisor left running.

        Args:
            layout: Where slots have their files.
            prepare: Makes ready what a slot's processes need (``Launcher.prepare``).
            clock: Aware current time.
            timings: How often is asked, how long is waited.
            monotonic: Seconds that only grow.
        """
        self._parts = SlotParts(
            layout=layout,
            prepare=prepare,
            executor=ThreadPoolExecutor(_PREPARING_THREADS, thread_name_prefix="stemma-prepare"),
            timings=timings or Timings(),
            clock=clock,
            monotonic=monotonic,
        )
        self._leaving: list[Slot] = []
        self._strays: list[ModelProcess] = []
        self._active = {slot.spec.name: slot for slot in self._adopt()}
        self._statuses: dict[str, SlotStatus] = {}
        self._written: tuple[SlotStatus, ...] | None = None
        self._written_at = 0.0
        self._publish()

    def want(self, specs: Sequence[SlotSpec]) -> None:
        """Say what shall run; slots that are not named, or are named with other contents, end.

        Saying the same again changes nothing.
        """
        wanted = {spec.name: spec for spec in specs}
        while self._strays:
            self._strays.pop().kill()
        for name, slot in list(self._active.items()):
            if wanted.get(name) != slot.spec:
                slot.stop()
                self._leaving.append(self._active.pop(name))
        for name, spec in wanted.items():
            if name not in self._active:
                self._active[name] = Slot(spec, self._parts, is_adopting=False)
        self._publish()

    def tick(self) -> None:
        """Do one round: see what ended, ask who is ready, start what is due."""
        for slot in self._leaving:
            slot.tick()
        self._leaving = [slot for slot in self._leaving if not slot.is_gone]
        blocked = {slot.spec.name for slot in self._leaving}
        for name, slot in self._active.items():
            if name not in blocked:
                slot.tick()
        self._publish()

    def statuses(self) -> Mapping[str, SlotStatus]:
        """Return the slots that are wanted by name, as the last round saw them."""
        return self._statuses

    def incidents(self, limit: int = 50) -> tuple[Incident, ...]:
        """Return the newest incidents, oldest first."""
        return read_incidents(self._parts.layout, limit)

    def stop_all(self) -> None:
        """Stop every process and wait until all have ended (5 s, then by force)."""
        self.want(())
        # A process the kernel cannot end (waiting for a dead disk) must not hold up the server.
        end = self._parts.monotonic() + self._parts.timings.stop_seconds + _KILL_SECONDS
        while self._leaving and self._parts.monotonic() < end:
            self.tick()
            # What is still being prepared runs no process; it is left to its thread.
            if all(replica.is_gone for slot in self._leaving for replica in slot.replicas):
                break
            time.sleep(_ROUND_SECONDS)

    def close(self) -> None:
        """Let go; processes run on, for the next supervisor to adopt."""
        self._parts.executor.shutdown(wait=False, cancel_futures=True)
        for slot in (*self._active.values(), *self._leaving):
            slot.release()

    def _adopt(self) -> list[Slot]:
        found: list[Slot] = []
        folder = self._parts.layout.slot("x").parent
        for path in sorted(folder.glob(f"*/{SPEC_FILE}")):
            try:
                spec = msgspec.json.decode(path.read_bytes(), type=SlotSpec)
            except (OSError, msgspec.DecodeError):
                # Of another release: nobody can want it, so its processes are only ended.
                self._strays += adopt_all(path.parent)
                continue
            slot = Slot(spec, self._parts, is_adopting=True)
            if any(replica.record is not None for replica in slot.replicas):
                found.append(slot)
            else:
                slot.release()
        return found

    def _publish(self) -> None:
        self._statuses = {name: slot.status() for name, slot in self._active.items()}
        seen = tuple(self._statuses.values())
        now = self._parts.monotonic()
        if seen == self._written:
            return
        is_due = now - self._written_at >= _REWRITE_SECONDS
        if self._written is not None and not is_due and _steady(seen) == _steady(self._written):
            return
        records = [
            replica.record
            for slot in self._active.values()
            for replica in slot.replicas
            if replica.record is not None
        ]
        # A disk that is full must not end the watch; it is tried again in the next round.
        with suppress(OSError):
            write_statuses(
                self._parts.layout, seen, {record.pid: record.start_ticks for record in records}
            )
            self._written, self._written_at = seen, now


def _steady(statuses: Sequence[SlotStatus]) -> list[SlotStatus]:
    """Return them without what changes all the time."""
    return [
        replace(status, replicas=tuple(replace(r, memory_bytes=0) for r in status.replicas))
        for status in statuses
    ]
