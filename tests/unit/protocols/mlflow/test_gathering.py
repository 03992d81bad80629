"""Small artifacts of several clients at once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from stemma.domain.errors import InvalidInputError, LockedError, UnavailableError
from stemma.protocols.mlflow.gathering import RowWriter, SmallFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stemma.store.ingest import StoredFile


def write_nothing(_: StoredFile) -> RowWriter:
    """Return a writer of no row."""
    return lambda _: None


def refuse(_: StoredFile) -> RowWriter:
    """Return a writer of a row that may not be."""

    def write(_: Any) -> None:
        raise InvalidInputError("no such run")

    return write


def test_one_that_fails_or_hangs_up_harms_no_other(ask: Any) -> None:
    """A file that was logged well would be refused, or never answered."""
    services, may_go_on = ask.services, threading.Event()

    @contextmanager
    def writing() -> Iterator[None]:
        may_go_on.wait(10)
        yield

    with closing(SmallFiles(services.objects, services.ingest, writing)) as small:
        first = small.submit(b"first", write_nothing)
        while not first.running():
            may_go_on.wait(0.001)
        gone = small.submit(b"gone", write_nothing)
        bad = small.submit(b"bad", refuse)
        good: list[Future[StoredFile]] = [
            small.submit(f"good {number}".encode(), write_nothing) for number in range(100)
        ]
        assert gone.cancel()
        may_go_on.set()
        stored = [future.result(timeout=20).digest for future in good]
        with pytest.raises(InvalidInputError):
            bad.result(timeout=20)
    assert services.objects.read_bytes(stored[99]) == b"good 99"
    with pytest.raises(UnavailableError):
        small.submit(b"late", write_nothing)


def test_while_the_store_is_collected_clients_are_told_to_come_again(ask: Any) -> None:
    """A client would take its file for refused for good."""
    services = ask.services

    @contextmanager
    def writing() -> Iterator[None]:
        raise LockedError("in use")
        yield

    with closing(SmallFiles(services.objects, services.ingest, writing)) as small:
        waiting = small.submit(b"a", write_nothing)
        with pytest.raises(LockedError):
            waiting.result(timeout=20)
