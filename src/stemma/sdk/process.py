"""What the running process says about a run: command, entry script, rank, reason.

Invariants:
    * Nothing is guessed: a session without a script has no entry point, and says so.
    * Of a distributed training only rank 0 records.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stemma.domain.errors import InvalidInputError
from stemma.domain.run import RunStart
from stemma.sdk.adapters.base import is_own_file
from stemma.tracking.process import current_process

_RANK_VARIABLES: Final = ("RANK", "LOCAL_RANK")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """What is known of this process.

    Attributes:
        command: Command line, one argument per element.
        invocation: Joins the runs of one ``stemma run``; empty outside of one.
        reason: Why, from ``stemma run``; may be empty.
        entry_point: The script that runs; ``None`` in a notebook or an interactive session.
        cells: Sources of the notebook's cells so far; empty outside of a notebook.
    """

    command: tuple[str, ...] = ()
    invocation: str = ""
    reason: str = ""
    entry_point: Path | None = None
    cells: tuple[str, ...] = ()


def is_recording_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether this process is the one of its distributed training that records."""
    for name in _RANK_VARIABLES:
        value = environment.get(name, "")
        if value.isdigit():
            return int(value) == 0
    return True


def read_process(environment: Mapping[str, str] = os.environ) -> ProcessFacts:
    """Read what this process is.

    Raises:
        InvalidInputError: If ``STEMMA_COMMAND`` is not a JSON list of strings.
    """
    return ProcessFacts(
        command=_command(environment),
        invocation=environment.get("STEMMA_INVOCATION", ""),
        reason=environment.get("STEMMA_REASON", ""),
        entry_point=_entry_point(),
        cells=_cells(),
    )


def make_start(model: str, facts: ProcessFacts, *, user: str, reason: str) -> RunStart:
    """Describe the start of a run in this process."""
    return RunStart(
        model=model,
        command=facts.command,
        invocation=facts.invocation,
        reason=reason or facts.reason,
        created_by=user,
        host=socket.gethostname(),
        process=current_process(),
    )


def _command(environment: Mapping[str, str]) -> tuple[str, ...]:
    text = environment.get("STEMMA_COMMAND", "")
    if not text:
        # The interpreter's path differs per machine; the command as typed does not.
        return ("python", *sys.orig_argv[1:])
    try:
        command = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(
            f"STEMMA_COMMAND is not JSON: {text[:80]!r}",
            code="bad-command",
            hint="unset STEMMA_COMMAND",
        ) from error
    if not isinstance(command, list) or not all(isinstance(part, str) for part in command):
        raise InvalidInputError(
            f"STEMMA_COMMAND is not a list of strings: {text[:80]!r}",
            code="bad-command",
            hint="unset STEMMA_COMMAND",
        )
    return tuple(command)


def _entry_point() -> Path | None:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(file, str) or not is_own_file(Path(file)):
        return None
    return Path(file).resolve()


def _cells() -> tuple[str, ...]:
    """Return IPython's inputs so far; its ``In`` list is public and starts with an empty one."""
    get_ipython = getattr(sys.modules.get("__main__"), "get_ipython", None)
    shell = get_ipython() if callable(get_ipython) else None
    inputs = getattr(shell, "user_ns", {}).get("In", [])
    return tuple(str(cell) for cell in inputs if str(cell).strip())
