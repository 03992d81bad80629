"""The verbs that the command line and the SDK hold: one interface, local or remote.

``hub.local`` composes the services in this process; a remote hub will speak HTTP.
Every verb raises errors of ``stemma.domain.errors`` only.

Invariants:
    * What a verb returned as done survives ``kill -9`` and a power cut.
    * A verb that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from stemma.catalog.diff import ComponentDiff
from stemma.catalog.releasing import ReleaseOutcome, ReleaseRequest, ReleaseStatus
from stemma.domain.digest import Digest
from stemma.domain.facts import VersionFacts
from stemma.domain.manifest import Manifest, Metric
from stemma.domain.policy import ModelPolicy
from stemma.domain.release import ChannelMove, GateResult, Release
from stemma.domain.run import MetricPoint, RunId, RunRecord, RunStart
from stemma.domain.tracking import RunData
from stemma.domain.verdict import Level, Verdict
from stemma.hub.portions import LeftElsewhere
from stemma.store.gc import GcReport
from stemma.store.objects import ObjectStore
from stemma.store.trash import RestoreReport, TrashHolding

if TYPE_CHECKING:
    from stemma.tracking.search.values import Search

TRASH_SECONDS: Final = 7 * 24 * 60 * 60
"""How long the trash keeps what was collected, unless set otherwise."""

DELETED_SECONDS: Final = 30 * 24 * 60 * 60
"""How long deleted runs and logged models can be restored, unless set otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """What a ref names.

    Attributes:
        model: Name of the model.
        version: SemVer text; empty when the ref names an unreleased run.
        digest: sha256 of the manifest.
        manifest: The manifest, verified.
        release: The release record; ``None`` when unreleased.
        channels: Channels that point here now.
        parents: Labels of the versions it descends from, ``digits@1.0.0`` or a short digest.
    """

    model: str
    version: str
    digest: Digest
    manifest: Manifest
    release: Release | None = None
    channels: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """``digits@1.1.0``, or ``digits@r-7f3c…`` when unreleased."""
        return f"{self.model}@{self.version or self.manifest.provenance.run}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One line of ``log``.

    Attributes:
        version: SemVer text.
        level: Level applied.
        why: The verdict in one sentence; ``first version`` for the first.
        metric: The asked metric on it; ``None`` when not measured.
        channels: Channels that point here now.
        released_at: When.
        released_by: Who.
        message: The releaser's message.
        digest: sha256 of the manifest.
        size_bytes: Size of the artifact's files.
        sequence: Counts releases of the model from 1; the key for paging.
    """

    version: str
    level: Level
    why: str
    metric: Metric | None
    channels: tuple[str, ...]
    released_at: datetime
    released_by: str
    message: str
    digest: Digest
    size_bytes: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model.

    Attributes:
        name: Its name.
        release_count: Releases so far.
        newest: Newest release (SemVer text); empty when there is none.
        channels: Where each channel points, ``{"stable": "1.0.0"}``.
        newest_run: Newest run; ``None`` when there is none.
    """

    name: str
    release_count: int
    newest: str
    channels: dict[str, str]
    newest_run: RunRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff:
    """Two versions, component by component.

    Attributes:
        before: Label of A.
        after: Label of B.
        components: In display order.
        patch: Unified diff of pipeline and architecture source; empty when equal.
    """

    before: str
    after: str
    components: tuple[ComponentDiff, ...]
    patch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Whether a version may ship.

    Attributes:
        label: What was checked.
        results: Gates, metadata, environment, compatibility with what ``stable`` holds.
        verdict: Comparison with the last release; ``None`` when there is none.
    """

    label: str
    results: tuple[GateResult, ...]
    verdict: Verdict | None = None

    @property
    def has_passed(self) -> bool:
        """Whether every result passed."""
        return all(result.has_passed for result in self.results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing ``doctor`` found.

    Attributes:
        kind: Stable machine name, e.g. ``flipped-object``, ``row-differs-from-record``.
        where: Object key, table and row, or path.
        detail: What is wrong.
        fix: Command that helps.
        is_harmless: Nothing is lost or wrong, only worth knowing.
        harms: What cannot be used because of it, e.g. ``digits 1.1.0, 1.0.1: artifact``.
        parts: What else is wrong for the same reason, e.g. files with chunks in a damaged frame.
    """

    kind: str
    where: str
    detail: str
    fix: str = ""
    is_harmless: bool = False
    harms: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """What ``doctor`` found.

    Attributes:
        findings: Problems, worst first.
        checked: How many of each kind were checked, e.g. ``{"objects": 120, "rows": 34}``.
        trash: What the trash holds.
    """

    findings: tuple[Finding, ...]
    checked: dict[str, int]
    trash: TrashHolding = field(default_factory=TrashHolding)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing but harmless findings came up."""
        return all(finding.is_harmless for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Something that was damaged or missing and is whole again.

    Attributes:
        what: Digest of a file or tree, or key of a record.
        source: Where the copy was: ``the trash``, a remote, a path.
    """

    what: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What ``doctor --repair`` did.

    Attributes:
        restored: What is whole again.
        set_aside: Keys of damaged objects that nothing needs and that went to the trash.
        notes: What did not answer, in words.
        after: What is found now.
    """

    restored: tuple[Restored, ...]
    set_aside: tuple[str, ...]
    notes: tuple[str, ...]
    after: DoctorReport


__all__ = [
    "ChannelVerbs",
    "CheckReport",
    "ComponentDiff",
    "DoctorReport",
    "Finding",
    "Hub",
    "LogRow",
    "ModelView",
    "ProjectVerbs",
    "ReleaseOutcome",
    "ReleaseRequest",
    "ReleaseStatus",
    "RepairReport",
    "Restored",
    "RunVerbs",
    "StorageVerbs",
    "VersionDiff",
    "VersionVerbs",
    "VersionView",
]


class ProjectVerbs(Protocol):
    """What belongs to the project as a whole."""

    @property
    def objects(self) -> ObjectStore:
        """The content store."""
        ...

    @property
    def project_root(self) -> Path:
        """The project's folder."""
        ...

    @property
    def user(self) -> str:
        """Name written into runs and releases."""
        ...

    def writing(self, *, is_patient: bool = False) -> AbstractContextManager[None]:
        """Hold the store from the first ``put`` until the row that names the result.

        Garbage collection waits meanwhile, so it never sees half a version.

        Args:
            is_patient: Wait for an hour instead of the timeout: the end of a training must not
                be lost to a collection.

        Raises:
            LockedError: If garbage collection holds the store for longer than the timeout.
        """
        ...

    def close(self) -> None:
        """Finish pending writes and let go of files and connections."""
        ...


