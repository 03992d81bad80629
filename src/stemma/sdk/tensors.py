"""Tensors of one version, read one by one while its project stays open between them.

Invariants:
    * The project is closed when the version is no longer used, and at the end of the process.
    * A forked process opens its own: databases do not survive a fork.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, final

from stemma.domain.errors import InvalidInputError
from stemma.hub.base import VersionView
from stemma.hub.parts import Parts
from stemma.hub.tensors import TensorBytes, TensorInfo, VersionTensors
from stemma.sdk.adapters.torch_tensors import as_torch
from stemma.server.wiring import open_hub

__all__ = ["TensorInfo", "Tensors"]

_FRAMEWORKS: Final[dict[str, Callable[[TensorBytes], Any]]] = {
    "numpy": TensorBytes.array,
    "torch": as_torch,
}


@final
class Tensors:
    """Tensors of one version; safe to use from several threads."""

    def __init__(self, view: VersionView) -> None:
        """Open nothing yet."""
        self._view = view
        self._process = 0
        self._opened: VersionTensors | None = None
        self._closing: weakref.finalize[..., Tensors] | None = None
        self._guard = Lock()

    def infos(self) -> tuple[TensorInfo, ...]:
        """Return name, type, shape, size and file of each."""
        return self._open().infos()

    def read(self, name: str, framework: str) -> Any:
        """Return one of them as an array of that framework.

        Raises:
            InvalidInputError: If the framework is not known, not installed, or has no such type.
        """
        make = _FRAMEWORKS.get(framework)
        if make is None:
            raise InvalidInputError(
                f"framework is {framework!r}",
                code="bad-framework",
                hint=f"use {' or '.join(_FRAMEWORKS)}",
            )
        return make(self._open().read(name))

    def _open(self) -> VersionTensors:
        with self._guard:
            if self._opened is None or self._process != os.getpid():
                if self._closing is not None:
                    self._closing.detach()  # it is the parent process's to close
                hub = open_hub()
                self._closing = weakref.finalize(self, hub.close)
                self._opened = VersionTensors(Parts(hub), self._view)
                self._process = os.getpid()
            return self._opened
