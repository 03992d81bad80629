"""A rollout as JSON, the way it is stored with every look.

Invariants:
    * ``decode_rollout(encode_rollout(rollout)) == rollout``, to the last digit.
    * A rollout written by an older version is read: a field that is missing has its default.

This module reads no database.
"""

from __future__ import annotations

from typing import Final

import msgspec

from stemma.domain.errors import IntegrityError
from stemma.domain.rollout import Rollout

_DECODER: Final = msgspec.json.Decoder(Rollout)


def encode_rollout(rollout: Rollout) -> bytes:
    """Return a rollout as JSON."""
    return msgspec.json.encode(rollout)


def decode_rollout(content: bytes) -> Rollout:
    """Return the rollout that ``encode_rollout`` wrote.

    Raises:
        IntegrityError: If the bytes are no rollout.
    """
    try:
        return _DECODER.decode(content)
    except msgspec.MsgspecError as error:
        raise IntegrityError(
            f"a stored rollout cannot be read: {error}",
            code="rollout-unreadable",
            hint="stemma doctor",
        ) from error
