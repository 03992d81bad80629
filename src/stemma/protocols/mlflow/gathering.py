"""Small artifacts that arrive at about the same time become durable together.

Making a file durable costs several syncs of the disk, whatever its size.  While one group is
being stored the next one gathers, so eight clients pay for them once, not eight times, and
never wait for each other's transactions.

Invariants:
    * A file counts only after it and its row are durable, as for any other artifact.
    * The store is held shared while a group is stored, and until its rows are durable.
    * A file that cannot be kept takes nothing of another one with it.

Example:
    >>> with closing(SmallFiles(objects, ingest, writing)) as small:  # doctest: +SKIP
    ...     small.submit(b"flavors: {}", make_operation).result()
"""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, TypeAlias, final

from stemma.db.engine import Connection
from stemma.domain.errors import UnavailableError
from stemma.store.ingest import Batch, StoredFile
from stemma.store.objects import ObjectStore
from stemma.tracking.ingest import Ingest

GROUP_LIMIT: Final = 64

RowWriter: TypeAlias = Callable[[Connection], None]
"""Writes the row of a stored file; it may be carried out twice, of which one is kept."""


class _Waiting(NamedTuple):
    """A file on its way, and who waits for it."""

    data: bytes
    make_writer: Callable[[StoredFile], RowWriter]
    answer: Future[StoredFile]


@final
class SmallFiles:
    """One storing thread; safe to use from any number of threads."""

    def __init__(
        self,
        objects: ObjectStore,
        ingest: Ingest,
        writing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Start the thread; it ends with ``close``."""
        self._objects = objects
        self._ingest = ingest
        self._writing = writing
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="stemma-small-files", daemon=True)
        self._thread.start()

    def submit(
        self, data: bytes, make_writer: Callable[[StoredFile], RowWriter]
    ) -> Future[StoredFile]:
        """Hand in a file and what writes its row; the future is done once both are durable.

        Raises:
            UnavailableError: If it has been closed.
        """
        answer: Future[StoredFile] = Future()
        with self._lock:
            if self._is_closed:
                raise UnavailableError("the server is stopping", code="server-stopping")
            self._waiting.put(_Waiting(data, make_writer, answer))
        return answer

    def close(self) -> None:
        """Store what was handed in, then end the thread."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            while len(group) < GROUP_LIMIT and not self._waiting.empty():
                following = self._waiting.get_nowait()
                if following is None:
                    self._store(group)
                    return
                group.append(following)
            self._store(group)

    def _store(self, taken: list[_Waiting]) -> None:
        # Who hung up meanwhile is told nothing; from here on nobody can.
        group = [it for it in taken if it.answer.set_running_or_notify_cancel()]
        if not group:
            return
        try:
            with self._writing():
                stored = self._put(group)
                rows = [
                    self._ingest.submit(waiting.make_writer(file))
                    for waiting, file in zip(group, stored, strict=True)
                ]
                for waiting, file, row in zip(group, stored, rows, strict=True):
                    _settle(waiting.answer, file, row)
        except Exception as error:  # noqa: BLE001 - the thread's edge: the callers get it
            for waiting in group:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)

    def _put(self, group: list[_Waiting]) -> list[StoredFile]:
        batch = Batch(self._objects.backend, self._objects.index, threads=0)
        stored = [batch.add_stream(io.BytesIO(waiting.data)) for waiting in group]
        batch.flush()
        return stored


def _settle(answer: Future[StoredFile], file: StoredFile, row: Future[None]) -> None:
    error = row.exception()
    if error is None:
        answer.set_result(file)
    else:
        answer.set_exception(error)
