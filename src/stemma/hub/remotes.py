"""Verbs on remotes: other places that hold versions, and copying to and from them.

Invariants:
    * A remote holds of each model the releases from the first on without a gap, each whole,
      and of each channel its moves from the first on.
    * Nothing that is there is overwritten, on either side, except damaged bytes in a repair.
    * Nothing unverified is written to either side.
    * A copy that was cut off may be repeated; what has arrived is not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stemma.domain.digest import Digest
from stemma.hub.seen_remotes import RemoteStanding
from stemma.store.fetching import Fetcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A place that holds versions.

    Attributes:
        name: What it is called here; empty when it was named by its address.
        url: Its address: a folder, ``s3://``, ``gs://`` or ``az://``.
    """

    name: str
    url: str

    @property
    def label(self) -> str:
        """The name, or the address of one that has none."""
        return self.name or self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest:
    """What to copy.

    Attributes:
        ref: A release and all before it (push), a release (pull), a model; empty: everything.
        remote: Name or address; empty: the only remote, else ``origin``.
        only: Components to pull, and paths in them, e.g. ``artifact``, ``data/digits-train``;
            empty: all.
        is_dry_run: Only say what would be copied.
        is_repair: Read what is there already, and replace what is damaged.
        paths: Tracked paths relative to the project, and nothing else; empty: with everything,
            every tracked path.
        is_forced: When tracked paths are pulled, replace files that differ.
    """

    ref: str = ""
    remote: str = ""
    only: tuple[str, ...] = ()
    is_dry_run: bool = False
    is_repair: bool = False
    paths: tuple[str, ...] = ()
    is_forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTransfer:
    """One version that was, or would be, copied.

    Attributes:
        label: ``digits@1.1.0``.
        manifest: sha256 of its manifest.
        file_bytes: Size of its files.
        copied_bytes: What was written for it; for a dry run, what would be.
        is_new: Whether the other side did not know its name before.
    """

    label: str
    manifest: Digest
    file_bytes: int
    copied_bytes: int
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedTransfer:
    """A tracked path with which something was, or would be, done; or why nothing was.

    Attributes:
        path: Relative to the project.
        file_bytes: Size of its files.
        is_copied: Whether its contents were missing on the side that takes.
        written_count: Files that were written into the working tree.
        note: Why it was left as it is; empty when it was not.
        hint: What to do then.
    """

    path: str
    file_bytes: int
    is_copied: bool = False
    written_count: int = 0
    note: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Something that was not copied, while the rest was.

    Attributes:
        what: ``digits@1.1.0``, ``digits``, a tracked path or the key of a record.
        code: Stable machine name of the reason.
        detail: The reason in words.
        hint: What helps.
        is_conflict: Whether both sides differ; else something is missing or damaged.
    """

    what: str
    code: str
    detail: str
    hint: str
    is_conflict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOutcome:
    """What a push or pull did.

    Attributes:
        remote: The other side.
        versions: Versions whose contents or names were copied, in order.
        move_count: Channel moves that were copied.
        copied_bytes: What was written in all.
        file_bytes: Size of the files of all versions that were looked at.
        refused: What was not copied.
        is_dry_run: Nothing was written.
        tracked: Tracked paths that were copied or written, or left for a reason.
    """

    remote: Remote
    versions: tuple[VersionTransfer, ...]
    move_count: int
    copied_bytes: int
    file_bytes: int
    refused: tuple[Refusal, ...]
    is_dry_run: bool
    tracked: tuple[TrackedTransfer, ...] = ()


class TransferProgress(Protocol):
    """Told how far a copy is."""

    def planned(self, total_bytes: int, saved_bytes: int) -> None:
        """Take in how much will be copied, and how much of the files need not be."""
        ...

    def advance(self, size_bytes: int) -> None:
        """Count bytes that were copied."""
        ...


class RemoteVerbs(Protocol):
    """Verbs on remotes."""

    def list_remotes(self) -> Sequence[Remote]:
        """Return every remote that is set, by name."""
        ...

    def list_standings(self) -> Sequence[RemoteStanding]:
        """Return how far we are from each remote as it was last seen; asks no network."""
        ...

    def add_remote(self, name: str, url: str) -> Remote:
        """Set a remote in the project's settings file.

        Raises:
            InvalidInputError: If name or address is not allowed, or it holds a secret.
            ConflictError: If the name stands for another address (``remote-exists``).
        """
        ...

    def remove_remote(self, name: str) -> Remote:
        """Remove a remote from the project's settings file; what it holds stays.

        Raises:
            NotFoundError: If there is none of that name (``remote-not-found``).
        """
        ...

    def find_remote(self, name: str = "") -> Remote:
        """Return the remote of that name or address; without either, the one that is meant.

        Raises:
            NotFoundError: If there is none (``remote-not-found``).
        """
        ...

    def check_remote(self, name: str = "") -> Remote:
        """Ask a remote whether it answers and lets us in.

        Raises:
            DeniedError: If it does not let us in.
            NotFoundError: If there is no such remote, bucket or folder.
            UnavailableError: If it does not answer.
        """
        ...

    def store_login(self, name: str, told: Mapping[str, str]) -> Path:
        """Store credentials for one remote outside of the project; returns the file.

        Args:
            name: Name or address; empty: the one that is meant.
            told: Variables as the cloud's own tools call them.

        Raises:
            InvalidInputError: If they do not open such a remote (``bad-login``).
        """
        ...

    def forget_login(self, name: str) -> bool:
        """Remove what ``store_login`` stored; returns whether there was anything."""
        ...

    def push(
        self, request: TransferRequest, progress: TransferProgress | None = None
    ) -> TransferOutcome:
        """Copy releases, channel moves and what pointers name to a remote.

        Raises:
            ConflictError: If the remote went another way (``releases-differ``).
        """
        ...

    def pull(
        self, request: TransferRequest, progress: TransferProgress | None = None
    ) -> TransferOutcome:
        """Copy releases, channel moves and what pointers name from a remote.

        What is tracked and missing in the working tree is written there.

        Raises:
            ConflictError: If the remote went another way (``releases-differ``).
        """
        ...

    def fetching(
        self, remote: str = "", progress: TransferProgress | None = None
    ) -> AbstractContextManager[Fetcher]:
        """Return what fetches files and chunks when somebody reads them.

        The store's lock is held shared meanwhile.

        Raises:
            NotFoundError: If there is no such remote, or its folder is not there.
            DeniedError: If there are no credentials.
        """
        ...
