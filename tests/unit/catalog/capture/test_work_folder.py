"""Folders of runs in the making: gone with the run, or with the next one after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stemma.catalog.capture.work_folder import WorkFolder, remove_abandoned

_HOLD = """
import sys, time
from pathlib import Path
from stemma.catalog.capture.work_folder import WorkFolder
folder = WorkFolder(Path(sys.argv[1]), "r-1")
(folder.path / "model.bin").write_bytes(b"half")
print(folder.path, flush=True)
time.sleep(60)
"""


def test_a_closed_folder_leaves_nothing(tmp_path: Path) -> None:
    """Every run would leave a folder and a lock."""
    work = WorkFolder(tmp_path / "tmp", "r-1")
    assert work.path.is_dir()
    work.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_living_process_keeps_its_folder(tmp_path: Path) -> None:
    """A second training would delete the files of the first while it writes them."""
    first = WorkFolder(tmp_path, "r-1")
    second = WorkFolder(tmp_path, "r-2")
    assert remove_abandoned(tmp_path) == []
    assert first.path.is_dir()
    first.close()
    second.close()


@pytest.mark.slow
def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """Each crash would keep a model's size on the disk for ever."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    assert (left / "model.bin").exists()
    assert remove_abandoned(tmp_path) == []
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    work = WorkFolder(tmp_path, "r-2")
    assert not left.exists()
    work.close()
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """Something that is not a run's would be deleted."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "r-0-old").mkdir()
    assert remove_abandoned(tmp_path) == [tmp_path / "r-0-old"]
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
