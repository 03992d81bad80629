"""The access log of the built-in proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemma.delivery.access_log import RequestLine, read_lines
from stemma.delivery.planes.builtin_log import AccessLog
from stemma.domain.rollout import LogPosition

LINE = RequestLine(at_ms=1, model="digits", side="stable", slot="s1", status=200)


def test_lines_are_written_at_the_next_flush(tmp_path: Path) -> None:
    """The judge reads this file."""
    log = AccessLog(tmp_path / "log")
    log.add(LINE)
    assert (tmp_path / "log").read_bytes() == b""
    log.flush()
    log.add(LINE)
    log.close()
    assert read_lines(tmp_path / "log", LogPosition()).lines == [LINE, LINE]


def test_a_renamed_file_gets_the_lines_from_before(tmp_path: Path) -> None:
    """A line in the wrong file would be counted twice or never."""
    log = AccessLog(tmp_path / "log")
    log.add(LINE)
    (tmp_path / "log").rename(tmp_path / "old")
    log.reopen()
    log.add(LINE)
    log.close()
    assert len((tmp_path / "old").read_bytes().splitlines()) == 1
    assert len((tmp_path / "log").read_bytes().splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_keeps_a_bounded_number_of_lines(tmp_path: Path) -> None:
    """Memory must not grow while there is no room."""
    (tmp_path / "log").symlink_to("/dev/full")
    log = AccessLog(tmp_path / "log")
    long = RequestLine(at_ms=1, request_id="x" * 1_000_000)
    for _ in range(20):
        log.add(long)
        log.flush()
    (tmp_path / "log").unlink()
    log.reopen()
    log.close()
    kept = (tmp_path / "log").read_bytes()
    assert 1_000_000 < len(kept) <= 16 * 1024 * 1024
    assert kept.endswith(b"\n")
