"""However a log is written, renamed and read, each request is counted once."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.delivery.access_log import read_intervals
from stemma.domain.rollout import LogPosition

LINE = b'{"t":"17","m":"digits","g":"stable","w":"s1","a":"s1","s":200,"d":900,"i":"%08d"}\n'
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 200)),
        st.tuples(st.just("read"), st.integers(100, 2000)),
        st.tuples(st.just("rename"), st.integers(0, 2)),
    ),
    max_size=40,
)


@pytest.mark.slow
@given(steps=STEPS)
@settings(max_examples=150)
def test_each_line_is_counted_once(steps: list[tuple[str, int]]) -> None:
    """A rollout would be judged on requests that never were, or miss those that failed."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.jsonl"
        target, pending, written, renamed = log, b"", 0, 0
        position, counted = LogPosition(), 0
        for step, size in [*steps, ("write", 10_000), *[("read", 2000)] * 60]:
            if step == "write":
                # Pieces that end anywhere, like the flushes of a plane.
                if not pending:
                    pending = LINE % written
                    written += 1
                piece, pending = pending[:size], pending[size:]
                with target.open("ab") as file:
                    file.write(piece)
            elif step == "rename" and log.exists() and not pending and size:
                renamed += 1
                log.rename(log.with_name(f"access.jsonl.{renamed:06d}"))
                if size == 1:
                    # Written to the renamed file, before the new one is there.
                    with log.with_name(f"access.jsonl.{renamed:06d}").open("ab") as file:
                        file.write(LINE % written)
                    written += 1
                log.touch()
            elif step == "read":
                intervals, position = read_intervals(log, position, most_bytes=size)
                counted += sum(found.stable.requests for found in intervals.values())
        assert counted == written