class RunVerbs(Protocol):
    """Verbs on runs."""

    def start_run(self, start: RunStart) -> RunId:
        """Open a run."""
        ...

    def log_points(self, run: RunId, points: Sequence[MetricPoint]) -> None:
        """Append points of learning curves."""
        ...

    def finish_run(self, run: RunId, manifest: Manifest) -> RunRecord:
        """Store the candidate manifest and close the run as finished."""
        ...

    def fail_run(
        self, run: RunId, failure: str, *, traceback: str = "", is_interrupted: bool = False
    ) -> RunRecord:
        """Close the run as failed or interrupted; it can never be released."""
        ...

    def get_run(self, run: str) -> RunRecord:
        """Return the run with that id or unique prefix."""
        ...

    def list_runs(
        self, model: str = "", *, invocation: str = "", limit: int = 50
    ) -> list[RunRecord]:
        """Return runs, newest first."""
        ...

    def search_runs(
        self, search: Search, *, experiment: str | int | None = None
    ) -> Sequence[RunData]:
        """Return a page of runs with all they logged, newest first unless the search orders them.

        Args:
            search: What for.
            experiment: Name or number of the experiment to look in; everywhere without.

        Raises:
            InvalidInputError: If the filter or the order cannot be.
            NotFoundError: If there is no such experiment.
        """
        ...

    def curve(self, run: RunId, name: str) -> list[MetricPoint]:
        """Return the points of one learning curve in order of step."""
        ...


