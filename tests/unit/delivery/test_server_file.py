"""Who serves: one lock that proves it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from stemma.delivery.layout import ServeLayout
from stemma.delivery.server_file import holder, is_server_running, server_lock
from stemma.domain.errors import ConflictError


def test_a_server_starts_although_somebody_asks_all_the_time_whether_one_runs(
    tmp_path: Path,
) -> None:
    """``stemma status`` at the wrong instant would keep a server from starting."""
    layout = ServeLayout(state=tmp_path)
    with server_lock(layout):
        pass
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            is_server_running(layout)
            time.sleep(0.0005)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(50):
            with server_lock(layout):
                pass
    finally:
        stop.set()
        asking.join()


def test_a_second_server_is_refused_and_the_lock_names_the_first(tmp_path: Path) -> None:
    """A stop would be sent to a process that an old file names, whoever has that number now."""
    layout = ServeLayout(state=tmp_path)
    with server_lock(layout, is_serving=True):
        assert holder(layout) == os.getpid()
        with pytest.raises(ConflictError, match="runs already"), server_lock(layout):
            pass
    assert holder(layout) == 0


def test_a_rebuild_holds_servers_away_and_is_not_asked_to_end(tmp_path: Path) -> None:
    """``serve --stop`` would end ``doctor --rebuild`` in the middle."""
    layout = ServeLayout(state=tmp_path)
    with server_lock(layout):
        assert is_server_running(layout)
        assert holder(layout) == 0
