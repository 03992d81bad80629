"""Telling a dead process from a long training."""

from __future__ import annotations

import subprocess
import sys

from stemma.tracking.process import current_process, is_alive

NAME_AND_WAIT = (
    "import sys; from stemma.tracking.process import current_process; "
    "print(current_process(), flush=True); sys.stdin.read()"
)


def test_this_process_is_alive() -> None:
    """A training would be reaped by its own command."""
    assert is_alive(current_process())


def test_a_killed_process_is_dead_even_before_it_is_waited_for() -> None:
    """A zombie would keep its run running."""
    process = subprocess.Popen(
        [sys.executable, "-c", NAME_AND_WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert is_alive(name)
    process.kill()
    process.stdout.read()
    while is_alive(name):
        pass
    process.communicate()
    assert not is_alive(name)


def test_the_same_number_after_a_restart_is_another_process() -> None:
    """A run of before the reboot would be running for ever."""
    pid, start, boot = current_process().split(":")
    assert not is_alive(f"{pid}:{start}:another-boot")
    assert not is_alive(f"{pid}:{int(start) + 1}:{boot}")


def test_in_doubt_a_process_is_alive() -> None:
    """A run would be failed without evidence."""
    for name in ("", "nobody", "x:y:z"):
        assert is_alive(name)
    assert is_alive(current_process().split(":")[0])
    assert not is_alive("99999999:0:0")
