"""Tries a version as production would: starts it on an idle slot, replays requests, measures.

    report = run_staging(parts, subject, StagingOptions(seconds=10), print)

It works beside a running server (in a thread of it, or in another process) and without one: its
slots lie in an area of their own (``.stemma/serve/staging``), versions and environments are
shared with production, so that what was tried is also made ready.

Invariants:
    * No user's request reaches the version, and nothing it is asked is recorded as a user's.
    * Whatever happens, its processes are ended; those a killed validation left behind are ended
      by the next one.
    * One validation of a project at a time: two at once would measure each other.
    * A version that does not start, or dies, is a table with a no, not an exception.

The table itself is made by ``staging``.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from stemma.catalog.facts import load_facts
from stemma.delivery.layout import ServeLayout
from stemma.delivery.load.measuring import ChildSending, StartLoad
from stemma.delivery.load.plan import LoadPlan
from stemma.delivery.load.requests import (
    RequestSet,
    read_recorded,
    read_request_file,
    requests_of_rows,
)
from stemma.delivery.load.result import LoadResult
from stemma.delivery.load.schedule import poisson, rate_of, replay
from stemma.delivery.runtime.golden import read_golden
from stemma.delivery.slots.base import ReplicaStatus, SlotSpec, SlotState, SlotStatus
from stemma.delivery.staging.machine import probe_hardware, read_usage
from stemma.delivery.staging.table import Drilled, Hardware, Measured, Start, Usage, make_table
from stemma.delivery.values import RollbackReport, StagingReport
from stemma.domain.errors import LockedError, StemmaError, UnavailableError
from stemma.domain.facts import VersionFacts
from stemma.domain.manifest import Manifest
from stemma.domain.policy import ModelPolicy
from stemma.store.objects import ObjectStore

AREA: Final = "staging"
SUFFIX: Final = "-staging"
DEFAULT_RATE: Final = 50.0
"""Requests per second where production tells nothing."""

PRODUCTION: Final = "production's"
POISSON: Final = "Poisson"
_FEWEST_ARRIVALS: Final = 20
"""Arrivals that make a pattern."""

_SEED: Final = 1
_MOST_STARTS: Final = 2
_WARM_UP: Final = 20
_ROUND_SECONDS: Final = 0.05
_SPARE_SECONDS: Final = 600.0
"""For making files and environment, whose own calls have timeouts."""

_TURN_SECONDS: Final = 900.0

Told = Callable[[str], None]
"""Takes one sentence of progress."""


class StagingSlots(Protocol):
    """What staging needs of a supervisor."""

    def want(self, specs: Sequence[SlotSpec]) -> None:
        """Say what shall run."""
        ...

    def tick(self) -> None:
        """Do one round."""
        ...

    def statuses(self) -> Mapping[str, SlotStatus]:
        """Return slots by name."""
        ...

    def stop_all(self) -> None:
        """Stop every process and wait for its end."""
        ...

    def close(self) -> None:
        """Let go of threads and files."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingParts:
    """What staging is composed of.

    Attributes:
        objects: Content store.
        load_manifest: From a manifest's digest to the manifest, verified.
        layout: Production's serving folder.
        open_slots: Makes a supervisor of the given folder.
        clock: Aware current time.
        start_load: Sends requests and says what came of them.
        probe_hardware: Says what this machine has, for a version of Python.
        is_cancelled: Asked all the time; the validation ends soon after it says yes.
    """

    objects: ObjectStore
    load_manifest: Callable[[str], Manifest]
    layout: ServeLayout
    open_slots: Callable[[ServeLayout], StagingSlots]
    clock: Callable[[], datetime]
    start_load: StartLoad = ChildSending
    probe_hardware: Callable[[str], Hardware] = probe_hardware
    is_cancelled: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingSubject:
    """What is tried, and what it is compared with.

    Attributes:
        spec: The version with production's configuration; its name ends in ``-staging``.
        policy: The model's policy.
        deployed_version: What serves now; empty when nothing does.
        deployed_manifest: Its manifest's digest, as text.
        last_drill: Newest drill or rollback of the model; ``None`` when there was none.
        arrival_times_ms: When production's latest requests came (``access_log``).
        is_drill_asked: Whether a stale drill is a no here; not where something else guards it.
    """

    spec: SlotSpec
    policy: ModelPolicy
    deployed_version: str = ""
    deployed_manifest: str = ""
    last_drill: RollbackReport | None = None
    arrival_times_ms: Sequence[int] = ()
    is_drill_asked: bool = True

    @property
    def label(self) -> str:
        """The version, ``digits@1.1.0``."""
        return f"{self.spec.model}@{self.spec.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingOptions:
    """How a version is tried.

    Attributes:
        requests_path: File of requests; empty: recorded or golden ones.
        seconds: How long to send requests.
        rate_per_second: Requests per second; 0: production's, else 50.
    """

    requests_path: str = ""
    seconds: float = 10.0
    rate_per_second: float = 0.0


