"""The project, opened at its first use and open as long as somebody may read from it.

Invariants:
    * It is closed when this object is no longer used, and at the end of the process.
    * A forked process opens its own: databases do not survive a fork.
"""

from __future__ import annotations

import os
import weakref
from threading import Lock
from typing import final

from typing_extensions import override

from stemma.hub.parts import Parts
from stemma.server.wiring import open_hub


@final
class OpenProject:
    """Stands for the project of the current folder; safe to use from several threads."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._process = 0
        self._parts: Parts | None = None
        self._closing: weakref.finalize[..., OpenProject] | None = None
        self._guard = Lock()

    def parts(self) -> Parts:
        """Return what opens trees and files; the same one as long as the process is the same."""
        with self._guard:
            if self._parts is None or self._process != os.getpid():
                if self._closing is not None:
                    self._closing.detach()  # it is the parent process's to close
                hub = open_hub()
                self._closing = weakref.finalize(self, hub.close)
                self._parts = Parts(hub)
                self._process = os.getpid()
            return self._parts

    @override
    def __reduce__(self) -> tuple[type[OpenProject], tuple[()]]:
        """Let another process open its own."""
        return (OpenProject, ())
