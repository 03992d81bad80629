"""Wrong here: a look at one process stops the look at all others, or takes noise for an answer."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stemma.delivery.slots.base import ReplicaStatus, SlotSpec, SlotState, SlotStatus
from stemma.delivery.slots.probe import Answer, Probe
from stemma.delivery.slots.starting import is_answering
from stemma.domain.configuration import Configuration


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A Unix socket that accepts and answers nothing by itself."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as found:
        found.bind(str(Path(folder) / "s"))
        found.listen(1)
        yield found


def _answer(listener: socket.socket, *pieces: bytes) -> list[object]:
    probe = Probe(listener.getsockname(), deadline=time.monotonic() + 5)
    seen: list[object] = [probe.advance(0)]
    connection, _ = listener.accept()
    with connection:
        assert connection.recv(4096).startswith(b"GET /v2/health/ready HTTP/1.1\r\n")
        for piece in pieces:
            connection.sendall(piece)
            seen.append(probe.advance(0))
    seen.append(probe.advance(0))
    return seen


def test_an_answer_in_pieces_is_waited_for(listener: socket.socket) -> None:
    """A slow but sound process would be ended as a hanging one."""
    *early, last = _answer(listener, b"HTTP/1.", b"1 200 OK\r\n\r\n", b"{}")
    assert early == [None] * 4
    assert last == (Answer.READY, "{}")


def test_any_other_status_is_alive_but_not_ready(listener: socket.socket) -> None:
    """Requests would reach a process before its golden answer."""
    found = _answer(listener, b'HTTP/1.1 503 x\r\nA: b\r\n\r\n{"error": "loading"}')
    assert found[-1] == (Answer.NOT_READY, '{"error": "loading"}')


@pytest.mark.parametrize("noise", [b"", b"hello", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http_is_no_answer(listener: socket.socket, noise: bytes) -> None:
    """A stranger on the socket would count as ready."""
    assert _answer(listener, noise)[-1] == (Answer.NONE, "")


def test_silence_ends_at_the_deadline(listener: socket.socket) -> None:
    """A hanging process would never be noticed."""
    probe = Probe(listener.getsockname(), deadline=10.0)
    assert probe.advance(9.9) is None
    assert probe.advance(10.0) == (Answer.NONE, "")


def test_a_full_queue_is_waited_out(listener: socket.socket) -> None:
    """A busy process would look dead at its busiest."""
    probes = [Probe(listener.getsockname(), deadline=10.0) for _ in range(8)]
    assert [probe.advance(0.0) for probe in probes] == [None] * 8
    assert {probe.advance(10.0) for probe in probes} == {(Answer.NONE, "")}


def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    """A missing socket would end the supervisor's round."""
    assert Probe(str(tmp_path / "s"), deadline=10.0).advance(0.0) == (Answer.NONE, "")


def test_a_slot_that_was_seen_ready_but_hangs_now_is_not_answering(
    listener: socket.socket,
) -> None:
    """A rollback would send users to a process that hangs since a second."""
    now = datetime(2026, 5, 3, tzinfo=UTC)
    path = listener.getsockname()
    replica = ReplicaStatus(pid=1, state=SlotState.READY, socket=path, since=now)
    spec = SlotSpec(
        name="digits-1.0.0-c1",
        model="digits",
        version="1.0.0",
        manifest="sha256:1",
        configuration_digest="sha256:c",
        configuration=Configuration(),
    )
    status = SlotStatus(spec=spec, state=SlotState.READY, since=now, replicas=(replica,))
    assert not is_answering(status, timeout_seconds=0.05)