def run_staging(
    parts: StagingParts, subject: StagingSubject, options: StagingOptions, told: Told
) -> StagingReport:
    """Try a version and answer in a table; takes as long as starting it and the load.

    Raises:
        NotFoundError: If the file of requests does not exist.
        InvalidInputError: If it cannot be read, or rate or time are not above 0.
        LockedError: If another validation does not end.
        UnavailableError: If the load generator cannot run, or it was cancelled.
    """
    supplied = None
    if options.requests_path:
        supplied = read_request_file(Path(options.requests_path), subject.spec.model)
    offsets, rate, pattern = _schedule(subject, options)
    manifest = parts.load_manifest(subject.spec.manifest)
    table = _before(parts, subject, manifest)
    requests = RequestSet()
    with _turn(parts, told), _slot(parts, subject.spec) as slot:
        told(f"starting {subject.label} on an idle slot")
        start = slot.wait_until_ready()
        table = replace(table, start=start)
        if start.is_ready:
            requests = supplied or _find_requests(parts.layout, subject.spec, manifest, told)
            if not requests.requests:
                table = replace(table, load_problem="there are no requests to replay")
            else:
                told(f"replaying {requests.source} requests for {options.seconds:g} s")
                load, usage = slot.send(
                    LoadPlan(
                        requests=requests.requests,
                        offsets=offsets,
                        seconds=options.seconds,
                        sockets=slot.sockets,
                        timeout_seconds=subject.spec.configuration.timeout_seconds,
                        warm_up=_WARM_UP,
                    )
                )
                table = replace(table, load=load, usage=usage)
    return _report(table, requests.source, pattern, rate)


def end_left_behind(parts: StagingParts) -> None:
    """End processes that a killed validation left running; does nothing while one is under way."""
    path = _lock_file(parts.layout)
    with path.open("wb") as file:
        if _take(file.fileno()):
            slots = parts.open_slots(replace(parts.layout, area=AREA))
            slots.stop_all()
            slots.close()


def _lock_file(layout: ServeLayout) -> Path:
    path = layout.root / AREA / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _report(table: Measured, source: str, pattern: str, rate: float) -> StagingReport:
    load = table.load
    return StagingReport(
        label=table.label,
        results=make_table(table),
        requests=0 if load is None else load.sent,
        source=source if load is not None else "",
        pattern=pattern if load is not None else "",
        rate_per_second=rate if load is not None else 0.0,
        latency_p99_ms=0.0 if load is None else load.quantile_ms(0.99),
        memory_mib=table.usage.memory_peak_bytes / 2**20,
    )


def _schedule(
    subject: StagingSubject, options: StagingOptions
) -> tuple[tuple[float, ...], float, str]:
    """Return when to send, the rate and the name of the pattern."""
    arrivals = subject.arrival_times_ms
    has_pattern = len(arrivals) >= _FEWEST_ARRIVALS
    rate = options.rate_per_second or (rate_of(arrivals) if has_pattern else DEFAULT_RATE)
    if has_pattern:
        return replay(arrivals, rate, options.seconds, _SEED), rate, PRODUCTION
    return poisson(rate, options.seconds, _SEED), rate, POISSON


def _before(parts: StagingParts, subject: StagingSubject, manifest: Manifest) -> Measured:
    """Return what is known before the version is started."""
    deployed: VersionFacts | None = None
    drilled: Drilled | None = None
    configuration = subject.spec.configuration
    if subject.deployed_manifest:
        deployed = load_facts(parts.objects, parts.load_manifest(subject.deployed_manifest))
    if subject.deployed_manifest and subject.is_drill_asked:
        drilled = Drilled(
            last=subject.last_drill,
            every_seconds=configuration.drill_every_seconds,
            now=parts.clock(),
        )
    return Measured(
        label=subject.label,
        policy=subject.policy,
        facts=load_facts(parts.objects, manifest),
        deployed_label=f"{subject.spec.model}@{subject.deployed_version}" if deployed else "",
        deployed=deployed,
        configuration=configuration,
        hardware=parts.probe_hardware(manifest.environment.python),
        start=Start(is_prepared=False, is_ready=False),
        drilled=drilled,
    )


def _find_requests(
    layout: ServeLayout, spec: SlotSpec, manifest: Manifest, told: Told
) -> RequestSet:
    """Return what production was asked, else the golden rows, else nothing."""
    try:
        found = read_recorded(layout.root / "recorded" / spec.model, spec.model)
        if found.requests:
            return found
    except StemmaError as error:
        told(f"recorded requests are not replayed: {error.message}")
    golden = layout.version(spec.manifest) / "golden.npz"
    if not golden.is_file():
        return RequestSet()
    try:
        rows = read_golden(golden).fitted_to(manifest.architecture.signature)
    except StemmaError as error:
        told(f"golden rows are not sent: {error.message}")
        return RequestSet()
    return requests_of_rows(rows, spec.model)


