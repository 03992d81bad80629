"""One process of a slot over time: started, watched, started again, given up.

Invariants:
    * One process at a time: the next is started when the one before it was seen to have ended.
    * A golden answer that is not the recorded one is final: no start can mend it.
    * Whatever ends a process is told: as its status's detail and as an incident.

``tick`` never waits; the supervisor calls it a few times a second.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, final

import msgspec

from stemma.delivery.slots.base import ReplicaStatus, SlotState
from stemma.delivery.slots.probe import Answer, Probe, ProbeResult
from stemma.delivery.slots.process import (
    MIB,
    Launch,
    ModelProcess,
    ProcessFiles,
    ProcessRecord,
    adopt,
    spawn,
)
from stemma.domain.errors import UnavailableError

_FINAL_EXIT_CODES: Final = frozenset({3, 5})
"""Golden mismatch and bad specification: the same at the next start."""

_LOG_LIMIT_BYTES: Final = 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How often is asked and how long is waited, in seconds.

    Attributes:
        starting_probe_seconds: Between two questions while a process starts.
        probe_seconds: The same once it is ready.
        probe_timeout_seconds: How long an answer may take.
        missed_probes: So many questions in a row without an answer are a hang.
        first_backoff_seconds: Pause before the first restart; doubled for each further one.
        most_backoff_seconds: Longest pause.
        calm_seconds: Ready for so long, the next pause is the first again.
        failed_starts: So many starts in a row of a process never ready are the last.
        stop_seconds: How long a process may take to end when asked.
    """

    starting_probe_seconds: float = 0.1
    probe_seconds: float = 1.0
    probe_timeout_seconds: float = 5.0
    missed_probes: int = 3
    first_backoff_seconds: float = 0.5
    most_backoff_seconds: float = 30.0
    calm_seconds: float = 60.0
    failed_starts: int = 5
    stop_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaPlan:
    """What does not change while a replica lives.

    Attributes:
        files: Its files.
        socket: Where its process listens.
        memory_mib: Most resident memory.
        start_timeout_seconds: How long from start to ready.
        timings: How often, how long.
        clock: Aware current time.
        monotonic: Seconds that only grow.
        report: Takes an incident's kind and detail.
    """

    files: ProcessFiles
    socket: str
    memory_mib: int
    start_timeout_seconds: float
    timings: Timings
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    report: Callable[[str, str], None]


