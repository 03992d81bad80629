"""Leases: what is read is named to collections, and a dead reader names nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stemma.store.hashing import hash_bytes
from stemma.store.leases import Leases

DIGEST = hash_bytes(b"a version")
READ = """
import sys, time
from pathlib import Path
from stemma.domain.digest import Digest
from stemma.store.leases import Leases
lease = Leases(Path(sys.argv[1])).take(Digest.parse(sys.argv[2]))
print("reading", flush=True)
time.sleep(60)
"""


def test_what_is_read_is_named_until_it_is_given_up(tmp_path: Path) -> None:
    """A collection would take what somebody reads, or keep it for ever."""
    leases = Leases(tmp_path)
    assert leases.living() == []
    first, second = leases.take(DIGEST), leases.take(DIGEST)
    assert first is not None
    assert second is not None
    assert Leases(tmp_path).living() == [DIGEST, DIGEST]
    first.release()
    first.release()
    assert Leases(tmp_path).living() == [DIGEST]
    second.release()
    assert list((tmp_path / "leases").iterdir()) == []


@pytest.mark.slow
def test_a_reader_that_died_keeps_nothing(tmp_path: Path) -> None:
    """Somebody would have to hunt for a stale lease before the disk is freed."""
    process = subprocess.Popen(
        [sys.executable, "-c", READ, str(tmp_path), str(DIGEST)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "reading\n"
        assert Leases(tmp_path).living() == [DIGEST]
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert Leases(tmp_path).living() == []
    assert list((tmp_path / "leases").iterdir()) == []


def test_a_forked_process_leaves_the_lease_to_its_parent(tmp_path: Path) -> None:
    """A worker that ends would open what its parent still reads to collections."""
    lease = Leases(tmp_path).take(DIGEST)
    assert lease is not None
    child = os.fork()
    if child == 0:
        lease.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert Leases(tmp_path).living() == [DIGEST]
    lease.release()


def test_where_nothing_can_be_written_there_is_no_lease(tmp_path: Path) -> None:
    """A project on a read-only disk could not be read."""
    assert Leases(tmp_path / "missing").take(DIGEST) is None
    (tmp_path / "leases").write_text("in the way", encoding="utf-8")
    assert Leases(tmp_path).take(DIGEST) is None
    assert Leases(tmp_path).living() == []
