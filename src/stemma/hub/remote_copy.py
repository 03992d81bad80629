"""One push or pull under way: what was asked, what is planned, what became of it.

Invariants:
    * Everything is planned before anything is copied, so that progress has a total.
    * A version that is missing or damaged on the side that gives is refused by name; others
      are copied all the same.
    * A dry run plans and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, final

from stemma.catalog.exchange import Additions, Chains
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, IntegrityError, NotFoundError, StemmaError
from stemma.domain.release import Release
from stemma.domain.tree import TreeEntry
from stemma.hub.remotes import (
    Refusal,
    Remote,
    TransferOutcome,
    TransferProgress,
    TransferRequest,
    VersionTransfer,
)
from stemma.hub.selection import parse_selection
from stemma.store.transfer import Plan, Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Versions of one model that are to be copied, and the names that go with them.

    Attributes:
        model: Name of the model.
        offered: Chains of the side that gives.
        additions: What the side that takes does not know.
        releases: Records and releases whose contents are asked for, oldest first.
    """

    model: str
    offered: Chains
    additions: Additions
    releases: tuple[tuple[Digest, Release], ...]


class Planned(NamedTuple):
    """A version, its release record, and what must be copied for it.

    ``portions`` are the files of trees that are not copied whole, by tree.
    """

    record: Digest
    release: Release
    plan: Plan
    is_new: bool
    portions: Mapping[Digest, tuple[TreeEntry, ...]]


@dataclass(slots=True)
class _Report:
    versions: list[VersionTransfer] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    move_count: int = 0
    copied_bytes: int = 0
    file_bytes: int = 0


@final
class Copying:
    """One push or pull."""

    def __init__(
        self, transfer: Transfer, request: TransferRequest, progress: TransferProgress | None
    ) -> None:
        """Start with nothing asked."""
        self._transfer = transfer
        self._request = request
        self._selection = parse_selection(request.only)
        self._progress = progress
        self._report = _Report()

    def plan(self, asked: Asked, *, is_chain: bool) -> list[Planned]:
        """Plan the versions of a model.

        Args:
            asked: What is asked for.
            is_chain: A version that cannot be copied keeps those after it from being copied.
        """
        planned: list[Planned] = []
        new = {record for record, _ in asked.additions.releases}
        for record, release in asked.releases:
            manifest = asked.offered.manifests[release.manifest]
            try:
                portions = self._selection.entries(_label(release), manifest, self._transfer.tree)
                files = {
                    entry.digest
                    for entries in portions.values()
                    for entry in entries
                    if entry.digest is not None
                }
                plan = self._transfer.plan(self._selection.contents(manifest), files)
            except (IntegrityError, NotFoundError) as error:
                self.refuse(_label(release), error)
                if is_chain:
                    break
                continue
            planned.append(Planned(record, release, plan, record in new, portions))
        return planned

    def announce(self, planned: Iterable[Planned]) -> None:
        """Tell the total before the first byte is copied."""
        frames: dict[bytes, int] = {}
        for item in planned:
            frames.update(item.plan.frames)
            self._report.file_bytes += item.plan.file_bytes
        total_bytes = sum(frames.values())
        if self._progress is not None:
            self._progress.planned(total_bytes, max(0, self._report.file_bytes - total_bytes))

    def copy(self, item: Planned) -> bool:
        """Copy the contents of a version; returns whether all of it is there now."""
        if self._request.is_dry_run:
            copied_bytes = sum(item.plan.frames.values())
        else:
            try:
                copied_bytes = self._transfer.copy(item.plan, self._advance)
            except IntegrityError as error:
                self.refuse(_label(item.release), error)
                return False
        self._report.copied_bytes += copied_bytes
        if copied_bytes or item.is_new:
            self._report.versions.append(
                VersionTransfer(
                    label=_label(item.release),
                    manifest=item.release.manifest,
                    file_bytes=item.plan.file_bytes,
                    copied_bytes=copied_bytes,
                    is_new=item.is_new,
                )
            )
        return True

    def count(self, *, moves: int = 0, size_bytes: int = 0) -> None:
        """Count moves, and bytes of records, that were copied."""
        self._report.move_count += moves
        self._report.copied_bytes += size_bytes

    def refuse(self, what: str, error: StemmaError) -> None:
        """Note what was not copied, and why."""
        self._report.refused.append(
            Refusal(
                what=what,
                code=error.code,
                detail=error.message,
                hint=error.hint,
                is_conflict=isinstance(error, ConflictError),
            )
        )

    def outcome(self, remote: Remote) -> TransferOutcome:
        """Return what became of it."""
        report = self._report
        return TransferOutcome(
            remote=remote,
            versions=tuple(report.versions),
            move_count=report.move_count,
            copied_bytes=report.copied_bytes,
            file_bytes=report.file_bytes,
            refused=tuple(report.refused),
            is_dry_run=self._request.is_dry_run,
        )

    def _advance(self, size_bytes: int) -> None:
        if self._progress is not None:
            self._progress.advance(size_bytes)


def _label(release: Release) -> str:
    return f"{release.model}@{release.version}"
