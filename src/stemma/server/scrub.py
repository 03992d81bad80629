"""Reads everything that is stored once in so many days, beside serving.

Invariants:
    * One thread of the lowest priority, at most so many megabytes a second and a tenth of a
      core; it stands still while a rollout is under way.
    * Where it is survives the server's end: the next one goes on from there.
    * What it finds is told once and stays in the file until it is found well again.

Nothing is repaired here; the server may be given a function that does.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, final

import msgspec

from stemma.delivery.slots.files import replace_bytes
from stemma.domain.errors import StemmaError
from stemma.server.settings import load_settings
from stemma.store.backends.base import BlobStat
from stemma.store.objects import ObjectStore
from stemma.store.scrub import check_blob

if TYPE_CHECKING:
    from stemma.hub.local import LocalHub

_LOG: Final = logging.getLogger(__name__)
_FILE: Final = "scrub.json"
_MEGABYTE: Final = 1_000_000
_DAY_SECONDS: Final = 86_400
_LEAST_BYTES_PER_SECOND: Final = 100_000
_CPU_SHARE: Final = 0.1
_HASTE: Final = 2
"""How much faster than needed it reads, for rollouts and nights make it stand still."""
_SAVE_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 1.0
_REPAIR_AGAIN: Final = timedelta(hours=1)
_LOWEST_PRIORITY: Final = 19
_FINDINGS: Final = 1000


class ScrubFinding(msgspec.Struct, frozen=True, kw_only=True):
    """An object that is not as it was written.

    Attributes:
        key: Its key.
        kind: Stable machine name, as ``stemma doctor`` has it.
        detail: What is wrong, in words.
        at: When it was found.
    """

    key: str
    kind: str
    detail: str
    at: datetime


class ScrubState(msgspec.Struct, kw_only=True):
    """How far a pass over the store is.

    Attributes:
        started_at: When this pass began; ``None`` before the first.
        finished_at: When the last whole pass ended; ``None`` before.
        after: Key of the blob that was checked last; empty between passes.
        checked_bytes: What this pass has read.
        total_bytes: What was stored when this pass began.
        findings: What is wrong, by key.
    """

    started_at: datetime | None = None
    finished_at: datetime | None = None
    after: str = ""
    checked_bytes: int = 0
    total_bytes: int = 0
    findings: dict[str, ScrubFinding] = {}


def read_scrub(folder: Path) -> ScrubState:
    """Return how far the scrub of a project is; a new one when nothing can be read.

    Args:
        folder: The project's ``.stemma/serve``.
    """
    try:
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=ScrubState)
    except (OSError, msgspec.DecodeError):
        return ScrubState()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubPace:
    """How fast to read.

    Attributes:
        days: In how many days everything is read once; 0: never.
        megabytes_per_second: The most that is read.
    """

    days: int
    megabytes_per_second: int

    def bytes_per_second(self, total_bytes: int) -> float:
        """Return how much to read of so much."""
        needed = _HASTE * total_bytes / (max(self.days, 1) * _DAY_SECONDS)
        most = max(self.megabytes_per_second, 1) * _MEGABYTE
        return min(max(needed, _LEAST_BYTES_PER_SECOND), most)


def make_scrubber(hub: LocalHub) -> Scrubber:
    """Return the scrub of a project, as its settings ask."""
    parts = hub.parts
    settings = load_settings(parts.root)
    return Scrubber(
        parts.objects,
        parts.delivery.layout.root,
        ScrubPace(
            days=settings.scrub_days, megabytes_per_second=settings.scrub_megabytes_per_second
        ),
        parts.clock,
        hub.repair if settings.scrub_repairs else None,
    )


@final
class Scrubber:
    """Reads the store in a thread of its own."""

    def __init__(
        self,
        store: ObjectStore,
        folder: Path,
        pace: ScrubPace,
        clock: Callable[[], datetime],
        repair: Callable[[], object] | None = None,
    ) -> None:
        """Say what to read and how.

        Args:
            store: What to read.
            folder: Where its state is kept, ``.stemma/serve``.
            pace: How fast.
            clock: Aware current time.
            repair: Restores what is damaged; ``None``: findings are told only.
        """
        self._store = store
        self._folder = folder
        self._pace = pace
        self._clock = clock
        self._repair = repair
        self._state = read_scrub(folder)
        self._news: SimpleQueue[str] = SimpleQueue()
        self._stop = threading.Event()
        self._may_go = threading.Event()
        self._saved_at = 0.0
        self._repaired_at: datetime | None = None
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    def start(self) -> None:
        """Begin, unless it is switched off."""
        if self._pace.days:
            self._may_go.set()
            self._thread.start()

    def keep(self, *, is_busy: bool) -> list[str]:
        """Stand still while ``is_busy``; returns what was found since the last call."""
        if is_busy:
            self._may_go.clear()
        else:
            self._may_go.set()
        told: list[str] = []
        with suppress(Empty):
            while True:
                told.append(self._news.get_nowait())
        return told

    def close(self) -> None:
        """End, and keep where it was."""
        self._stop.set()
        self._may_go.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # Linux: a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while not self._stop.is_set():
            try:
                if self._is_due():
                    self._pass()
            except StemmaError as error:
                self._news.put(f"the scrub of the store stopped: {error.message}")
                self._stop.wait(_SAVE_SECONDS)
            except Exception:  # noqa: BLE001 - a fault of ours must not end the thread
                _LOG.exception("the scrub failed")
                self._stop.wait(_SAVE_SECONDS)
            self._stop.wait(_IDLE_SECONDS)
        self._save()

    def _is_due(self) -> bool:
        started = self._state.started_at
        if started is None or self._state.after:
            return True
        return self._clock() - started >= timedelta(days=self._pace.days)

    def _pass(self) -> None:
        """Read everything once, or what is left of a pass that was cut off."""
        state = self._state
        if not state.after:
            state.started_at, state.checked_bytes = self._clock(), 0
            state.total_bytes = sum(stat.size_bytes for stat in self._store.backend.list())
            for key in list(state.findings):
                self._check(key)
        rate = self._pace.bytes_per_second(state.total_bytes)
        for stat in self._left():
            self._may_go.wait()
            if self._stop.is_set():
                return
            began, cpu = time.monotonic(), time.thread_time()
            self._check(stat.key)
            state.after = stat.key
            state.checked_bytes += stat.size_bytes
            if time.monotonic() > self._saved_at + _SAVE_SECONDS:
                self._save()
            spent = max(stat.size_bytes / rate, (time.thread_time() - cpu) / _CPU_SHARE)
            self._stop.wait(max(0.0, spent - (time.monotonic() - began)))
        state.after = ""
        state.finished_at = self._clock()
        self._save()

    def _left(self) -> Iterator[BlobStat]:
        return (stat for stat in self._store.backend.list() if stat.key > self._state.after)

    def _check(self, key: str) -> None:
        state = self._state
        problem = check_blob(self._store, key)
        if problem is None:
            if state.findings.pop(key, None) is not None:
                self._news.put(f"{key} is well again")
                self._save()
            return
        if key in state.findings or len(state.findings) >= _FINDINGS:
            return
        state.findings[key] = ScrubFinding(
            key=key, kind=problem.kind, detail=problem.detail, at=self._clock()
        )
        self._save()
        self._news.put(f"damage in the store: {key}: {problem.detail}   (stemma doctor --repair)")
        self._mend()

    def _mend(self) -> None:
        """Restore what is damaged, when that is allowed, and look whether it is."""
        now = self._clock()
        if self._repair is None:
            return
        if self._repaired_at is not None and now - self._repaired_at < _REPAIR_AGAIN:
            return
        self._repaired_at = now
        self._repair()
        for key in list(self._state.findings):
            self._check(key)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        with suppress(OSError):  # a full disk costs a second look at some blobs
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_bytes(self._folder / _FILE, msgspec.json.encode(self._state))
