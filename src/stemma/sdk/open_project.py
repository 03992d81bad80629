"""The project, opened at its first use and open as long as somebody may read from it.

Invariants:
    * It is closed when this object is no longer used, and at the end of the process.
    * A forked process opens its own: databases do not survive a fork.
"""

from __future__ import annotations

import os
import weakref
from contextlib import ExitStack, closing
from threading import Lock
from typing import final

from typing_extensions import override

from stemma.domain.digest import Digest
from stemma.hub.parts import Parts
from stemma.server.wiring import open_hub


@final
class OpenProject:
    """Stands for the project of the current folder; safe to use from several threads."""

    def __init__(self, kept: Digest | None = None) -> None:
        """Open nothing yet.

        Args:
            kept: Version or tree that no collection may take while the project is open.
        """
        self._kept = kept
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
                with ExitStack() as stack:
                    hub = stack.enter_context(closing(open_hub()))
                    if self._kept is not None:
                        stack.enter_context(hub.reading(self._kept))
                    self._closing = weakref.finalize(self, stack.pop_all().close)
                self._parts = Parts(hub)
                self._process = os.getpid()
            return self._parts

    @override
    def __reduce__(self) -> tuple[type[OpenProject], tuple[Digest | None]]:
        """Let another process open its own."""
        return (OpenProject, (self._kept,))
