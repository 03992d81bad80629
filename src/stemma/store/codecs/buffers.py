"""Bytes that are filled in place, so that a block is not copied once more to become ``bytes``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Python's own way to make bytes whose content comes later: what it returns may be written to
# until somebody else holds it, says the C API of ``PyBytes_AsString``.
_MAKE: Final[Any] = ctypes.pythonapi.PyBytes_FromStringAndSize
_MAKE.argtypes, _MAKE.restype = (ctypes.c_char_p, ctypes.c_ssize_t), ctypes.py_object
_ADDRESS: Final[Any] = ctypes.pythonapi.PyBytes_AsString
_ADDRESS.argtypes, _ADDRESS.restype = (ctypes.py_object,), ctypes.c_void_p

_OWN_BYTES: Final = 2
"""Shorter bytes may be shared by all that are equal to them, and must not be written to."""


class _Memory:
    """Bytes as memory that numpy may write to; whatever looks at it keeps the bytes alive."""

    def __init__(self, made: bytes) -> None:
        self._made = made
        self.__array_interface__ = {
            "version": 3,
            "shape": (len(made),),
            "typestr": "|u1",
            "data": (_ADDRESS(made), False),
        }


def filled(size_bytes: int, fill: Callable[[NDArray[np.uint8]], None]) -> bytes:
    """Return new bytes, whose content ``fill`` writes into the array that it is given.

    It writes all of them, and keeps no view.
    """
    if size_bytes < _OWN_BYTES:
        octets = np.empty(size_bytes, dtype=np.uint8)
        fill(octets)
        return octets.tobytes()
    made: bytes = _MAKE(None, size_bytes)
    fill(np.asarray(_Memory(made)))
    return made
