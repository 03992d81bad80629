"""Group commit: many small writes from many threads, one durable transaction for all of them.

A write that is acknowledged is durable, and durability costs one sync of the disk.  While one
group is being written the next one gathers, so eight clients pay for one sync, not for eight.

Invariants:
    * ``run`` returns only after the transaction that holds the operation is durable.
    * Operations are carried out in the order they were handed in.
    * An operation that raises takes nothing of another one with it: its group is undone, and
      each member is then written alone.  So an operation may be carried out twice, of which
      only one is kept; it works on rows only.

It knows no tables; an operation is a function of a connection.

Example:
    >>> with closing(Ingest(database)) as ingest:  # doctest: +SKIP
    ...     ingest.run(lambda connection: log_metrics(connection, run, points))
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeAlias, TypeVar, final

from stemma.db.engine import Connection, Database
from stemma.domain.errors import UnavailableError

ResultT = TypeVar("ResultT")
Operation: TypeAlias = Callable[[Connection], ResultT]
_Waiting: TypeAlias = tuple[Operation[Any], "Future[Any]"]

GROUP_LIMIT: Final = 256
"""Most operations in one transaction, so that nobody waits long for a large one."""


@final
class Ingest:
    """One writing thread; safe to use from any number of threads."""

    def __init__(self, database: Database) -> None:
        """Start the thread; it ends with ``close``."""
        self._database = database
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="stemma-ingest", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[ResultT]) -> Future[ResultT]:
        """Hand in an operation; the future is done once it is durable.

        Raises:
            UnavailableError: If ingest has been closed.
        """
        answer: Future[ResultT] = Future()
        with self._lock:
            if self._is_closed:
                raise UnavailableError("the server is stopping", code="server-stopping")
            self._waiting.put((operation, answer))
        return answer

    def run(self, operation: Operation[ResultT]) -> ResultT:
        """Carry out an operation and return what it returns, once it is durable.

        Raises:
            StemmaError: What the operation raised; nothing of it is kept then.
        """
        return self.submit(operation).result()

    def close(self) -> None:
        """Write what was handed in, then end the thread."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            first = self._waiting.get()
            if first is None:
                return
            group = [first]
            while len(group) < GROUP_LIMIT:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    is_open = False
                    break
                group.append(following)
            # Who gave up waiting meanwhile is not written for; from here on nobody can.
            group = [member for member in group if member[1].set_running_or_notify_cancel()]
            if group:
                self._write(group)

    def _write(self, group: list[_Waiting]) -> None:
        try:
            with self._database.write() as connection:
                results = [operation(connection) for operation, _ in group]
        except Exception as error:  # noqa: BLE001 - the thread's edge: the caller gets it
            self._give_up(group, error)
        else:
            for (_, answer), result in zip(group, results, strict=True):
                answer.set_result(result)

    def _give_up(self, group: list[_Waiting], error: Exception) -> None:
        """Write each member alone, so that only those that fail, fail."""
        if len(group) == 1:
            group[0][1].set_exception(error)
            return
        for member in group:
            self._write([member])
