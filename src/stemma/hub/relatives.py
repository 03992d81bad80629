"""Which versions a new one of a model is likely to resemble.

Invariants:
    * An answer saves room and nothing else: whatever is wrong with the catalog, there is none.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from stemma.domain.digest import Digest
from stemma.domain.errors import StemmaError
from stemma.hub.base import Hub

_SCANNED_RUNS: Final = 16


def relatives(hub: Hub, model: str) -> tuple[Digest, ...]:
    """Return manifests: of the release the model's name stands for, and of its newest run.

    Either is left out when there is none.
    """
    found: list[Digest] = []
    with suppress(StemmaError):
        found.append(hub.resolve(model).digest)
    with suppress(StemmaError):
        runs = hub.list_runs(model, limit=_SCANNED_RUNS)
        found += [run.manifest for run in runs if run.manifest is not None][:1]
    return tuple(dict.fromkeys(found))
