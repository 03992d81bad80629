"""The store's lock: writers together, collection alone, nothing to remove after a crash."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stemma.domain.errors import LockedError
from stemma.store.locks import StoreLock

HOLD = """
import sys, time
from pathlib import Path
from stemma.store.locks import StoreLock
with getattr(StoreLock(Path(sys.argv[1])), sys.argv[2])():
    print("held", flush=True)
    time.sleep(60)
"""


def _holder(folder: Path, mode: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), mode], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_writers_share_and_collection_excludes(tmp_path: Path) -> None:
    """Collecting while somebody writes could remove what is about to be named."""
    lock = StoreLock(tmp_path)
    with (
        lock.shared(),
        StoreLock(tmp_path).shared(timeout_seconds=0),
        pytest.raises(LockedError),
        StoreLock(tmp_path).exclusive(timeout_seconds=0.05),
    ):
        pytest.fail("both hold it")
    with lock.exclusive(), pytest.raises(LockedError), lock.shared(timeout_seconds=0):
        pytest.fail("both hold it")
    with lock.exclusive(timeout_seconds=0):
        pass


@pytest.mark.slow
def test_the_holder_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    """Nobody should hunt for a stale lock file after a crash."""
    process = _holder(tmp_path, "exclusive")
    try:
        with pytest.raises(LockedError) as caught, StoreLock(tmp_path).shared(timeout_seconds=0):
            pytest.fail("both hold it")
        if Path("/proc/locks").exists():
            assert f"process {process.pid}" in caught.value.message
    finally:
        _kill(process)
    with StoreLock(tmp_path).exclusive(timeout_seconds=5):
        pass


@pytest.mark.slow
def test_a_waiter_gets_the_lock_when_the_holder_ends(tmp_path: Path) -> None:
    """Two commands at once should queue, not fail."""
    process = _holder(tmp_path, "shared")
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    with StoreLock(tmp_path).exclusive(timeout_seconds=10):
        assert time.monotonic() - started < 10
    _kill(process)
