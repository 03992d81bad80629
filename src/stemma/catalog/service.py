"""Versions, releases and channels: the verbs of the catalog."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from stemma.db.engine import Database
from stemma.domain.digest import Digest
from stemma.domain.manifest import Manifest, Metric
from stemma.domain.release import ChannelMove, Release
from stemma.domain.run import RunId
from stemma.domain.verdict import Level
from stemma.store.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One release as ``log`` lists it.

    Attributes:
        sequence: Counts releases of the model from 1.
        version: SemVer text.
        level: Level applied.
        why: The verdict in one sentence; ``first version`` for the first.
        metric: The asked metric; ``None`` when not measured or not asked.
        released_at: When.
        released_by: Who.
        message: The releaser's message.
        manifest: sha256 of the manifest.
        size_bytes: Size of the artifact's files.
    """

    sequence: int
    version: str
    level: Level
    why: str
    metric: Metric | None
    released_at: datetime
    released_by: str
    message: str
    manifest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """One model, as ``status`` lists it.

    Attributes:
        name: Its name.
        release_count: Releases so far.
        newest: Newest release (SemVer text); empty when there is none.
        channels: Where each channel points, ``{"stable": "1.0.0"}``.
        newest_run: Id of the newest run; ``None`` when there is none.
    """

    name: str
    release_count: int
    newest: str
    channels: dict[str, str]
    newest_run: RunId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GcRoot:
    """Something garbage collection must keep, and why.

    Attributes:
        digest: Manifest (sha256) or tree (blake3) that must stay.
        reason: In words, e.g. ``release digits@1.0.0``.
    """

    digest: Digest
    reason: str


class CatalogService:
    """Versions, releases and channels, over records in the store and rows in the database."""

    def __init__(
        self, database: Database, objects: ObjectStore, *, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock

    def register(self, manifest: Manifest) -> Digest:
        """Store the manifest's record, then its rows; the same manifest twice is one version."""
        raise NotImplementedError

    def manifest(self, digest: Digest) -> Manifest:
        """Return the manifest, read from its record and checked against its row."""
        raise NotImplementedError

    def append_release(self, release: Release) -> Digest:
        """Release; exactly one of two at once wins each number. Returns the record's digest."""
        raise NotImplementedError

    def releases(self, model: str, *, limit: int = 50, before: int = 0) -> list[Release]:
        """Return release records, newest first; ``before`` is a sequence for keyset paging."""
        raise NotImplementedError

    def release(self, model: str, version: str) -> Release:
        """Return the release with that number, or raise NotFoundError with suggestions."""
        raise NotImplementedError

    def find_version(self, model: str, version: str) -> Release | None:
        """Return the release with that number, or ``None``."""
        raise NotImplementedError

    def last_release(self, model: str, *, include_prereleases: bool = False) -> Release | None:
        """Return the release with the highest sequence."""
        raise NotImplementedError

    def release_digest(self, model: str, version: str) -> Digest:
        """Return the digest of the release's record (``Release.previous`` of the next)."""
        raise NotImplementedError

    def versions(self, model: str) -> list[str]:
        """Return every release number of the model, newest sequence first."""
        raise NotImplementedError

    def log_rows(
        self, model: str, *, metric: str = "", limit: int = 50, before: int = 0
    ) -> list[LogEntry]:
        """Return releases with one metric, newest first, in one query."""
        raise NotImplementedError

    def move_channel(
        self, model: str, channel: str, version: str, *, reason: str = "", moved_by: str
    ) -> ChannelMove:
        """Point a channel at a release; an empty ``version`` removes the channel."""
        raise NotImplementedError

    def channels(self, model: str) -> dict[str, str]:
        """Return where each channel points: name to version."""
        raise NotImplementedError

    def channel_history(self, model: str, channel: str) -> list[ChannelMove]:
        """Return every move of the channel, newest first."""
        raise NotImplementedError

    def channel_at(self, model: str, channel: str, moment: datetime) -> ChannelMove | None:
        """Return the move in force at ``moment``; ``None`` before the first."""
        raise NotImplementedError

    def list_models(self) -> list[ModelSummary]:
        """Return every model, by name."""
        raise NotImplementedError

    def track(self, path: str, content: Digest) -> None:
        """Keep a tracked file's or folder's tree from garbage collection."""
        raise NotImplementedError

    def tracked(self) -> dict[str, Digest]:
        """Return tracked trees by path."""
        raise NotImplementedError

    def gc_roots(self, now: datetime, expiry: timedelta) -> list[GcRoot]:
        """Return what must stay, each with its reason."""
        raise NotImplementedError

    def completions(self, prefix: str, *, limit: int = 100) -> list[str]:
        """Return ``model@version`` and ``model@channel`` names that begin with ``prefix``."""
        raise NotImplementedError
