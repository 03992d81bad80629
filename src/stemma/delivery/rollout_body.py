"""A rollout as text: a stand-in until ``stemma.domain.rollout_text`` is there."""

from __future__ import annotations

from typing import Final

import msgspec

from stemma.domain.errors import InvalidInputError
from stemma.domain.rollout import Rollout

_DECODER: Final = msgspec.json.Decoder(Rollout)


def encode_rollout(rollout: Rollout) -> str:
    """Return a rollout as JSON."""
    return msgspec.json.encode(rollout).decode()


def decode_rollout(text: str) -> Rollout:
    """Read a rollout.

    Raises:
        InvalidInputError: If the text is none.
    """
    try:
        return _DECODER.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"not a rollout: {error}", code="bad-rollout") from error