@contextmanager
def _turn(parts: StagingParts, told: Told) -> Iterator[None]:
    """Wait until no other validation of the project runs."""
    path = _lock_file(parts.layout)
    end = time.monotonic() + _TURN_SECONDS
    is_told = False
    with path.open("wb") as file:
        while not _take(file.fileno()):
            if not is_told:
                told("waiting for another validation to end")
                is_told = True
            if time.monotonic() > end or parts.is_cancelled():
                raise LockedError(
                    "another validation of this project runs and does not end",
                    code="staging-runs",
                    hint=f"fuser {path}",
                )
            time.sleep(_ROUND_SECONDS)
        yield


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _slot(parts: StagingParts, spec: SlotSpec) -> Iterator[_TriedSlot]:
    slots = parts.open_slots(replace(parts.layout, area=AREA))
    # What is asked here must not be taken for users' requests later.
    quiet = replace(spec, configuration=replace(spec.configuration, is_recording=False))
    try:
        slots.stop_all()  # what a killed validation left behind
        yield _TriedSlot(slots, quiet, parts)
    finally:
        slots.stop_all()
        slots.close()


class _TriedSlot:
    """The version's slot while it is tried."""

    def __init__(self, slots: StagingSlots, spec: SlotSpec, parts: StagingParts) -> None:
        self._slots = slots
        self._spec = spec
        self._parts = parts

    @property
    def sockets(self) -> tuple[str, ...]:
        """Where it listens."""
        status = self._status()
        return () if status is None else status.sockets

    def wait_until_ready(self) -> Start:
        """Start it and wait; says why when it does not become ready."""
        limit = self._spec.configuration.start_timeout_seconds + _SPARE_SECONDS
        end = time.monotonic() + limit
        self._slots.want([self._spec])
        is_prepared = False
        while time.monotonic() < end:
            self._slots.tick()
            status = self._status()
            if status is not None:
                is_prepared |= any(replica.pid for replica in status.replicas)
                if status.state is SlotState.READY:
                    return Start(is_prepared=True, is_ready=True)
                if status.state is SlotState.FAILED:
                    return Start(is_prepared=is_prepared, is_ready=False, detail=_why(status))
                if self._keeps_dying(status):
                    return Start(is_prepared=True, is_ready=False, detail=_why(status))
            self._pause()
        detail = f"not ready after {limit:.0f} s"
        return Start(is_prepared=is_prepared, is_ready=False, detail=detail)

    def send(self, plan: LoadPlan) -> tuple[LoadResult, Usage]:
        """Send requests; goes on watching the processes meanwhile."""
        before = self._cpu_seconds()
        peak_bytes = 0
        cpu_seconds = before
        restarts = sum(replica.restarts for replica in self._replicas())
        sending = self._parts.start_load(plan)
        try:
            while True:
                load = sending.result()
                self._slots.tick()
                peak_bytes = max(peak_bytes, self._memory_peak_bytes())
                cpu_seconds = max(cpu_seconds, self._cpu_seconds())
                if load is not None:
                    break
                self._pause()
        finally:
            sending.stop()
        status = self._status()
        return load, Usage(
            memory_peak_bytes=peak_bytes,
            cpu_seconds=cpu_seconds - before,
            restarts=sum(replica.restarts for replica in self._replicas()) - restarts,
            detail="" if status is None else status.detail,
        )

    def _pause(self) -> None:
        if self._parts.is_cancelled():
            raise UnavailableError(
                f"the validation of {self._spec.model} {self._spec.version} was cancelled",
                code="staging-cancelled",
            )
        time.sleep(_ROUND_SECONDS)

    def _status(self) -> SlotStatus | None:
        return self._slots.statuses().get(self._spec.name)

    def _replicas(self) -> tuple[ReplicaStatus, ...]:
        status = self._status()
        return () if status is None else status.replicas

    def _keeps_dying(self, status: SlotStatus) -> bool:
        """Whether a process ended twice before it was ready: a supervisor would try for long."""
        return any(
            replica.restarts >= _MOST_STARTS and replica.state is not SlotState.READY
            for replica in status.replicas
        )

    def _memory_peak_bytes(self) -> int:
        peaks = [
            max(replica.memory_bytes, found.memory_peak_bytes if found else 0)
            for replica in self._replicas()
            for found in (read_usage(replica.pid) if replica.pid else None,)
        ]
        return max(peaks, default=0)

    def _cpu_seconds(self) -> float:
        found = [read_usage(replica.pid) for replica in self._replicas() if replica.pid]
        return sum(usage.cpu_seconds for usage in found if usage is not None)


def _why(status: SlotStatus) -> str:
    details = (status.detail, *(replica.detail for replica in status.replicas))
    return next((detail for detail in details if detail), status.state.value)
