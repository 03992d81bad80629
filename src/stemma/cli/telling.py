"""Sentences of progress on stderr, for work that is not counted in bytes.

Invariants:
    * A terminal shows the newest sentence only, and nothing of it at the end.
    * Elsewhere each sentence is a line; JSON lines carry ``message_type: status``.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO, final

from stemma.cli import render
from stemma.cli.console import Console, ProgressMode

_CLEAR: Final = "\r\x1b[K"


@final
class Teller:
    """Takes sentences and writes each in one mode."""

    def __init__(self, mode: ProgressMode, stream: TextIO) -> None:
        self._mode = mode
        self._stream = stream
        self._last = ""

    def __call__(self, text: str) -> None:
        """Write one sentence, unless it is the one that was written last."""
        sentence = render.clean(text)
        if sentence == self._last or self._mode is ProgressMode.NONE:
            return
        self._last = sentence
        match self._mode:
            case ProgressMode.BAR:
                width = shutil.get_terminal_size().columns - 1
                self._stream.write(f"{_CLEAR}{sentence[:width]}")
            case ProgressMode.JSON:
                line = json.dumps({"message_type": "status", "text": sentence}, ensure_ascii=False)
                self._stream.write(f"{line}\n")
            case _:
                self._stream.write(f"{sentence}\n")
        self._stream.flush()

    def finish(self) -> None:
        """Take the sentence away again where it would stay on a terminal."""
        if self._mode is ProgressMode.BAR and self._last:
            self._stream.write(_CLEAR)
            self._stream.flush()


@contextmanager
def telling(console: Console) -> Iterator[Teller]:
    """Tell what the block does, to stderr in the console's mode."""
    teller = Teller(console.progress, sys.stderr)
    try:
        yield teller
    finally:
        teller.finish()
