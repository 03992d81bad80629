"""What this machine has, and what a process on it used.

Invariants:
    * Nothing here fails: what cannot be read is unknown, and the table says "not measured".
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Final, NamedTuple

from stemma.catalog.capture.uv import ask_uv
from stemma.delivery.staging.table import Hardware
from stemma.domain.errors import StemmaError

_PROC: Final = Path("/proc")
_CUDA: Final = _PROC / "driver" / "nvidia" / "version"
_TIMEOUT_SECONDS: Final = 15.0
_USER_TIME: Final = 11
_SYSTEM_TIME: Final = 12


class ProcessUsage(NamedTuple):
    """Peak resident memory and processor time of one process since its start."""

    memory_peak_bytes: int
    cpu_seconds: float


def read_usage(pid: int) -> ProcessUsage | None:
    """Return what a process used so far; ``None`` when it is gone or cannot be read."""
    try:
        status = (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace")
        stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    peak_kib = next(
        (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0
    )
    # proc(5): the name in parentheses may hold blanks; the fields after it do not.
    fields = stat.rpartition(")")[2].split()
    ticks = int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])
    return ProcessUsage(peak_kib * 1024, ticks / os.sysconf("SC_CLK_TCK"))


def probe_hardware(python: str) -> Hardware:
    """Return what this machine has; ``python`` is the version the model was made with."""
    return Hardware(
        has_python=_has_python(".".join(python.split(".")[:2])),
        platform=f"{sys.platform}-{platform.machine().lower()}",
        accelerator=_accelerator(),
    )


def _has_python(minor: str) -> bool:
    if minor in {f"{sys.version_info.major}.{sys.version_info.minor}", ""}:
        return True
    try:
        answer = ask_uv(
            ["python", "find", "--no-project", minor],
            is_offline=True,
            timeout_seconds=_TIMEOUT_SECONDS,
        )
    except StemmaError:
        return False
    return answer.has_succeeded


def _accelerator() -> str:
    if _CUDA.exists():
        return "cuda"
    is_apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return "mps" if is_apple else ""
