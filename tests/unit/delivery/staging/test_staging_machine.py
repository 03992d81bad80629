"""What this machine has and what a process used."""

from __future__ import annotations

import os
import platform
import sys

from stemma.delivery.staging.machine import probe_hardware, read_usage


def test_a_process_s_memory_and_processor_time_are_read() -> None:
    """A version over its budget would pass as not using anything."""
    before = read_usage(os.getpid())
    assert before is not None
    block = bytearray(os.urandom(1 << 20) * 64)
    sum(range(2_000_000))
    after = read_usage(os.getpid())
    assert after is not None
    assert after.memory_peak_bytes >= len(block)
    assert after.cpu_seconds >= before.cpu_seconds > 0


def test_a_process_that_is_gone_is_unknown() -> None:
    """A crash under load would end the validation in a stack trace."""
    assert read_usage(2**22 + 1) is None


def test_this_machine_has_its_own_python_and_platform() -> None:
    """Every version would be refused."""
    found = probe_hardware(platform.python_version())
    assert found.has_python
    assert found.platform == f"{sys.platform}-{platform.machine().lower()}"
    assert not probe_hardware("3.2.1").has_python
