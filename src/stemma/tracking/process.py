"""Names the recording process so that its death can be told from a long training.

Invariants:
    * The name is ``pid:start-ticks:boot-id``.  A process id alone is used again within
      hours; together with the moment it started and the boot it never is.
    * In doubt a process counts as alive: a run is failed only on evidence.

Linux says all three in ``/proc``.  Elsewhere the process id alone has to do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_UNKNOWN: Final = "0"
_STATE_FIELD: Final = 0
_START_FIELD: Final = 19  # field 22 of proc(5) stat, counted after the command's parenthesis
_DEAD_STATES: Final = frozenset({"Z", "X", "x"})


def current_process() -> str:
    """Return the name of this process."""
    pid = os.getpid()
    fields = _stat_fields(pid)
    start = fields[_START_FIELD] if fields else _UNKNOWN
    return f"{pid}:{start}:{_boot_id()}"


def is_alive(process: str) -> bool:
    """Whether the process of that name, on this machine, may still be running."""
    pid_text, _, rest = process.partition(":")
    start, _, boot = rest.partition(":")
    if not pid_text.isdigit():
        return True
    if _UNKNOWN in {start, boot} or not rest:
        return _answers(int(pid_text))
    if boot != _boot_id():
        return False
    fields = _stat_fields(int(pid_text))
    return bool(fields) and fields[_START_FIELD] == start and not _is_dead(fields)


def _is_dead(fields: list[str]) -> bool:
    return fields[_STATE_FIELD] in _DEAD_STATES


def _stat_fields(pid: int) -> list[str]:
    """Return what follows the command in ``/proc/PID/stat``; empty when there is no such process.

    The command may itself hold spaces and parentheses, so the last parenthesis counts.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return _UNKNOWN


def _answers(pid: int) -> bool:
    """Ask the system whether a process has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
