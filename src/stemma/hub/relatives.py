"""Which versions a new one of a model is likely to resemble.

Other models of the project count too: often they descend from the same published weights.

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
_MOST_OTHERS: Final = 4


def relatives(hub: Hub, model: str) -> tuple[Digest, ...]:
    """Return manifests: of the release the model's name stands for, and of its newest run.

    Either is left out when there is none.  After them come those of a few other models: what
    their names stand for, else their newest runs.
    """
    found = _released(hub, model)
    with suppress(StemmaError):
        runs = hub.list_runs(model, limit=_SCANNED_RUNS)
        found += [run.manifest for run in runs if run.manifest is not None][:1]
    with suppress(StemmaError):
        others = [view for view in hub.list_models() if view.name != model][:_MOST_OTHERS]
        for view in others:
            run = view.newest_run
            found += _released(hub, view.name) or (
                [run.manifest] if run is not None and run.manifest is not None else []
            )
    return tuple(dict.fromkeys(found))


def _released(hub: Hub, model: str) -> list[Digest]:
    """Return what a model's name stands for; nothing before its first release."""
    try:
        return [hub.resolve(model).digest]
    except StemmaError:
        return []
