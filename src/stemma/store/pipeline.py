"""Work that threads do ahead of whoever needs it: bounded, and handed over in order.

Invariants:
    * Results are taken in the order in which their jobs were put, so that what is made of
      them does not depend on how many threads there are.
    * A lone job is done by whoever takes it: for little work no thread is started.
    * After ``pause`` and ``close`` no thread is left, and nothing is going on.

This module does not know what the jobs do; what they share, they must guard.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, final

T = TypeVar("T")

_MOST_THREADS: Final = 8
"""Each needs some 30 MiB for the block it works on."""

_MOST_JOBS: Final = 256


def worker_threads() -> int:
    """Return how many threads pay here; 0 where there is one processor only."""
    processors = len(os.sched_getaffinity(0))
    return min(processors, _MOST_THREADS) if processors > 1 else 0


@dataclass(slots=True, kw_only=True)
class _Job(Generic[T]):
    run: Callable[[], T]
    size_bytes: int
    future: Future[T] | None = None


@final
class Lane(Generic[T]):
    """Jobs under way; one thread puts and takes."""

    def __init__(self, *, threads: int, limit_bytes: int) -> None:
        """Start with no job and no thread.

        Args:
            threads: How many jobs are done at once; 0 does each when it is taken.
            limit_bytes: How much the jobs may weigh that are neither done nor taken.
        """
        self._threads = threads
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._jobs: deque[_Job[T]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """Return how many results are to be taken."""
        return len(self._jobs)

    @property
    def is_full(self) -> bool:
        """Whether a result should be taken before another job is put."""
        return self._size_bytes > self._limit_bytes or len(self._jobs) > _MOST_JOBS

    def put(self, run: Callable[[], T], size_bytes: int) -> None:
        """Add a job that weighs so much in memory."""
        self._jobs.append(_Job(run=run, size_bytes=size_bytes))
        self._size_bytes += size_bytes
        if len(self._jobs) > 1:
            self.start()

    def start(self) -> None:
        """Have everything done now that was put; a lone job would wait to be taken."""
        if not self._threads:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="stemma-store")
        for job in self._jobs:
            if job.future is None:
                job.future = self._pool.submit(job.run)

    def take(self) -> T:
        """Return the oldest job's result; there must be a job.

        When it raises, or the wait is interrupted, the job stays and the next call tries again.
        """
        job = self._jobs[0]
        if job.future is None:
            result = job.run()
        else:
            wait([job.future])
            future, job.future = job.future, None
            result = future.result()
        self._jobs.popleft()
        self._size_bytes -= job.size_bytes
        return result

    def pause(self) -> None:
        """Wait for what was begun and end the threads; every result may still be taken."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        for job in self._jobs:
            if job.future is not None and job.future.cancelled():
                job.future = None

    def close(self) -> None:
        """Wait for what was begun, drop the rest, and end the threads."""
        self.pause()
        self._jobs.clear()
        self._size_bytes = 0
