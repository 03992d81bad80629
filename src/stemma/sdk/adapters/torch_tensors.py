"""One stored tensor as torch has it: the type that was stored, on the CPU.

torch is imported when it is asked for, and not before.
"""

from __future__ import annotations

import importlib
from typing import Any

from stemma.domain.errors import InvalidInputError
from stemma.hub.tensors import TensorBytes
from stemma.store.formats.ranges import ITEM_BYTES


def as_torch(stored: TensorBytes) -> Any:
    """Return a ``torch.Tensor`` that may be written to.

    Raises:
        InvalidInputError: If torch is not installed, or has no such type.
    """
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            "this needs torch, which is not installed",
            code="library-missing",
            hint="pip install torch, or leave framework out",
        ) from error
    place = stored.place
    dtype = getattr(torch, place.dtype, None) if place.dtype in ITEM_BYTES else None
    if dtype is None:
        raise InvalidInputError(
            f"tensor {place.name} is {place.dtype}, which torch has not",
            code="bad-framework",
            hint="leave framework out, for numpy has it",
        )
    if not stored.data:
        return torch.empty(place.shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(stored.data), dtype=dtype)
    if place.strides is None:
        return flat.reshape(place.shape)
    return flat.as_strided(place.shape, place.strides).clone()
