"""Keeps the newest stable versions ready to be rolled back to: built, and on disk.

Invariants:
    * One version is prepared at a time, in a thread; serving never waits for it.
    * What failed is tried again later, and its reason can be asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, final

from stemma.delivery.production.desired import ModelDesire
from stemma.delivery.slots.base import SlotSpec
from stemma.delivery.slots.preparing import Preparer
from stemma.domain.errors import StemmaError

KEPT_READY: Final = 3
"""Stable versions kept ready: the one that serves and the two to fall back to."""

_TRY_AGAIN_SECONDS: Final = 300.0


@final
class ReadyKeeper:
    """Prepares what is not ready yet, a version at a time."""

    def __init__(self, preparer: Preparer, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Prepare with ``preparer``."""
        self._preparer = preparer
        self._monotonic = monotonic
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readiness")
        self._done: set[str] = set()
        self._failed: dict[str, float] = {}
        self._running: tuple[str, Future[None]] | None = None

    def keep(self, desires: Sequence[ModelDesire]) -> str:
        """Start what is to be prepared next; returns why the last one failed, or nothing."""
        problem = self._collect()
        if self._running is None:
            for spec in _to_keep(desires):
                if spec.manifest not in self._done and self._is_due(spec.manifest):
                    self._running = (spec.manifest, self._pool.submit(self._prepare, spec))
                    break
        return problem

    def close(self) -> None:
        """Start nothing more; what is under way can be done again."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, spec: SlotSpec) -> None:
        self._preparer.artifact(spec)
        self._preparer.environment(spec)

    def _collect(self) -> str:
        if self._running is None or not self._running[1].done():
            return ""
        manifest, future = self._running
        self._running = None
        try:
            future.result()
        except StemmaError as error:
            self._failed[manifest] = self._monotonic()
            return error.message
        self._done.add(manifest)
        return ""

    def _is_due(self, manifest: str) -> bool:
        failed_at = self._failed.get(manifest)
        return failed_at is None or self._monotonic() - failed_at > _TRY_AGAIN_SECONDS


def _to_keep(desires: Sequence[ModelDesire]) -> list[SlotSpec]:
    """Return earlier versions; the one that serves was prepared to be started."""
    return [
        desire.spec(deployed) for desire in desires for deployed in desire.earlier[: KEPT_READY - 1]
    ]
