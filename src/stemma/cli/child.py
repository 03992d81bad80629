"""Runs the command of ``stemma run`` as a child process.

Invariants:
    * The child sees our terminal, our folder and our environment, plus ``STEMMA_*``.
    * We never die before the child does: signals are passed on, then waited for.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from stemma.domain.errors import NotFoundError

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDINGS = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED_CODES = frozenset({code for n in _ENDINGS for code in (-n, 128 + n)})
"""How a child ends that was asked to, by us or by somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnd:
    """How the child ended.

    Attributes:
        code: Its exit code; negative: the signal that ended it.
        was_interrupted: Somebody asked for the end (Ctrl-C, SIGTERM).
    """

    code: int
    was_interrupted: bool

    @property
    def has_failed(self) -> bool:
        """Whether it did not end well."""
        return self.code != 0

    @property
    def words(self) -> str:
        """Say how it ended."""
        if self.was_interrupted:
            return "interrupted"
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        return f"exit code {self.code}"

    @property
    def sentence(self) -> str:
        """Say how it ended, after the command's name."""
        return f"{'ended with' if self.words.startswith('exit') else 'was'} {self.words}"


def run_child(
    command: Sequence[str], variables: Mapping[str, str], *, is_stdout_ours: bool
) -> ChildEnd:
    """Run a command to its end.

    Args:
        command: What to run.
        variables: Environment variables added to ours.
        is_stdout_ours: Our stdout is for the answer alone, so the child writes to stderr.

    Raises:
        NotFoundError: If there is no such command, or it cannot be executed.
    """
    sys.stdout.flush()
    try:
        process = subprocess.Popen(
            list(command),
            env={**os.environ, **variables},
            stdout=sys.stderr if is_stdout_ours else None,
        )
    except OSError as error:
        raise NotFoundError(
            f"cannot run {command[0]}: {error.strerror or error}",
            code="command-not-found",
            hint=_way_out(command),
        ) from error
    with _signals_passed_on(process) as seen:
        code = process.wait()
    was_interrupted = bool(seen) or code in _INTERRUPTED_CODES
    return ChildEnd(code=code, was_interrupted=was_interrupted)


def _way_out(command: Sequence[str]) -> str:
    """Name what may have been meant: a script needs an interpreter."""
    if command[0].endswith(".py") and Path(command[0]).is_file():
        return f"stemma run -- python {shlex.join(command)}"
    return f"command -v {shlex.quote(command[0])}"


@contextmanager
def _signals_passed_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass signals to the child; the terminal has sent Ctrl-C to both of us already."""
    seen: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if number != signal.SIGINT or not sys.stdin.isatty():
            process.send_signal(number)

    before: dict[int, Any] = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
