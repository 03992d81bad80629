"""Push and pull of what is tracked, in this process: after the releases, or on its own.

Invariants: those of ``stemma.hub.remotes``, and
    * What a release and a pointer both name is copied once, with the release.
    * What is stored here is written out without asking any remote.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, final

from typing_extensions import override

from stemma.hub.local_remotes import LocalRemotes
from stemma.hub.remotes import Remote, TransferOutcome, TransferProgress, TransferRequest
from stemma.hub.seen_remotes import note_tracked
from stemma.hub.tracked_copy import Journey, Noted, TrackedCopy
from stemma.store.transfer import Plan, Transfer

_STORE: Final = Remote(name="the local store", url="")


class LocalTracked(LocalRemotes):
    """Remotes of one project, with what its pointers name."""

    @override
    def push(
        self, request: TransferRequest, progress: TransferProgress | None = None
    ) -> TransferOutcome:
        onward = _Onward(progress)
        before = None if request.paths else super().push(request, onward)
        with self._parts.writing():
            tracked = TrackedCopy(self._parts, request)
            if before is not None and tracked.is_empty:
                self._note_held(before.remote, tracked, request)
                return before
            remote = self.find_remote(request.remote)
            here, there = self._sides(remote, may_create=not request.is_dry_run)
            journey = Journey(
                transfer=Transfer(here, there, is_repair=request.is_repair),
                remote=there,
                noted=Noted(),
                advance=onward.advance,
            )
            tracked.plan_push(journey)
            onward.plan_more(tracked.plan)
            tracked.copy(journey)
            self._note_held(remote, tracked, request)
        return _joined(before, tracked.told(remote, journey.noted))

    @override
    def pull(
        self, request: TransferRequest, progress: TransferProgress | None = None
    ) -> TransferOutcome:
        onward = _Onward(progress)
        before = None if request.paths else super().pull(request, onward)
        with self._parts.writing():
            tracked = TrackedCopy(self._parts, request)
            if before is not None and tracked.is_empty:
                self._note_held(before.remote, tracked, request)
                return before
            if tracked.are_stored and not request.is_repair:
                remote = _STORE if before is None else before.remote
                noted = Noted()
            else:
                remote = self.find_remote(request.remote)
                here, there = self._sides(remote, may_create=False)
                journey = Journey(
                    transfer=Transfer(there, here, is_repair=request.is_repair),
                    remote=there,
                    noted=(noted := Noted()),
                    advance=onward.advance,
                )
                tracked.plan_pull(journey)
                onward.plan_more(tracked.plan)
                tracked.copy(journey)
                self._note_held(remote, tracked, request)
            tracked.place(noted)
        return _joined(before, tracked.told(remote, noted))

    def _note_held(self, remote: Remote, tracked: TrackedCopy, request: TransferRequest) -> None:
        """Keep what the remote holds for whoever asks without a network."""
        if remote.name and not request.is_dry_run:
            note_tracked(self._parts.root, remote.name, remote.url, tracked.held)


def _joined(before: TransferOutcome | None, after: TransferOutcome) -> TransferOutcome:
    """Return one outcome of releases and of what is tracked."""
    if before is None:
        return after
    return replace(
        before,
        copied_bytes=before.copied_bytes + after.copied_bytes,
        file_bytes=before.file_bytes + after.file_bytes,
        refused=(*before.refused, *after.refused),
        tracked=after.tracked,
    )


@final
class _Onward:
    """Tells of two copies, one after the other, as of one."""

    def __init__(self, progress: TransferProgress | None) -> None:
        self._progress = progress
        self._total_bytes = 0
        self._saved_bytes = 0

    def planned(self, total_bytes: int, saved_bytes: int) -> None:
        """Take in how much will be copied, beside what was told before."""
        self._total_bytes += total_bytes
        self._saved_bytes += saved_bytes
        if self._progress is not None:
            self._progress.planned(self._total_bytes, self._saved_bytes)

    def plan_more(self, plan: Plan | None) -> None:
        """Take in a plan."""
        if plan is not None:
            total_bytes = sum(plan.frames.values())
            self.planned(total_bytes, max(0, plan.file_bytes - total_bytes))

    def advance(self, size_bytes: int) -> None:
        """Count bytes that were copied."""
        if self._progress is not None:
            self._progress.advance(size_bytes)
