"""Who waits for the store, and how long."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest

from stemma.domain.errors import LockedError
from stemma.server.wiring import init_project, open_hub
from stemma.store.locks import StoreLock


@pytest.mark.slow
def test_the_end_of_a_training_outwaits_a_collection(tmp_path: Path) -> None:
    """Hours of training would be lost to a garbage collection that ran at its end."""
    init_project(tmp_path)
    (tmp_path / "stemma.toml").write_text("lock_timeout_seconds = 1\n", encoding="utf-8")
    has_lock, may_end = Event(), Event()

    def collect() -> None:
        with StoreLock(tmp_path / ".stemma").exclusive():
            has_lock.set()
            may_end.wait(timeout=10)

    collector = Thread(target=collect)
    collector.start()
    has_lock.wait(timeout=10)
    with closing(open_hub(tmp_path)) as hub:
        with pytest.raises(LockedError, match="in use by"), hub.writing():
            pass
        may_end.set()
        with hub.writing(is_patient=True):
            collector.join(timeout=10)
    assert not collector.is_alive()
