"""Progress on stderr: one line with bytes done of total, rate and time left.

Invariants:
    * Never more than 100 %, never a percentage of files only.
    * A bar redraws at most ten times a second; lines come at the start, every ten seconds
      and at the end; JSON lines carry ``message_type`` (``status``, ``summary``).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TextIO

from stemma.cli import render
from stemma.cli.console import Console, ProgressMode

_BAR_WIDTH: Final = 20
_BAR_SECONDS: Final = 0.1
_LINE_SECONDS: Final = 10.0
_RATE_AFTER_SECONDS: Final = 0.2
_CLEAR: Final = "\r\x1b[K"


@dataclass(slots=True, kw_only=True)
class Meter:
    """What is done of what.

    Attributes:
        label: What is being done.
        total_bytes: All of it; 0 when unknown.
        done_bytes: So far.
        saved_bytes: Of these, not written because they were stored already.
    """

    label: str
    total_bytes: int
    done_bytes: int = 0
    saved_bytes: int = 0

    def line(self, elapsed_seconds: float) -> str:
        """Return the line as it stands."""
        parts = [self.label]
        done = min(self.done_bytes, self.total_bytes) if self.total_bytes else self.done_bytes
        if self.total_bytes:
            percent = 100 * done // self.total_bytes
            parts.append(f"{percent:3d} %  {render.size(done)} of {render.size(self.total_bytes)}")
        else:
            parts.append(render.size(done))
        if elapsed_seconds >= _RATE_AFTER_SECONDS and done:
            rate = done / elapsed_seconds
            parts.append(f"{render.size(int(rate))}/s")
            if self.total_bytes > done:
                parts.append(f"{render.duration((self.total_bytes - done) / rate)} left")
        if self.saved_bytes:
            parts.append(f"{render.size(self.saved_bytes)} saved")
        return "  ".join(parts)

    def bar(self, elapsed_seconds: float) -> str:
        """Return the line with a bar in front of the figures."""
        if not self.total_bytes:
            return self.line(elapsed_seconds)
        full = _BAR_WIDTH * min(self.done_bytes, self.total_bytes) // self.total_bytes
        bar = "█" * full + "░" * (_BAR_WIDTH - full)
        return self.line(elapsed_seconds).replace(self.label, f"{self.label}  {bar}", 1)

    def as_json(self, message_type: str, elapsed_seconds: float) -> str:
        """Return one JSON line."""
        return json.dumps(
            {
                "message_type": message_type,
                "label": self.label,
                "bytes_done": min(self.done_bytes, self.total_bytes or self.done_bytes),
                "total_bytes": self.total_bytes,
                "bytes_saved": self.saved_bytes,
                "seconds_elapsed": round(elapsed_seconds, 3),
            }
        )


class Reporter:
    """Writes a meter to a stream at the pace of its mode."""

    def __init__(
        self,
        meter: Meter,
        mode: ProgressMode,
        *,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock; writes the first line in ``lines`` and ``json``."""
        self.meter = meter
        self._mode = mode
        self._stream = stream
        self._clock = clock
        self._start = clock()
        self._last = self._start - _LINE_SECONDS
        if mode in {ProgressMode.LINES, ProgressMode.JSON}:
            self._write("status")

    def advance(self, size_bytes: int) -> None:
        """Count bytes, and write when it is time."""
        self.meter.done_bytes += size_bytes
        pace = _BAR_SECONDS if self._mode is ProgressMode.BAR else _LINE_SECONDS
        if self._mode is not ProgressMode.NONE and self._clock() - self._last >= pace:
            self._write("status")

    def finish(self) -> None:
        """Write the last line; a bar is taken away again."""
        if self._mode is ProgressMode.BAR:
            self._stream.write(_CLEAR)
            self._stream.flush()
        elif self._mode is not ProgressMode.NONE:
            self._write("summary")

    def _write(self, message_type: str) -> None:
        self._last = self._clock()
        elapsed = self._last - self._start
        match self._mode:
            case ProgressMode.BAR:
                self._stream.write(_CLEAR + self.meter.bar(elapsed))
            case ProgressMode.JSON:
                self._stream.write(self.meter.as_json(message_type, elapsed) + "\n")
            case ProgressMode.LINES | ProgressMode.AUTO:
                self._stream.write(self.meter.line(elapsed) + "\n")
            case ProgressMode.NONE:
                return
        self._stream.flush()


@contextmanager
def progress(console: Console, label: str, total_bytes: int = 0) -> Iterator[Reporter]:
    """Report progress of the block to stderr in the console's mode."""
    reporter = Reporter(
        Meter(label=label, total_bytes=total_bytes), console.progress, stream=sys.stderr
    )
    try:
        yield reporter
    finally:
        reporter.finish()
