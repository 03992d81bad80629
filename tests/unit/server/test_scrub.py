"""The scrub of the store: it finds rot, goes on where it was, and stands still when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from stemma.cli.trash_cards import scrub_line
from stemma.server.scrub import Scrubber, ScrubPace, ScrubState, read_scrub
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

Make = Callable[..., Scrubber]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """Return a store of two small files and a tree."""
    store = ObjectStore(LocalBackend(tmp_path / "objects"), MemoryChunkIndex())
    for name in ("a", "b"):
        (tmp_path / name).write_text(name * 100)
    store.put_tree(tmp_path, ["a", "b"])
    return store


@pytest.fixture
def make(store: ObjectStore, tmp_path: Path) -> Iterator[Make]:
    """Return what starts a scrub; all end with the test."""
    made: list[Scrubber] = []

    def start(
        *, days: int = 7, later: timedelta = timedelta(), repair: Callable[[], object] | None = None
    ) -> Scrubber:
        scrubber = Scrubber(
            store,
            tmp_path / "serve",
            ScrubPace(days=days, megabytes_per_second=1000),
            lambda: datetime.now(UTC) + later,
            repair,
        )
        made.append(scrubber)
        scrubber.start()
        return scrubber

    yield start
    for scrubber in made:
        scrubber.close()


def _wait(folder: Path, is_done: Callable[[ScrubState], bool]) -> ScrubState:
    end = time.monotonic() + 20
    while not is_done(state := read_scrub(folder / "serve")):
        assert time.monotonic() < end, state
        time.sleep(0.02)
    return state


@pytest.mark.slow
def test_rot_is_found_told_once_and_forgotten_when_well(
    store: ObjectStore, make: Make, tmp_path: Path
) -> None:
    """A disk that rots would be noticed when the version is needed."""
    store.backend.put("trees/00/" + "0" * 62, b"damaged")
    scrubber = make()
    state = _wait(tmp_path, lambda state: state.finished_at is not None)
    assert [finding.kind for finding in state.findings.values()] == ["tree-damaged"]
    assert "1 damaged object" in scrub_line(state)
    (told,) = scrubber.keep(is_busy=False)
    assert "stemma doctor --repair" in told
    scrubber.close()
    assert scrubber.keep(is_busy=False) == []
    store.backend.delete("trees/00/" + "0" * 62)
    again = make(later=timedelta(days=8))
    _wait(tmp_path, lambda state: not state.findings)
    assert "well again" in "".join(again.keep(is_busy=False))


@pytest.mark.slow
def test_it_stands_still_while_a_rollout_is_under_way(make: Make, tmp_path: Path) -> None:
    """Reading would be measured as the canary's latency."""
    scrubber = make()
    _wait(tmp_path, lambda state: state.finished_at is not None)
    scrubber.close()
    second = make(later=timedelta(days=8))
    second.keep(is_busy=True)
    before = read_scrub(tmp_path / "serve").finished_at
    time.sleep(0.3)
    second.keep(is_busy=False)
    _wait(tmp_path, lambda state: state.finished_at != before)


@pytest.mark.slow
def test_it_goes_on_where_the_last_server_ended(
    store: ObjectStore, make: Make, tmp_path: Path
) -> None:
    """A server that restarts often would read the same beginning for ever."""
    keys = [stat.key for stat in store.backend.list()]
    make(days=0).close()
    half = ScrubState(started_at=datetime.now(UTC), after=keys[-2], checked_bytes=7, total_bytes=9)
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "scrub.json").write_bytes(msgspec.json.encode(half))
    assert "77 %" in scrub_line(half)
    size = store.backend.size(keys[-1])
    make()
    state = _wait(tmp_path, lambda state: state.finished_at is not None)
    assert state.checked_bytes == 7 + size


@pytest.mark.slow
def test_it_repairs_only_when_it_may(store: ObjectStore, make: Make, tmp_path: Path) -> None:
    """What nobody allowed would be written by a thread in the background."""
    key = "trees/00/" + "0" * 62
    store.backend.put(key, b"damaged")
    make(repair=lambda: store.backend.delete(key))
    state = _wait(tmp_path, lambda state: state.finished_at is not None)
    assert state.findings == {}


def test_a_large_store_is_read_no_faster_than_allowed() -> None:
    """A terabyte in a week would take the disk from the users."""
    assert ScrubPace(days=7, megabytes_per_second=2).bytes_per_second(10**13) == 2_000_000
    assert ScrubPace(days=7, megabytes_per_second=8).bytes_per_second(10**3) == 100_000


def test_a_torn_state_file_starts_a_new_pass(tmp_path: Path) -> None:
    """A power cut would keep the server from starting."""
    (tmp_path / "scrub.json").write_bytes(b'{"after": "fra')
    assert read_scrub(tmp_path) == ScrubState()
