"""Work ahead on threads: in order, bounded, and with no thread left."""

import threading
import time
from functools import partial

import pytest

from stemma.store.pipeline import Lane

_OTHERS = set[threading.Thread]()
"""Threads of objects that other tests of this process left to the collection of garbage."""


@pytest.fixture(autouse=True)
def _note_others() -> None:
    _OTHERS.clear()
    _OTHERS.update(threading.enumerate())


def _names() -> set[str]:
    own = set(threading.enumerate()) - _OTHERS
    return {thread.name for thread in own if "stemma-store" in thread.name}


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_results_come_in_the_order_of_the_jobs(threads: int) -> None:
    """A file's chunks must not change places because one was read faster."""
    lane: Lane[int] = Lane(threads=threads, limit_bytes=100)

    def job(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    taken: list[int] = []
    for number in range(20):
        lane.put(partial(job, number), 30)
        while lane.is_full:
            taken.append(lane.take())
        assert len(lane) <= 3
    while lane:
        taken.append(lane.take())
    lane.close()
    assert taken == list(range(20))
    assert not _names()


def test_a_lone_job_starts_no_thread() -> None:
    """A small file must not pay for threads."""
    lane: Lane[str] = Lane(threads=4, limit_bytes=100)
    lane.put(lambda: threading.current_thread().name, 1)
    assert not _names()
    assert lane.take() == threading.current_thread().name


@pytest.mark.parametrize("threads", [0, 2])
def test_a_job_that_fails_is_met_again_and_what_follows_is_kept(threads: int) -> None:
    """After an error nothing may count as stored that is not, nor be lost that can be had."""
    lane: Lane[str] = Lane(threads=threads, limit_bytes=100)
    tries: list[int] = []

    def fails_twice() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("disk full")
        return "first"

    lane.put(fails_twice, 1)
    lane.put(lambda: "second", 1)
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            lane.take()
        lane.pause()
        assert not _names()
    assert [lane.take(), lane.take()] == ["first", "second"]


def test_closing_waits_for_what_was_begun_and_drops_the_rest() -> None:
    """Nothing may go on in the background once an error was reported."""
    lane: Lane[None] = Lane(threads=1, limit_bytes=100)
    done: list[int] = []

    def job(number: int) -> None:
        time.sleep(0.02)
        done.append(number)

    for number in range(5):
        lane.put(partial(job, number), 1)
    lane.close()
    finished = len(done)
    assert finished <= 2
    assert not lane
    assert not _names()
    time.sleep(0.05)
    assert len(done) == finished
