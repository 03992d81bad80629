"""Who waits for the store, and how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
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


@contextmanager
def _collecting(root: Path) -> Iterator[None]:
    """Hold the store as a collection does."""
    has_lock, may_end = Event(), Event()

    def collect() -> None:
        with StoreLock(root / ".stemma").exclusive():
            has_lock.set()
            may_end.wait(timeout=10)

    collector = Thread(target=collect)
    collector.start()
    has_lock.wait(timeout=10)
    try:
        yield
    finally:
        may_end.set()
        collector.join(timeout=10)


@pytest.mark.slow
def test_who_begins_to_read_beside_a_collection_waits_unless_it_is_kept(tmp_path: Path) -> None:
    """A version would vanish half read; or nothing could be read as long as one is at work."""
    init_project(tmp_path)
    (tmp_path / "stemma.toml").write_text("lock_timeout_seconds = 1\n", encoding="utf-8")
    with closing(open_hub(tmp_path)) as hub:
        kept = hub.objects.put_bytes(b"tracked").digest
        hub.track("data.csv", kept)
        doomed = hub.objects.put_bytes(b"not tracked").digest
        with _collecting(tmp_path):
            with hub.reading(kept):
                pass
            with pytest.raises(LockedError), hub.reading(doomed):
                pass
        with hub.reading(doomed), StoreLock(tmp_path / ".stemma").exclusive(timeout_seconds=0):
            assert hub.parts.leases.living() == [doomed]
    assert list((tmp_path / ".stemma" / "leases").iterdir()) == []


@pytest.mark.slow
def test_a_reader_that_cannot_write_holds_collections_off(tmp_path: Path) -> None:
    """What is read from a read-only disk would be collected by the machine that may write."""
    init_project(tmp_path)
    (tmp_path / ".stemma" / "leases").rmdir()
    (tmp_path / ".stemma" / "leases").write_text("no folder", encoding="utf-8")
    with closing(open_hub(tmp_path)) as hub:
        content = hub.objects.put_bytes(b"data").digest
        lock = StoreLock(tmp_path / ".stemma")
        with hub.reading(content), pytest.raises(LockedError), lock.exclusive(timeout_seconds=0):
            pass
        with lock.exclusive(timeout_seconds=0):
            pass
