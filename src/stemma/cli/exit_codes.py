"""Exit codes: the one place where an error becomes a number.

Invariants:
    * Codes never change their meaning; new ones may be added.
    * 3 means that the command ran and the answer is no; 1 means that it could not answer.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    GateFailedError,
    IntegrityError,
    InvalidInputError,
    LockedError,
    NoProjectError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)


class ExitCode(IntEnum):
    """What the command line answers to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO = 3
    DENIED = 4
    NOT_FOUND = 5
    NO_PROJECT = 10
    LOCKED = 11
    CONFLICT = 12
    TRY_AGAIN = 75
    INTERRUPTED = 130


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.DONE: "yes, or done",
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "the command line, a name or stemma.toml is wrong",
    ExitCode.NO: "the answer is no: a gate or rollout failed, doctor or diff --exit-code found any",
    ExitCode.DENIED: "not allowed",
    ExitCode.NOT_FOUND: "no such model, version, run or file",
    ExitCode.NO_PROJECT: "no project here: run stemma init",
    ExitCode.LOCKED: "another command holds what this one needs",
    ExitCode.CONFLICT: "what is there forbids this, e.g. the version exists and never changes",
    ExitCode.TRY_AGAIN: "something needed does not answer now; the same command may work later",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
}

_BY_ERROR: Final[tuple[tuple[type[StemmaError], ExitCode], ...]] = (
    (NoProjectError, ExitCode.NO_PROJECT),
    (NotFoundError, ExitCode.NOT_FOUND),
    (LockedError, ExitCode.LOCKED),
    (ConflictError, ExitCode.CONFLICT),
    (InvalidInputError, ExitCode.USAGE),
    (IntegrityError, ExitCode.FAILED),
    (GateFailedError, ExitCode.NO),
    (DeniedError, ExitCode.DENIED),
    (UnavailableError, ExitCode.TRY_AGAIN),
)
"""The narrower class stands before the wider one."""


def exit_code_for(error: StemmaError) -> ExitCode:
    """Return the exit code of an error."""
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED
