"""Progress tells bytes, never more than there are."""

from __future__ import annotations

import io
import json

from stemma.cli.console import ProgressMode
from stemma.cli.progress import Meter, Reporter


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        """Start at zero."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_meter_tells_share_rate_time_left_and_savings() -> None:
    """A user could not tell whether to wait or to go home."""
    meter = Meter(label="adding", total_bytes=1000, done_bytes=250, saved_bytes=100)
    assert meter.line(1.0) == (
        "adding   25 %  250 bytes of 1.0 KB  250 bytes/s  3.0 s left  100 bytes saved"
    )


def test_a_file_that_grows_never_makes_more_than_all() -> None:
    """`104 %` would look like a fault."""
    meter = Meter(label="adding", total_bytes=1000, done_bytes=1040)
    assert "100 %  1.0 KB of 1.0 KB" in meter.line(0.0)


def test_an_unknown_total_has_no_share() -> None:
    """A division by zero would end the command."""
    assert Meter(label="adding", total_bytes=0, done_bytes=10).bar(0.0) == "adding  10 bytes"


def test_piped_progress_writes_at_start_each_ten_seconds_and_at_the_end() -> None:
    """A log file would be flooded, or silent for hours."""
    clock, stream = Clock(), io.StringIO()
    reporter = Reporter(
        Meter(label="adding", total_bytes=100), ProgressMode.LINES, stream=stream, clock=clock
    )
    for second in range(1, 26):
        clock.now = float(second)
        reporter.advance(4)
    reporter.finish()
    assert len(stream.getvalue().splitlines()) == 4


def test_json_lines_carry_their_type() -> None:
    """A program that follows progress could not tell the last line."""
    stream = io.StringIO()
    reporter = Reporter(
        Meter(label="adding", total_bytes=10), ProgressMode.JSON, stream=stream, clock=Clock()
    )
    reporter.advance(10)
    reporter.finish()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message_type"] for line in lines] == ["status", "summary"]
    assert lines[-1]["bytes_done"] == 10


def test_a_bar_is_taken_away_at_the_end() -> None:
    """Half a bar would stand above the answer."""
    stream = io.StringIO()
    clock = Clock()
    clock.now = 1.0
    reporter = Reporter(
        Meter(label="adding", total_bytes=10), ProgressMode.BAR, stream=stream, clock=clock
    )
    reporter.advance(5)
    reporter.finish()
    assert "██████████░░░░░░░░░░" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_no_progress_writes_nothing() -> None:
    """`--progress none` would not be honoured."""
    stream = io.StringIO()
    reporter = Reporter(
        Meter(label="adding", total_bytes=10), ProgressMode.NONE, stream=stream, clock=Clock()
    )
    reporter.advance(10)
    reporter.finish()
    assert stream.getvalue() == ""