@final
class Replica:
    """One process of a slot, and whoever follows it.

    Attributes:
        state: How it is.
        detail: What happened last.
    """

    def __init__(self, plan: ReplicaPlan, *, is_adopting: bool) -> None:
        """Stand for a process to be started, or for one that an earlier supervisor started."""
        self._plan = plan
        self._process = adopt(plan.files) if is_adopting else None
        record = self._process.record if self._process else None
        self.state = SlotState.STARTING
        if record is not None and record.was_ready:
            self.state = SlotState.READY  # Until a probe says otherwise: users are served by it.
        self.detail = ""
        self._since = record.started_at if record else plan.clock()
        self._restarts = record.restarts if record else 0
        self._has_been_ready = bool(record and record.was_ready)
        self._is_ready_now = self._has_been_ready
        self._failed_starts = 0
        self._pauses = 0
        now = plan.monotonic()
        self._started = self._ready_since = self._next_start = self._last_probe = now
        self._probe: Probe | None = None
        self._misses = 0
        self._last_end = ""
        self._verdict: tuple[str, str] | None = None
        self._is_stopping = False
        self._kill_at = 0.0

    @property
    def record(self) -> ProcessRecord | None:
        """Who runs; ``None`` when nobody does."""
        return self._process.record if self._process else None

    @property
    def needs_launch(self) -> bool:
        """Whether a process is to be started, now or after a pause."""
        return self._process is None and not self._is_stopping and not self.is_given_up

    @property
    def is_given_up(self) -> bool:
        """Whether it is never started again."""
        return self.state is SlotState.FAILED

    @property
    def is_gone(self) -> bool:
        """Whether it was stopped and nothing of it runs."""
        return self._is_stopping and self._process is None

    def status(self) -> ReplicaStatus:
        """Return how it is."""
        return ReplicaStatus(
            pid=self._process.record.pid if self._process else 0,
            state=self.state,
            socket=self._plan.socket,
            since=self._since,
            restarts=self._restarts,
            memory_bytes=self._process.memory_bytes if self._process else 0,
            detail=self.detail,
        )

    def stop(self) -> None:
        """Ask the process to end; ``tick`` ends it by force when it does not."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._kill_at = self._plan.monotonic() + self._plan.timings.stop_seconds
        if self._process is not None:
            self._process.terminate()
        else:
            self._become(SlotState.STOPPED, self.detail)

    def release(self) -> None:
        """Let go of the connection; the process runs on."""
        self._drop_probe()

    def tick(self, launch: Launch | None) -> None:
        """Do one round.

        Args:
            launch: How to start a process; ``None`` while that is being prepared.
        """
        now = self._plan.monotonic()
        if self._process is None:
            if self.needs_launch and launch is not None and now >= self._next_start:
                self._start(launch, now)
        elif not self._process.is_alive():
            self._end(self._process)
        elif self._is_stopping:
            if now >= self._kill_at:
                self._process.kill()
        else:
            self._watch(self._process, now)

    def _start(self, launch: Launch, now: float) -> None:
        self._restarts += self.state is SlotState.RESTARTING
        self._verdict, self._misses = None, 0
        self._is_ready_now = False
        self._started = now
        try:
            Path(self._plan.socket).unlink(missing_ok=True)
            self._process = spawn(launch, self._plan.files, self._plan.clock(), self._restarts)
        except (UnavailableError, OSError) as error:
            self._pause("crash", str(error))

    def _watch(self, process: ModelProcess, now: float) -> None:
        if self._verdict is not None:
            return  # It was ended by force and has not gone yet.
        timings = self._plan.timings
        limit_bytes = self._plan.memory_mib * MIB
        if process.memory_bytes > limit_bytes:
            used = -(-process.memory_bytes // MIB)
            self._condemn(
                process, "memory", f"used {used:,} MiB of {self._plan.memory_mib:,} MiB allowed"
            )
            return
        self._plan.files.bound_log(_LOG_LIMIT_BYTES)
        self._ask(process, now)
        limit = self._plan.start_timeout_seconds
        if not self._is_ready_now and now - self._started > limit:
            self._condemn(process, "slow-start", f"not ready within {limit:g} s of its start")
        elif self._is_ready_now and self._misses >= timings.missed_probes:
            self._condemn(
                process,
                "hang",
                f"gave no answer to {self._misses} health requests of"
                f" {timings.probe_timeout_seconds:g} s each",
            )
        elif self.state is SlotState.READY and now - self._ready_since > timings.calm_seconds:
            self._pauses = 0

    def _ask(self, process: ModelProcess, now: float) -> None:
        timings = self._plan.timings
        if self._probe is None:
            pause = timings.probe_seconds if self._is_ready_now else timings.starting_probe_seconds
            if now - self._last_probe < pause:
                return
            self._last_probe = now
            self._probe = Probe(self._plan.socket, deadline=now + timings.probe_timeout_seconds)
        result = self._probe.advance(now)
        if result is not None:
            self._probe = None
            self._hear(process, result, now)

    def _hear(self, process: ModelProcess, result: ProbeResult, now: float) -> None:
        match result.answer:
            case Answer.READY:
                self._misses = 0
                if not self._is_ready_now:
                    self._note_ready(process, now)
                if self.state is not SlotState.READY:
                    self._become(SlotState.READY, self._last_end)
            case Answer.NOT_READY if self._is_ready_now:
                self._misses = 0
                self._become(SlotState.UNREADY, _reason(result.body) or "says it is not ready")
            case Answer.NONE if self._is_ready_now:
                self._misses += 1
                self._become(SlotState.UNREADY, "does not answer health requests")
            case _:
                pass

    def _note_ready(self, process: ModelProcess, now: float) -> None:
        self._is_ready_now = self._has_been_ready = True
        self._failed_starts = 0
        self._ready_since = now
        with suppress(OSError):  # A full disk: it would be adopted as one that is starting.
            self._plan.files.write_record(msgspec.structs.replace(process.record, was_ready=True))

    def _condemn(self, process: ModelProcess, kind: str, detail: str) -> None:
        """End it by force: it does not listen, or takes memory from others."""
        self._verdict = (kind, detail)
        self.detail = detail
        process.kill()

    def _end(self, process: ModelProcess) -> None:
        self._process = None
        self._drop_probe()
        self._plan.files.record.unlink(missing_ok=True)
        if self._is_stopping:
            Path(self._plan.socket).unlink(missing_ok=True)
            self._become(SlotState.STOPPED, "")
            return
        kind, detail = self._verdict or ("crash", _crash_reason(process, self._plan.files))
        if self._verdict is None and process.exit_code in _FINAL_EXIT_CODES:
            self._give_up(detail)
            return
        self._pause(kind, detail)

    def _pause(self, kind: str, detail: str) -> None:
        timings = self._plan.timings
        self._plan.report(kind, detail)
        self._last_end = f"restarted: {detail}"
        if not self._is_ready_now:
            self._failed_starts += 1
        if not self._has_been_ready and self._failed_starts >= timings.failed_starts:
            self._give_up(f"gave up after {self._failed_starts} starts: {detail}")
            return
        seconds = min(
            timings.most_backoff_seconds, timings.first_backoff_seconds * 2.0**self._pauses
        )
        self._pauses += 1
        self._is_ready_now = False
        self._next_start = self._plan.monotonic() + seconds
        self._become(SlotState.RESTARTING, detail)

    def _give_up(self, detail: str) -> None:
        self._is_ready_now = False
        self._plan.report("gave-up", detail)
        self._become(SlotState.FAILED, detail)

    def _become(self, state: SlotState, detail: str) -> None:
        self.detail = detail
        if state is not self.state:
            self.state = state
            self._since = self._plan.clock()

    def _drop_probe(self) -> None:
        if self._probe is not None:
            self._probe.close()
            self._probe = None


def _crash_reason(process: ModelProcess, files: ProcessFiles) -> str:
    """Say how it ended; its own last words first."""
    return files.last_reason() or f"ended {_how(process.exit_code)}; see {files.log}"


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "by itself"
    if exit_code >= 0:
        return f"with code {exit_code}"
    try:
        return f"by signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"by signal {-exit_code}"


def _reason(body: str) -> str:
    """Return the reason in a health answer; empty when there is none."""
    try:
        found = msgspec.json.decode(body.encode())
    except msgspec.DecodeError:
        return ""
    if not isinstance(found, dict):
        return ""
    return str(found.get("error") or found.get("reason") or "")
