"""Who serves now: one file that says it, one lock that proves it.

Invariants:
    * At most one server holds the lock; it goes with the process, however that ends.
    * The file may be older than the lock: it also tells where the data plane answers after
      its server has died.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.files import replace_bytes
from stemma.domain.errors import ConflictError

_ASKING_SECONDS: Final = 0.5


class ServerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What ``server.json`` holds.

    Attributes:
        pid: Process of the server.
        host: Address the data plane listens on.
        port: Its port.
        plane: ``envoy`` or ``builtin``.
        since: When the server started.
    """

    pid: int
    host: str
    port: int
    plane: str
    since: datetime

    @property
    def address(self) -> str:
        """Where requests are answered, ``http://127.0.0.1:8700``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def read_server(layout: ServeLayout) -> ServerRecord | None:
    """Return who served last; ``None`` when nobody did or the file is damaged."""
    try:
        return msgspec.json.decode(layout.server_file.read_bytes(), type=ServerRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def write_server(layout: ServeLayout, record: ServerRecord) -> None:
    """Say who serves."""
    replace_bytes(layout.server_file, msgspec.json.encode(record))


def is_server_running(layout: ServeLayout) -> bool:
    """Whether a server holds the lock now."""
    try:
        file = os.open(_lock_path(layout), os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


@contextmanager
def server_lock(layout: ServeLayout, *, is_serving: bool = False) -> Iterator[None]:
    """Be the one server of the project, or keep every server away.

    Args:
        layout: Where serving keeps its files.
        is_serving: This process serves, and ends when it is asked to by SIGTERM.

    Raises:
        ConflictError: If another one is (``server-running``).
    """
    layout.root.mkdir(parents=True, exist_ok=True)
    file = os.open(_lock_path(layout), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _take(file):
            raise server_running(layout)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid() if is_serving else 0).encode(), 0)
        yield
    finally:
        os.close(file)


def holder(layout: ServeLayout) -> int:
    """Return the process that serves; 0 when none does, or it began this instant."""
    try:
        text = _lock_path(layout).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if text.isdigit() and is_server_running(layout) else 0


def _take(file: int) -> bool:
    """Take the lock; somebody who only asks whether it is held holds it for an instant."""
    end = time.monotonic() + _ASKING_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(_ASKING_SECONDS / 20)
        else:
            return True


def server_running(layout: ServeLayout) -> ConflictError:
    """Return the error for a second server."""
    record = read_server(layout)
    where = "" if record is None else f" (process {record.pid}, {record.address})"
    return ConflictError(
        f"a server of this project runs already{where}",
        code="server-running",
        hint="stemma status, or stemma serve --stop",
    )


def _lock_path(layout: ServeLayout) -> Path:
    return layout.root / "server.lock"
