"""The access log of the built-in proxy: the lines that Envoy writes, written like Envoy does.

Invariants:
    * A line is written at most 200 ms after its request, whole, and never changed.
    * A full disk delays lines, and after megabytes costs some, but never an answer.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, final

import msgspec

from stemma.delivery.access_log import RequestLine

FLUSH_SECONDS: Final = 0.2
_MOST_BYTES_KEPT: Final = 16 * 1024 * 1024


@final
class AccessLog:
    """An append-only file and the lines that are not in it yet."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` for appending."""
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._kept = bytearray()
        self._handle = self._open()

    def add(self, line: RequestLine) -> None:
        """Keep a line for the next flush."""
        self._kept += self._encoder.encode(line) + b"\n"

    def flush(self) -> None:
        """Write what is kept."""
        while self._kept:
            try:
                written = os.write(self._handle, self._kept)
            except OSError:
                # No room: what is kept waits for some, the newest lines of a long wait are lost.
                end = self._kept.rfind(b"\n", 0, _MOST_BYTES_KEPT) + 1
                del self._kept[end:]
                return
            del self._kept[:written]

    def reopen(self) -> None:
        """Finish the file that was renamed, and begin a new one."""
        self.flush()
        os.close(self._handle)
        self._handle = self._open()

    def close(self) -> None:
        """Write what is kept and close."""
        self.flush()
        os.close(self._handle)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
