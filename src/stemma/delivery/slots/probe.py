"""Asks a model process over its Unix socket whether it is ready, without ever waiting.

Invariants:
    * No call blocks: each takes what is there now; the caller comes again.
    * Any HTTP answer proves that the process lives; only 200 that it is ready.

Example:
    >>> probe = Probe("/run/model.sock", deadline=now + 5)  # doctest: +SKIP
    >>> probe.advance(now)  # None until the answer is there  # doctest: +SKIP
"""

from __future__ import annotations

import socket
from enum import Enum
from typing import Final, NamedTuple, final

_REQUEST: Final = b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_MOST_BYTES: Final = 64 * 1024
_STATUS_LINE_PARTS: Final = 2
_OK: Final = 200


class Answer(Enum):
    """How a probe ended."""

    READY = "ready"
    NOT_READY = "not ready"
    NONE = "no answer"


class ProbeResult(NamedTuple):
    """The answer and what came with it."""

    answer: Answer
    body: str = ""


@final
class Probe:
    """One request and its answer; close it when it is given up."""

    __slots__ = ("_deadline", "_is_sent", "_path", "_received", "_socket")

    def __init__(self, path: str, *, deadline: float) -> None:
        """Prepare to ask the process behind ``path``; nothing is sent yet."""
        self._path = path
        self._deadline = deadline
        self._socket: socket.socket | None = None
        self._is_sent = False
        self._received = b""

    def advance(self, now: float) -> ProbeResult | None:
        """Do what can be done at once; returns the result when there is one."""
        try:
            is_done = self._send() and self._receive()
        except BlockingIOError:
            is_done = False
        except OSError:
            # Nobody listens, or the process fell silent: both are no answer.
            self.close()
            return ProbeResult(Answer.NONE)
        if is_done:
            self.close()
            return _parse(self._received)
        if now >= self._deadline:
            self.close()
            return ProbeResult(Answer.NONE)
        return None

    def close(self) -> None:
        """Drop the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self) -> bool:
        if self._is_sent:
            return True
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(0)
        # unix(7): connect is done at once, or EAGAIN when the queue is full.
        self._socket.connect(self._path)
        self._socket.send(_REQUEST)  # Far smaller than the empty buffer.
        self._is_sent = True
        return True

    def _receive(self) -> bool:
        """Read until the other side closes; returns whether it did."""
        while self._socket is not None and len(self._received) < _MOST_BYTES:
            block = self._socket.recv(_MOST_BYTES)
            if not block:
                return True
            self._received += block
        return True


def _parse(received: bytes) -> ProbeResult:
    head, _, body = received.partition(b"\r\n\r\n")
    parts = head.split(b"\r\n", 1)[0].split()
    if len(parts) < _STATUS_LINE_PARTS or not parts[1].isdigit():
        return ProbeResult(Answer.NONE)
    answer = Answer.READY if int(parts[1]) == _OK else Answer.NOT_READY
    return ProbeResult(answer, body.decode("utf-8", errors="replace"))
