"""The access log is counted exactly once, whatever happens to its files."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from stemma.delivery.access_log import (
    RequestLine,
    arrival_times_ms,
    count,
    read_intervals,
    read_lines,
)
from stemma.domain.rollout import LogPosition
from stemma.domain.traffic import SideCounts, latency_bucket

START = LogPosition()


def line(**fields: object) -> bytes:
    usual = {"t": "1700000000000", "m": "digits", "g": "stable", "w": "s1", "a": "s1", "s": 200}
    values = {**usual, "d": 900, "n": 1, "f": "-", "i": "x", **fields}
    return json.dumps({key: value for key, value in values.items() if value is not None}).encode()


def append(log: Path, *lines: bytes, end: bytes = b"\n") -> None:
    with log.open("ab") as file:
        file.write(b"\n".join(lines) + end)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.jsonl"


def requests(log: Path, position: LogPosition) -> tuple[int, LogPosition]:
    intervals, position = read_intervals(log, position)
    return sum(i.stable.requests + i.canary.requests for i in intervals.values()), position


def test_each_line_is_counted_once(log: Path) -> None:
    """A request counted twice would let the judge decide too early."""
    append(log, line(), line())
    assert requests(log, START)[0] == 2
    _, position = requests(log, START)
    assert requests(log, position) == (0, position)
    append(log, line(m="fashion"), line(g="canary", w="s2", a="s2"))
    intervals, _ = read_intervals(log, position)
    assert intervals["fashion"].stable.requests == 1
    assert intervals["digits"].canary.requests == 1
    assert intervals["digits"].stable == SideCounts()


@pytest.mark.parametrize(
    ("fields", "errors", "rescued", "is_timed"),
    [
        ({"s": 200}, 0, 0, True),
        ({"s": 404}, 0, 0, True),
        ({"s": 500}, 1, 0, False),
        ({"s": 503, "f": "UF"}, 1, 0, False),
        ({"s": 504, "f": "UT"}, 1, 0, False),
        ({"s": 200, "a": "s1", "n": 2}, 1, 1, False),
        ({"s": 400, "a": "s1", "n": 2}, 1, 1, False),
        ({"s": 500, "a": "s1", "n": 2}, 1, 0, False),
        ({"s": 0, "f": "DC"}, 0, 0, False),
        ({"s": 0, "f": "DC", "a": "s1", "n": 2}, 1, 0, False),
        ({"s": 200, "n": 2}, 0, 0, True),
    ],
)
def test_a_side_is_blamed_for_what_it_failed(
    fields: dict[str, object], errors: int, rescued: int, *, is_timed: bool
) -> None:
    """A crash that stable covers up must count against the canary, a rude client must not."""
    decoded = read_line(line(g="canary", w="s2", **{"a": "s2", **fields}))
    found = count([decoded])["digits"].canary
    assert found == SideCounts(
        requests=1,
        errors=errors,
        rescued=rescued,
        latency={latency_bucket(900): 1} if is_timed else {},
    )


def read_line(text: bytes) -> RequestLine:
    return msgspec.json.decode(text, type=RequestLine, strict=False)


def test_probes_and_paths_of_no_model_are_nobodys_traffic(log: Path) -> None:
    """A drill must not look like users, nor the web page like a model."""
    append(log, line(g="probe"), line(m=None, g=None))
    assert read_intervals(log, START)[0] == {}


def test_a_line_that_is_not_whole_waits(log: Path) -> None:
    """Half a line would be lost, or counted twice."""
    whole = line()
    append(log, whole, whole[:20], end=b"")
    found, position = requests(log, START)
    assert found == 1
    append(log, whole[20:])
    assert requests(log, position)[0] == 1


def test_garbage_is_passed_over_and_counted(log: Path) -> None:
    """A full disk tears lines; the judge must go on."""
    torn = line()[:30] + line()
    append(log, line(), torn, b"\xff\xfe\x00", b"[]", b'{"t":"x"}', b"null", line())
    reading = read_lines(log, START)
    assert len(reading.lines) == 2
    assert reading.skipped == 5
    assert read_lines(log, reading.position).lines == []


def test_a_missing_log_is_an_empty_one(log: Path) -> None:
    """The first look may come before the first request."""
    assert read_intervals(log, START) == ({}, START)
    assert arrival_times_ms(log, "digits", 60) == []
    append(log, line())
    assert requests(log, START)[0] == 1


def test_a_renamed_log_is_finished_first(log: Path) -> None:
    """Rotation must lose no request and count none twice."""
    append(log, line())
    _, position = requests(log, START)
    append(log, line())
    log.rename(log.with_name("access.jsonl.000001"))
    append(log.with_name("access.jsonl.000001"), line())
    found, position = requests(log, position)
    assert found == 2
    append(log.with_name("access.jsonl.000001"), line())
    append(log, line(t=1), line(t=2))
    found, position = requests(log, position)
    assert found == 3
    log.rename(log.with_name("access.jsonl.000002"))
    append(log, line(t=3))
    assert requests(log, position)[0] == 1
    assert requests(log, START)[0] == 7


def test_a_log_that_was_cut_is_read_from_its_start(log: Path) -> None:
    """Who empties the log by hand must not stop the judge."""
    append(log, line(t=1), line(), line())
    _, position = requests(log, START)
    log.write_bytes(b"")
    assert requests(log, position)[0] == 0
    append(log, line(t=2))
    assert requests(log, position)[0] == 1
    append(log, line(t=3), line(t=4), line(t=5))
    assert requests(log, position)[0] == 4


def test_a_lost_file_is_gone_on_from_the_oldest(log: Path) -> None:
    """After a long pause old files are gone; what is there still counts."""
    append(log, line())
    gone = LogPosition(file="access.jsonl:1:00000000", offset_bytes=5)
    assert requests(log, gone)[0] == 1


def test_one_call_reads_a_bounded_part(log: Path) -> None:
    """After a night without a server, memory must not grow with the log."""
    text = line()
    append(log, *[text] * 100)
    log.rename(log.with_name("access.jsonl.000001"))
    append(log, *[text] * 100)
    total, position, calls = 0, START, 0
    while True:
        intervals, position = read_intervals(log, position, most_bytes=len(text) * 7)
        if not intervals:
            break
        calls += 1
        total += intervals["digits"].stable.requests
    assert total == 200
    assert calls > 30


def test_a_line_without_end_is_stepped_over(log: Path) -> None:
    """A header of megabytes must not hold up the judge for ever."""
    append(log, b"x" * 5000, line())
    position, total = START, 0
    for _ in range(10):
        intervals, position = read_intervals(log, position, most_bytes=1000)
        total += sum(interval.stable.requests for interval in intervals.values())
    assert total == 1


def test_who_begins_to_watch_starts_at_the_end(log: Path) -> None:
    """Yesterday's errors are not this rollout's."""
    append(log, line(), line()[:10], end=b"")
    intervals, position = read_intervals(log, START, is_from_end=True)
    assert intervals == {}
    append(log, line()[10:])
    assert requests(log, position)[0] == 1


def test_arrivals_are_the_latest_of_the_model(log: Path) -> None:
    """Staging replays in production's pattern."""
    base = 1_700_000_000_000
    append(log, line(t=base), line(t=base + 50_000))
    log.rename(log.with_name("access.jsonl.000001"))
    append(log, line(t=base + 61_000), line(t=base + 60_500), line(t=base + 99_000, g="probe"))
    assert arrival_times_ms(log, "digits", 20) == [base + 50_000, base + 60_500, base + 61_000]
    assert arrival_times_ms(log, "fashion", 20) == []
