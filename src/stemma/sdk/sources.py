"""The running process's own sources, as the interpreter read them.

Invariants:
    * A loaded file is read once per load: an edit between two runs of one process does not
      change what is recorded, a reload does.

This module does not choose which files belong to a run; see ``stemma.catalog.capture.code``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, final

_INSTALLED: Final = f"{os.sep}site-packages{os.sep}"
_seen: Final[dict[Path, tuple[object, bytes]]] = {}
"""Text by file, with what it was loaded by."""


@final
class LoadedSources:
    """Source files of the modules loaded so far, under some folders."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Look for modules under these folders."""
        self._folders = tuple(
            {f"{way}{os.sep}" for folder in folders for way in (folder.resolve(), folder)}
        )
        self._loads: dict[Path, object] = {}

    def files(self) -> list[Path]:
        """Return the files of every module imported so far, resolved and sorted."""
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            # Text is compared: thousands of modules are loaded, and resolving links is slow.
            if isinstance(file, str) and file.startswith(self._folders) and _INSTALLED not in file:
                load = getattr(module, "__spec__", None) or module
                self._loads[Path(file).resolve()] = load
        return sorted(self._loads)

    def read(self, file: Path) -> bytes:
        """Return the text of a resolved file as it was first seen since it was loaded.

        Raises:
            OSError: If it cannot be read.
        """
        load = self._loads.get(file)
        if load is None:
            return file.read_bytes()
        known = _seen.get(file)
        if known is None or known[0] is not load:
            known = _seen[file] = (load, file.read_bytes())
        return known[1]
