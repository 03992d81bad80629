"""Group commit when somebody gives up waiting."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, text

from stemma.db.engine import Database
from stemma.tracking.ingest import Ingest


def test_who_gives_up_waiting_does_not_stop_the_others(tmp_path: Path) -> None:
    """After one client hung up in time nothing would be written any more."""
    may_go_on = threading.Event()

    def wait(_: Connection) -> None:
        may_go_on.wait(10)

    with Database.open(f"sqlite:///{tmp_path}/stemma.db", may_create=True) as database:
        with closing(Ingest(database)) as ingest:
            first = ingest.submit(wait)
            while not first.running():
                pass
            given_up = ingest.submit(lambda _: 1)
            assert given_up.cancel()
            other = ingest.submit(lambda connection: connection.execute(text("SELECT 2")).scalar())
            may_go_on.set()
            assert other.result(timeout=10) == 2
            assert ingest.run(lambda _: 3) == 3
        assert first.done()