class VersionVerbs(Protocol):
    """Verbs on models and versions."""

    def policy(self, model: str) -> ModelPolicy:
        """Return the model's policy from ``stemma.toml``."""
        ...

    def list_models(self) -> list[ModelView]:
        """Return every model, by name."""
        ...

    def resolve(self, ref: str) -> VersionView:
        """Return what ``ref`` names.

        Raises:
            NotFoundError: If nothing has that name; the hint suggests near names.
        """
        ...

    def facts(self, view: VersionView) -> VersionFacts:
        """Load the tables a version is compared and shown by."""
        ...

    def completions(self, prefix: str) -> list[str]:
        """Return names of models, versions and channels that begin with ``prefix``."""
        ...

    def release(self, request: ReleaseRequest) -> ReleaseOutcome:
        """Decide the number, check the gates, and release."""
        ...

    def check(self, ref: str, *, beside: str = "") -> CheckReport:
        """Answer whether the version may ship, without changing anything.

        Args:
            ref: What to check.
            beside: Another ref whose environment must fit together with this one's.
        """
        ...

    def log(
        self, model: str, *, metric: str = "", limit: int = 50, before: int = 0
    ) -> list[LogRow]:
        """Return releases, newest first; ``before`` is a sequence for keyset paging.

        Without ``metric`` it is the policy's, else the one the newest release was judged by.
        """
        ...

    def diff(self, before: str, after: str) -> VersionDiff:
        """Compare two versions component by component."""
        ...


class ChannelVerbs(Protocol):
    """Verbs on channels, the movable names."""

    def move_channel(
        self, model: str, channel: str, ref: str, *, reason: str = "", moved_by: str = ""
    ) -> ChannelMove:
        """Point a channel at a release; an empty ``ref`` removes the channel."""
        ...

    def channel_history(self, model: str, channel: str) -> list[ChannelMove]:
        """Return every move of the channel, newest first."""
        ...

    def channel_at(self, model: str, channel: str, moment: datetime) -> ChannelMove | None:
        """Return the move that was in force at ``moment``; ``None`` before the first."""
        ...


class StorageVerbs(Protocol):
    """Verbs on what is stored."""

    def track(self, path: str, content: Digest) -> None:
        """Keep a tracked file's or folder's tree from garbage collection."""
        ...

    def reading(self, content: Digest) -> AbstractContextManager[None]:
        """Keep a version or tree from garbage collection while it is read.

        Released versions are kept anyway.  Others survive a collection meanwhile, even when
        their time is over; one that is under way is waited for, unless it keeps this.

        Args:
            content: Digest of a manifest, or of a tree.

        Raises:
            LockedError: If that collection lasts longer than the timeout.
        """
        ...

    def collect_garbage(
        self,
        *,
        is_dry_run: bool,
        grace_seconds: int,
        trash_seconds: int = TRASH_SECONDS,
        deleted_seconds: int = DELETED_SECONDS,
        is_final: bool = False,
    ) -> GcReport:
        """Move to the trash what nothing reaches; says what would go and why.

        Args:
            is_dry_run: Only say what would go.
            grace_seconds: Age under which nothing goes.
            trash_seconds: How long the trash keeps what goes.
            deleted_seconds: How long deleted runs and logged models can be restored.
            is_final: Free at once what goes, and all that the trash holds.
        """
        ...

    def restore_garbage(self, *, since: datetime | None, is_dry_run: bool) -> RestoreReport:
        """Bring back what went to the trash since a moment, or all of it, with its rows."""
        ...

    def trash(self) -> TrashHolding:
        """Say how much the trash holds."""
        ...

    def left_elsewhere(self, manifest: Digest) -> LeftElsewhere:
        """Say what of a version was left on a remote on purpose, when a part was pulled."""
        ...

    def doctor(self) -> DoctorReport:
        """Check objects, rows against records, and the database file."""
        ...

    def repair(self) -> RepairReport:
        """Restore damaged and missing objects from the trash, remotes and other copies."""
        ...


class Hub(ProjectVerbs, RunVerbs, VersionVerbs, ChannelVerbs, StorageVerbs, Protocol):
    """Every verb on models, versions, runs and storage."""
