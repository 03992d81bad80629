"""Reads the access log of a data plane: what went over the wire, counted exactly once.

Invariants:
    * Only whole lines are taken, and the position moves past exactly those: whoever stores
      counts and position together counts each request once, across kills and rotations.
    * A line that makes no sense is passed over and counted, never raised.
    * One call reads a bounded number of bytes; the rest is there for the next call.
    * A file that was renamed is finished before the next one is begun.  Planes write to the
      renamed file only until the new one is there (``planes.process``), so all files are
      opened, the newest first, before any is read.

It does not judge; see ``stemma.domain.judge``.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from stemma.domain.rollout import LogPosition
from stemma.domain.traffic import Interval, Side, SideCounts, latency_bucket
from stemma.store.backends.local import translated_os_errors

MOST_BYTES: Final = 8 * 1024 * 1024
"""How much one call reads at most: some 40,000 requests."""

_ROTATED: Final = ".[0-9][0-9][0-9][0-9][0-9][0-9]"
_MARK_BYTES: Final = 1024
_SERVER_ERROR: Final = 500
_MOST_ARRIVALS_BYTES: Final = 64 * 1024 * 1024


class RequestLine(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "at_ms": "t",
        "model": "m",
        "side": "g",
        "wanted_slot": "w",
        "slot": "a",
        "version": "v",
        "status": "s",
        "duration_us": "d",
        "attempts": "n",
        "flags": "f",
        "request_id": "i",
    },
):
    """One request, as a data plane writes it; what is empty is left out.

    Attributes:
        at_ms: When it arrived, milliseconds since the epoch.
        model: Model it was for; empty when it was for none.
        side: ``stable``, ``canary`` or ``probe``: whom it was meant for.
        wanted_slot: Slot it was meant for.
        slot: Slot that answered, or that was asked last when none did.
        version: Version of that slot.
        status: HTTP status; 0 when the client went away before there was one.
        duration_us: From the first byte in to the last byte out, in microseconds.
        attempts: How many times a slot was asked.
        flags: Envoy's words for what went wrong; empty or ``-`` when nothing did.
        request_id: The client's ``x-request-id``, else one that was made.
    """

    at_ms: int
    model: str = ""
    side: str = ""
    wanted_slot: str = ""
    slot: str = ""
    version: str = ""
    status: int = 0
    duration_us: int = 0
    attempts: int = 0
    flags: str = ""
    request_id: str = ""

    @property
    def is_own(self) -> bool:
        """Whether the side it was meant for was asked last, so no other had to help."""
        return not self.slot or self.slot == self.wanted_slot

    @property
    def is_error(self) -> bool:
        """Whether the side it was meant for failed; what a client broke off is no failure."""
        return self.status >= _SERVER_ERROR or not self.is_own

    @property
    def is_rescued(self) -> bool:
        """Whether another side answered in its place, so that the user saw no failure."""
        return 0 < self.status < _SERVER_ERROR and not self.is_own


class LogReading(NamedTuple):
    """New lines of an access log.

    Attributes:
        lines: The requests.
        position: Where the next reading goes on.
        skipped: How many lines made no sense.
    """

    lines: list[RequestLine]
    position: LogPosition
    skipped: int


_DECODER: Final = msgspec.json.Decoder(RequestLine, strict=False)


def read_intervals(
    log: Path,
    position: LogPosition,
    *,
    is_from_end: bool = False,
    most_bytes: int = MOST_BYTES,
) -> tuple[dict[str, Interval], LogPosition]:
    """Return what each model's sides did since ``position``, and where to go on.

    Args:
        log: The access log; it need not be there.
        position: Where the last reading ended; an empty one means the oldest line kept.
        is_from_end: Count nothing, go to the end: for whoever begins to watch.
        most_bytes: How much to read at most.
    """
    if is_from_end:
        return {}, end_of(log)
    reading = read_lines(log, position, most_bytes=most_bytes)
    return count(reading.lines), reading.position


def count(lines: list[RequestLine]) -> dict[str, Interval]:
    """Return what each model's sides did; probes are nobody's traffic."""
    tallies: dict[tuple[str, str], _Tally] = {}
    for line in lines:
        if line.model and line.side in _SIDES:
            key = (line.model, line.side)
            tally = tallies.get(key)
            if tally is None:
                tally = tallies[key] = _Tally()
            tally.add(line)
    return {
        model: Interval(
            canary=_counts(tallies.get((model, Side.CANARY.value))),
            stable=_counts(tallies.get((model, Side.STABLE.value))),
        )
        for model in sorted({model for model, _ in tallies})
    }


def read_lines(log: Path, position: LogPosition, *, most_bytes: int = MOST_BYTES) -> LogReading:
    """Return the whole lines since ``position``, as far as ``most_bytes`` go."""
    lines: list[RequestLine] = []
    skipped = 0
    left_bytes = most_bytes
    with ExitStack() as stack, translated_os_errors(f"read {log}", is_write=False):
        files = _open_all(log, stack)
        first, offset = _find(files, position)
        for number in range(first, len(files)):
            file = files[number]
            file.handle.seek(offset)
            data = file.handle.read(left_bytes)
            left_bytes -= len(data)
            whole = data.rfind(b"\n") + 1
            is_full = left_bytes <= 0
            if whole == 0 and len(data) == most_bytes:
                # No line is that long: step over it rather than stand still.
                whole = len(data)
            skipped += _decode(data[:whole], lines)
            position = file.position(offset + whole)
            if is_full:
                break
            if number < len(files) - 1:
                skipped += whole < len(data)
            offset = 0
    return LogReading(lines, position, skipped)


def end_of(log: Path) -> LogPosition:
    """Return the position after the last whole line."""
    with ExitStack() as stack, translated_os_errors(f"read {log}", is_write=False):
        files = _open_all(log, stack)
        if not files:
            return LogPosition()
        newest = files[-1]
        start = max(0, newest.size_bytes - MOST_BYTES)
        newest.handle.seek(start)
        return newest.position(start + newest.handle.read(MOST_BYTES).rfind(b"\n") + 1)


def arrival_times_ms(log: Path, model: str, last_seconds: float) -> list[int]:
    """Return when the latest requests of a model arrived, oldest first.

    Args:
        log: The access log.
        model: Name of the model.
        last_seconds: How far to look back from the newest request of the model.
    """
    found = sorted(
        line.at_ms for line in _latest(log) if line.model == model and line.side in _SIDES
    )
    return [at_ms for at_ms in found if at_ms >= found[-1] - last_seconds * 1000]


_SIDES: Final = frozenset(side.value for side in Side)


@dataclass(slots=True)
class _Tally:
    """Counts under way."""

    requests: int = 0
    errors: int = 0
    rescued: int = 0
    latency: dict[int, int] = field(default_factory=dict)

    def add(self, line: RequestLine) -> None:
        self.requests += 1
        if line.is_error:
            self.errors += 1
            self.rescued += line.is_rescued
        elif line.status and line.duration_us:
            # A quick failure is no good latency, and another side's answer is not this one's.
            bucket = latency_bucket(line.duration_us)
            self.latency[bucket] = self.latency.get(bucket, 0) + 1


def _counts(tally: _Tally | None) -> SideCounts:
    if tally is None:
        return SideCounts()
    return SideCounts(
        requests=tally.requests,
        errors=tally.errors,
        rescued=tally.rescued,
        latency=tally.latency,
    )


class _LogFile(NamedTuple):
    """One file of the log, open."""

    handle: BinaryIO
    inode: int
    mark: int
    size_bytes: int
    name: str

    def position(self, offset_bytes: int) -> LogPosition:
        """Name a place in it.

        The mark tells it from a later file that was given the same inode.
        """
        file = f"{self.name}:{self.inode}:{self.mark:08x}"
        return LogPosition(file=file, offset_bytes=offset_bytes)


def _open_all(log: Path, stack: ExitStack) -> list[_LogFile]:
    """Open all files of the log, oldest first.

    The newest is opened first: renamed in between it is found twice, never missed.
    """
    opened: dict[int, _LogFile] = {}
    for path in _newest_first(log):
        try:
            handle = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            continue
        status = os.fstat(handle.fileno())
        mark = _mark(handle)
        opened.setdefault(
            status.st_ino, _LogFile(handle, status.st_ino, mark, status.st_size, log.name)
        )
    return list(reversed(opened.values()))


def _newest_first(log: Path) -> Iterator[Path]:
    yield log
    yield from sorted(log.parent.glob(log.name + _ROTATED), reverse=True)


def _mark(handle: BinaryIO) -> int:
    line, newline, _ = handle.read(_MARK_BYTES).partition(b"\n")
    return zlib.crc32(line) if newline else 0


def _find(files: list[_LogFile], position: LogPosition) -> tuple[int, int]:
    """Return which file to go on with, and from which byte."""
    inode = position.file.rpartition(":")[0].rpartition(":")[2]
    for number, file in enumerate(files):
        if str(file.inode) == inode:
            is_same = file.position(position.offset_bytes) == position
            is_there = position.offset_bytes <= file.size_bytes
            return number, position.offset_bytes if is_same and is_there else 0
    return 0, 0


def _decode(data: bytes, lines: list[RequestLine]) -> int:
    """Append what makes sense; return how many lines do not."""
    skipped = 0
    for text in data.split(b"\n"):
        if text:
            try:
                lines.append(_DECODER.decode(text))
            except (msgspec.DecodeError, UnicodeDecodeError):
                skipped += 1
    return skipped


def _latest(log: Path) -> list[RequestLine]:
    """Return the lines of the end of the log, however many files it is in."""
    lines: list[RequestLine] = []
    left_bytes = _MOST_ARRIVALS_BYTES
    with ExitStack() as stack, translated_os_errors(f"read {log}", is_write=False):
        for file in reversed(_open_all(log, stack)):
            start = max(0, file.size_bytes - left_bytes)
            file.handle.seek(start)
            _decode(file.handle.read(left_bytes), lines)
            left_bytes -= file.size_bytes - start
            if left_bytes <= 0:
                break
    return lines
