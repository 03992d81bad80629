"""Group commit on SQLite and on PostgreSQL: what was acknowledged is there, once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import pytest

from stemma.db.engine import Database
from stemma.domain.errors import InvalidInputError, UnavailableError
from stemma.domain.run import RunStart
from stemma.domain.tracking import Point
from stemma.tracking import run_log
from stemma.tracking.ingest import Ingest

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)
ACKNOWLEDGED = 150

_CHILD = """\
import sys, threading
from stemma.db.engine import Database
from stemma.domain.tracking import Point
from stemma.tracking import run_log
from stemma.tracking.ingest import Ingest

url, run = sys.argv[1:]
ingest = Ingest(Database.open(url, may_create=False))
lock = threading.Lock()

def work(thread):
    step = 0
    while True:
        own = Point(f"own/{thread}", 1.0, step, 0)
        points = [Point("shared", float(thread), step, thread), own]
        ingest.run(lambda connection: run_log.log_metrics(connection, run, points))
        with lock:
            print(thread, step, flush=True)
        step += 1

for thread in range(8):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
threading.Event().wait()
"""


def new_run(database: Database) -> str:
    """Open a run."""
    with database.write() as connection:
        start = RunStart(model="")
        return run_log.create_run(connection, start, started_at=NOW, now=NOW).record.id


@pytest.mark.slow
def test_points_acknowledged_before_a_kill_are_there_once(database_url: str) -> None:
    """A client would believe in points that a killed server has lost, or doubled."""
    with Database.open(database_url, may_create=True) as database:
        run = new_run(database)
    acknowledged: list[tuple[int, int]] = []
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, database_url, run], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            for line in child.stdout:
                acknowledged.append(tuple(map(int, line.split())))  # type: ignore[arg-type]
                if len(acknowledged) == ACKNOWLEDGED:
                    break
        finally:
            child.kill()
    assert len(acknowledged) == ACKNOWLEDGED
    with (
        Database.open(database_url, may_create=False) as database,
        database.read() as connection,
    ):
        shared, _ = run_log.metric_history(connection, run, "shared")
        kept = Counter((point.logged_at_us, point.step) for point in shared)
        assert set(acknowledged) <= kept.keys()
        assert set(kept.values()) == {1}
        for thread, steps in Counter(thread for thread, _ in kept).items():
            own, _ = run_log.metric_history(connection, run, f"own/{thread}")
            assert [point.step for point in own] == list(range(steps))


def test_a_write_that_fails_takes_no_other_with_it(database_url: str) -> None:
    """One client's mistake would cost another's points."""
    with (
        Database.open(database_url, may_create=True) as database,
        closing(Ingest(database)) as ingest,
    ):
        run = new_run(database)

        def write(step: int) -> str:
            def operation(connection: run_log.Connection) -> None:
                run_log.log_metrics(connection, run, [Point("loss", 1.0, step, 0)])
                if step % 5 == 0:
                    run_log.log_params(connection, run, {"p": "x" * 6001})

            try:
                ingest.run(operation)
            except InvalidInputError as error:
                return error.code
            return "written"

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(write, range(40)))
        with database.read() as connection:
            points, _ = run_log.metric_history(connection, run, "loss")
    assert answers == ["written" if step % 5 else "too-long" for step in range(40)]
    assert [point.step for point in points] == [step for step in range(40) if step % 5]
    with pytest.raises(UnavailableError):
        ingest.submit(lambda _: None)
