"""Tensors of one version, read one by one while its project stays open between them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Final, final

from stemma.domain.errors import InvalidInputError
from stemma.hub.base import VersionView
from stemma.hub.parts import Parts
from stemma.hub.tensors import TensorBytes, TensorInfo, VersionTensors
from stemma.sdk.adapters.torch_tensors import as_torch
from stemma.sdk.open_project import OpenProject

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
        self._project = OpenProject(view.digest)
        self._opened: tuple[Parts, VersionTensors] | None = None
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
        parts = self._project.parts()
        with self._guard:
            if self._opened is None or self._opened[0] is not parts:
                self._opened = (parts, VersionTensors(parts, self._view))
            return self._opened[1]
