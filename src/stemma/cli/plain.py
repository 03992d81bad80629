"""Domain values as JSON values for ``--json``."""

from __future__ import annotations

from typing import Any

import msgspec

from stemma.domain.digest import Digest


def _encode(value: object) -> object:
    if isinstance(value, Digest):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def plain(value: object) -> Any:
    """Reduce a dataclass to objects, lists, strings, numbers, booleans and null."""
    return msgspec.to_builtins(value, enc_hook=_encode, str_keys=True)
