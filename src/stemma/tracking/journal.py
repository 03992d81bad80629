"""Journals: what a running training logs, appended line by line to ``journal/<run>.jsonl``.

Training must never wait for the database, nor fail because of it, so points go to a file
and into the database once, when the run closes.

Invariants:
    * A line that was appended survives ``kill -9`` of the process.
    * Every line ends with the CRC-32 of its JSON; a torn or damaged line is left out when
      reading, and never takes its neighbour with it.
    * Appending raises nothing for a full disk or a read-only folder: points wait in memory
      and are tried again, and one warning per run says so.
    * A journal stays after its run was closed: curves can be made again from it.

It does not know the database; see ``stemma.tracking.service``.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, final

from stemma.domain.canonical import timestamp
from stemma.domain.errors import UnavailableError
from stemma.domain.run import MetricPoint, RunId

_SEPARATOR: Final = b"\t"


@final
class Journals:
    """Every journal of one project; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """Keep journals in ``folder``, which is made when first needed."""
        self._folder = folder
        self._lock = threading.Lock()
        self._descriptors: dict[RunId, int] = {}
        self._pending: dict[RunId, list[MetricPoint]] = {}
        self._torn: set[RunId] = set()
        self._warnings: dict[RunId, str] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line per run whose journal could not be written."""
        return tuple(self._warnings.values())

    def append(self, run: RunId, points: Sequence[MetricPoint]) -> None:
        """Append points; what cannot be written waits in memory."""
        with self._lock:
            waiting = [*self._pending.pop(run, []), *points]
            try:
                self._write(run, waiting)
            except OSError as error:
                self._pending[run] = waiting
                self._warnings.setdefault(
                    run, f"run {run}: its journal cannot be written ({error}); kept in memory"
                )

    def read(self, run: RunId) -> list[MetricPoint]:
        """Return every whole point of a run, in the order logged, also those that wait."""
        with self._lock:
            waiting = list(self._pending.get(run, []))
        try:
            data = self._path(run).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            data = b""
        except OSError as error:
            raise UnavailableError(
                f"run {run}: its journal cannot be read: {error}",
                code="journal-unreadable",
                hint="give yourself read permission on .stemma/journal",
            ) from error
        decoded = (_decode(line) for line in data.split(b"\n"))
        return [*(point for point in decoded if point is not None), *waiting]

    def close(self, run: RunId) -> None:
        """Make the journal durable and let go of it."""
        with self._lock:
            descriptor = self._descriptors.pop(run, None)
            if descriptor is None:
                return
            try:
                os.fsync(descriptor)
            except OSError as error:
                self._warnings.setdefault(run, f"run {run}: its journal may be lost ({error})")
            finally:
                os.close(descriptor)

    def forget(self, run: RunId) -> None:
        """Drop what waits in memory: it is in the database now."""
        with self._lock:
            self._pending.pop(run, None)

    def runs(self) -> list[RunId]:
        """Return every run that has a journal, sorted."""
        return sorted(RunId(path.stem) for path in self._folder.glob("r-*.jsonl"))

    def _path(self, run: RunId) -> Path:
        return self._folder / f"{run}.jsonl"

    def _write(self, run: RunId, points: Iterable[MetricPoint]) -> None:
        lines = b"".join(_encode(point) for point in points)
        if run not in self._descriptors:
            self._folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptors[run] = os.open(self._path(run), flags, 0o644)
            self._torn.add(run)  # a killed process may have left half a line
        if run in self._torn and os.fstat(self._descriptors[run]).st_size:
            lines = b"\n" + lines
        written = os.write(self._descriptors[run], lines)
        if written != len(lines):
            # All of it is tried again: a line that was whole already would be there twice.
            self._torn.add(run)
            os.ftruncate(self._descriptors[run], os.fstat(self._descriptors[run]).st_size - written)
            raise OSError(f"{written} of {len(lines)} bytes were written")
        self._torn.discard(run)


def _encode(point: MetricPoint) -> bytes:
    body = json.dumps(
        [point.name, repr(point.value), point.step, timestamp(point.logged_at)],
        ensure_ascii=True,
        separators=(",", ":"),
    ).encode("ascii")
    return body + _SEPARATOR + _checksum(body) + b"\n"


def _checksum(body: bytes) -> bytes:
    return f"{zlib.crc32(body):08x}".encode("ascii")


def _decode(line: bytes) -> MetricPoint | None:
    """Return the point of a line; ``None`` when the line is not what was written."""
    body, _, checksum = line.rpartition(_SEPARATOR)
    if not body or checksum != _checksum(body):
        return None
    name, value, step, moment = json.loads(body)
    return MetricPoint(
        name=name, value=float(value), step=step, logged_at=datetime.fromisoformat(moment)
    )
