"""Wrong here: a stranger is signalled, a secret leaks into a model, a log fills the disk."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stemma.delivery.slots.base import SlotSpec
from stemma.delivery.slots.launching import process_environment
from stemma.delivery.slots.process import (
    Launch,
    ModelProcess,
    ProcessFiles,
    adopt,
    is_running,
    spawn,
)
from stemma.domain.configuration import Configuration
from stemma.domain.errors import UnavailableError

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Starter:
    """Starts processes and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self.files = ProcessFiles(folder=folder, number=0)
        self.made: list[ModelProcess] = []

    def __call__(self, code: str, memory_mib: int = 100) -> ModelProcess:
        launch = Launch(
            command=(sys.executable, "-I", "-S", "-c", code),
            environment={"ONLY": "this"},
            memory_mib=memory_mib,
        )
        self.made.append(spawn(launch, self.files, _NOW, 0))
        return self.made[-1]

    def wait(self, process: ModelProcess) -> int | None:
        """Wait until it has ended."""
        end = time.monotonic() + 10
        while process.is_alive():
            assert time.monotonic() < end
            time.sleep(0.005)
        return process.exit_code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Start a process of Python."""
    starter = Starter(tmp_path / "slot")
    yield starter
    for process in starter.made:
        process.kill()
        starter.wait(process)


def test_a_process_has_a_session_and_only_the_given_variables(start: Starter) -> None:
    """Ctrl-C in the server's terminal would end what serves; secrets would reach models."""
    process = start("import os; print(os.getsid(0) == os.getpid(), dict(os.environ))")
    assert start.wait(process) == 0
    assert start.files.log.read_text().startswith("True {'ONLY': 'this'")
    assert "PATH" not in start.files.log.read_text()


def test_its_end_is_told_by_code_or_signal(start: Starter) -> None:
    """A golden mismatch would look like a crash."""
    assert start.wait(start("raise SystemExit(3)")) == 3
    process = start("import time; time.sleep(60)")
    process.terminate()
    assert start.wait(process) == -signal.SIGTERM


def test_the_last_words_are_found_and_the_log_before_is_kept(start: Starter) -> None:
    """Nobody would learn why a process ended, once it was started again."""
    start.wait(start("print('stemma: one: first'); print('stemma: two: it is full'); print('x')"))
    assert start.files.last_reason() == "two: it is full"
    start.wait(start("print('second run')"))
    assert start.files.last_reason() == ""
    assert "stemma: two" in start.files.previous_log.read_text()


def test_a_full_log_is_cut_and_the_process_writes_on(start: Starter) -> None:
    """A talkative model would fill the disk."""
    code = (
        "import sys\n"
        "while line := sys.stdin.readline() or 'go':\n"
        "    print('x' * 999, flush=True)\n"
        "    import time; time.sleep(0.001)"
    )
    process = start(code)
    while start.files.log.stat().st_size < 50_000:
        time.sleep(0.005)
    start.files.bound_log(10_000)
    assert start.files.previous_log.stat().st_size <= 10_000
    before = start.files.log.stat().st_size
    assert before < 50_000
    while start.files.log.stat().st_size <= before:
        time.sleep(0.005)
    assert start.files.log.read_bytes()[:1] == b"x", "written from its new end, without a hole"
    process.kill()


def test_memory_beyond_the_hard_stop_is_refused_by_the_kernel(start: Starter) -> None:
    """A leap of memory between two looks could take the machine down."""
    code = "import time; time.sleep(.2); x = bytearray(1500 << 20)"
    process = start(code, memory_mib=100)
    assert start.wait(process) == 1
    assert "MemoryError" in start.files.log.read_text()


def test_a_process_is_adopted_only_when_it_is_the_same_one(start: Starter) -> None:
    """A stranger with the same id would be watched, and ended."""
    process = start("import time; time.sleep(60)")
    found = adopt(start.files)
    assert found is not None
    assert found.record == process.record
    assert not is_running(process.record.pid, process.record.start_ticks + 1)
    process.kill()
    start.wait(process)
    assert adopt(start.files) is None
    start.files.record.write_bytes(b'{"pid": 1')
    assert adopt(start.files) is None


def test_what_a_process_started_ends_with_it(start: Starter) -> None:
    """Children of a crashed model would keep its memory and its files."""
    code = "import subprocess as s; print(s.Popen(['/bin/sleep', '60']).pid, flush=True)"
    process = start(code)
    start.wait(process)
    child = int(start.files.log.read_text())
    end = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{child}").exists()


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A removed environment would show as a bare errno."""
    launch = Launch(command=("/nowhere/python",), environment={}, memory_mib=10)
    with pytest.raises(UnavailableError, match="cannot start /nowhere/python"):
        spawn(launch, ProcessFiles(folder=tmp_path, number=0), _NOW, 0)


def test_variables_come_from_the_configuration_and_little_else() -> None:
    """A server's password would be readable by every model, or a flag would not arrive."""
    spec = SlotSpec(
        name="digits-1.0.0-c1",
        model="digits",
        version="1.0.0",
        manifest="sha256:00",
        configuration_digest="sha256:11",
        configuration=Configuration(
            variables={"MODE": "fast", "MKL_NUM_THREADS": "4", "STEMMA_VERSION": "9"},
            inherited=("TOKEN", "ABSENT"),
            flags={"new-scaling": "on"},
            thresholds={"fraud": "0.8"},
            cpus=2,
        ),
    )
    own = {
        "PATH": "/bin",
        "HOME": "/root",
        "LANG": "C",
        "LC_ALL": "C",
        "TOKEN": "t",
        "PASSWORD": "p",
        "VIRTUAL_ENV": "/v",
        "PYTHONPATH": "/x",
    }
    assert process_environment(spec, own) == {
        "PATH": "/bin",
        "HOME": "/root",
        "LANG": "C",
        "LC_ALL": "C",
        "TOKEN": "t",
        "MODE": "fast",
        "STEMMA_FLAG_NEW_SCALING": "on",
        "STEMMA_THRESHOLD_FRAUD": "0.8",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "NUMEXPR_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "4",
        "STEMMA_MODEL": "digits",
        "STEMMA_VERSION": "1.0.0",
    }
    assert os.environ.get("STEMMA_MODEL") is None
