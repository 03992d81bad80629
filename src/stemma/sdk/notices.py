"""Warnings that a recording gives, and the stop that SIGTERM asks for.

Invariants:
    * Only the main thread's default handling of SIGTERM is replaced, and only during a run:
      a handler of the user's own is left alone.
"""

from __future__ import annotations

import inspect
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

_EXIT_CODE: Final = 128 + signal.SIGTERM


class StemmaWarning(UserWarning):
    """Something about a recording that the user should know, and that stops nothing."""


class Terminated(SystemExit):
    """The process was asked to end (SIGTERM)."""


def warn(message: str) -> None:
    """Give a warning, at the line of the user's own code that led to it."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("stemma."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, StemmaWarning, stacklevel=level)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(_EXIT_CODE)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into ``Terminated``, so that the run is closed as interrupted."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
