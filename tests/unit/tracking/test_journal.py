"""Journals: whole lines come back, torn and damaged ones do not."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

from stemma.domain.run import MetricPoint, RunId
from stemma.tracking.journal import Journals

RUN = RunId("r-00000001")
POINTS = [
    MetricPoint(
        name="loss µ\n\t", value=step / 7, step=step, logged_at=datetime(2026, 5, 3, tzinfo=UTC)
    )
    for step in range(20)
]


def test_points_come_back_as_logged(tmp_path: Path) -> None:
    """A curve would differ in its last digits."""
    journals = Journals(tmp_path / "journal")
    journals.append(RUN, POINTS[:5])
    journals.append(RUN, POINTS[5:])
    journals.close(RUN)
    journals.close(RUN)
    assert Journals(tmp_path / "journal").read(RUN) == POINTS
    assert journals.runs() == [RUN]
    assert journals.read(RunId("r-00000002")) == []


def test_a_torn_line_does_not_take_the_next_with_it(tmp_path: Path) -> None:
    """A killed process would cost a point that was logged after it."""
    first = Journals(tmp_path)
    first.append(RUN, POINTS[:2])
    first.close(RUN)
    path = tmp_path / f"{RUN}.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    second = Journals(tmp_path)
    second.append(RUN, POINTS[2:])
    assert second.read(RUN) == [POINTS[0], *POINTS[2:]]


def test_a_damaged_line_is_left_out(tmp_path: Path) -> None:
    """A flipped bit would change a curve."""
    journals = Journals(tmp_path)
    journals.append(RUN, POINTS)
    path = tmp_path / f"{RUN}.jsonl"
    whole = path.read_bytes()
    chance = random.Random(3)
    for _ in range(100):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        found = Journals(tmp_path).read(RUN)
        assert len(found) >= len(POINTS) - 2
        assert all(point in POINTS for point in found)
