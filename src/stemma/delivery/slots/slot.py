"""One slot over time: prepared, then its processes.

Invariants:
    * What a process needs is prepared before it is started, and only when one is to be started:
      an adopted slot whose processes run needs nothing.
    * A failure that a network or a disk may end is tried again; any other is final.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, final

import msgspec

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import SlotSpec, SlotState, SlotStatus
from stemma.delivery.slots.files import replace_bytes
from stemma.delivery.slots.incidents import Incident, append_incident
from stemma.delivery.slots.process import Launch, ProcessFiles
from stemma.delivery.slots.replica import Replica, ReplicaPlan, Timings
from stemma.delivery.slots.sockets import socket_paths
from stemma.delivery.slots.statuses import worst
from stemma.domain.errors import StemmaError
from stemma.store.backends.local import translated_os_errors

SPEC_FILE: Final = "slot.json"
"""What a slot is to be, for whoever adopts its processes."""

_WHOLE_SLOT: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotParts:
    """What every slot of a supervisor shares.

    Attributes:
        layout: Where files and sockets are.
        prepare: Makes ready what a slot's processes need; called in another thread.
        executor: Runs it.
        timings: How often, how long.
        clock: Aware current time.
        monotonic: Seconds that only grow.
    """

    layout: ServeLayout
    prepare: Callable[[SlotSpec], Launch]
    executor: Executor
    timings: Timings
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]


@final
class Slot:
    """A slot that is wanted, or that is being stopped.

    Attributes:
        spec: What it is to be.
        replicas: Its processes.
    """

    def __init__(self, spec: SlotSpec, parts: SlotParts, *, is_adopting: bool) -> None:
        """Stand for a slot to be started, or for one that an earlier supervisor started."""
        self.spec = spec
        self._parts = parts
        paths = socket_paths(parts.layout, spec.name, spec.configuration.replicas)
        self.replicas = [
            Replica(self._plan(number, path), is_adopting=is_adopting)
            for number, path in enumerate(paths)
        ]
        self._launch: Launch | None = None
        self._future: Future[Launch] | None = None
        self._failures = 0
        self._next_try = 0.0
        self._is_stopping = False
        self._failure = ""
        self._problem = ""
        self._state = SlotState.PREPARING
        self._since = parts.clock()
        self._see_state()

    def _plan(self, number: int, path: str) -> ReplicaPlan:
        configuration = self.spec.configuration
        return ReplicaPlan(
            files=ProcessFiles(folder=self._parts.layout.slot(self.spec.name), number=number),
            socket=path,
            memory_mib=configuration.memory_mib,
            start_timeout_seconds=float(configuration.start_timeout_seconds),
            timings=self._parts.timings,
            clock=self._parts.clock,
            monotonic=self._parts.monotonic,
            report=partial(self._report, number),
        )

    @property
    def is_gone(self) -> bool:
        """Whether it was stopped and nothing of it runs or is being prepared."""
        return all(r.is_gone for r in self.replicas) and (
            self._future is None or self._future.done()
        )

    def stop(self) -> None:
        """Stop every process; ``tick`` sees it through."""
        self._is_stopping = True
        if self._future is not None:
            self._future.cancel()
        for replica in self.replicas:
            replica.stop()

    def release(self) -> None:
        """Let go of everything here; processes run on."""
        for replica in self.replicas:
            replica.release()

    def tick(self) -> None:
        """Do one round; never waits."""
        if not self._is_stopping and not self._failure:
            self._see_preparation()
        for replica in self.replicas:
            replica.tick(None if self._failure else self._launch)
        self._see_state()

    def status(self) -> SlotStatus:
        """Return how it is."""
        by_state = sorted(self.replicas, key=lambda r: r.state is not self._state)
        details = (self._failure, self._problem, *(r.detail for r in by_state))
        return SlotStatus(
            spec=self.spec,
            state=self._state,
            since=self._since,
            replicas=tuple(replica.status() for replica in self.replicas),
            detail=next(filter(None, details), ""),
        )

    def _see_preparation(self) -> None:
        if self._launch is not None or not any(r.needs_launch for r in self.replicas):
            return
        if self._future is None:
            if self._parts.monotonic() >= self._next_try:
                self._future = self._parts.executor.submit(self._prepare)
            return
        if not self._future.done():
            return
        future, self._future = self._future, None
        try:
            error = future.exception()
        except CancelledError:
            return
        if error is None:
            self._launch = future.result()
            self._problem = ""
        else:
            self._see_failure(error)

    def _prepare(self) -> Launch:
        """Run in another thread; processes of an earlier slot of this name have ended by then."""
        path = self._parts.layout.slot(self.spec.name) / SPEC_FILE
        with translated_os_errors(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_bytes(path, msgspec.json.encode(self.spec))
        return self._parts.prepare(self.spec)

    def _see_failure(self, error: BaseException) -> None:
        is_ours = isinstance(error, StemmaError)
        detail = str(error) if is_ours else f"{type(error).__name__}: {error}"
        self._report(_WHOLE_SLOT, "preparation", detail)
        self._failures += 1
        timings = self._parts.timings
        is_retryable = isinstance(error, StemmaError) and error.is_retryable
        if not is_retryable or self._failures >= timings.failed_starts:
            self._failure = detail
            return
        self._problem = detail
        pause = timings.first_backoff_seconds * 2.0 ** (self._failures - 1)
        self._next_try = self._parts.monotonic() + min(pause, timings.most_backoff_seconds)

    def _see_state(self) -> None:
        states = {replica.state for replica in self.replicas}
        if self._failure:
            state = SlotState.FAILED
        elif self._launch is None and states == {SlotState.STARTING} and not self._has_process:
            state = SlotState.PREPARING
        else:
            state = worst(states)
        if state is not self._state:
            self._state = state
            self._since = self._parts.clock()

    @property
    def _has_process(self) -> bool:
        return any(replica.record is not None for replica in self.replicas)

    def _report(self, replica: int, kind: str, detail: str) -> None:
        append_incident(
            self._parts.layout,
            Incident(
                at=self._parts.clock(),
                slot=self.spec.name,
                replica=replica,
                kind=kind,
                detail=detail,
            ),
        )
