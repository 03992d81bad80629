"""A dataset's files: listed, opened where they rest, or written out.

Invariants: those of ``stemma.sdk.datasets``.
"""

from __future__ import annotations

import io
import posixpath
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, cast, final

from typing_extensions import override

from stemma.domain import component
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.tree import Tree, TreeEntry
from stemma.hub.parts import Owner
from stemma.sdk.materials import materialise
from stemma.sdk.open_project import OpenProject
from stemma.sdk.tracked import Tracked
from stemma.server.wiring import open_hub
from stemma.store.ranges import OpenedFile

_BUFFER_BYTES: Final = 64 << 10
_LINK_LIMIT: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFile:
    """One file of a dataset.

    Attributes:
        path: Below the dataset's folder.
        size_bytes: Its size.
    """

    path: str
    size_bytes: int


@final
class _OpenFile(io.BufferedReader):
    """A file of a dataset; the project stays open as long as it is used."""

    def __init__(self, raw: OpenedFile, project: OpenProject) -> None:
        super().__init__(raw, _BUFFER_BYTES)
        self._project = project


class DatasetFiles:
    """One dataset as a version used it, or as it is tracked: what it is, and its files."""

    def __init__(
        self, found: component.Dataset | Tracked, ref: str = "", manifest: Digest | None = None
    ) -> None:
        """Stand for the dataset of a manifest, or for what a pointer names.

        Args:
            found: Which one.
            ref: Version it was found in.
            manifest: The version's manifest.
        """
        self._found = found
        self._ref = ref
        self._kept = self._content if manifest is None else manifest
        self._project = OpenProject(self._kept)

    @property
    def _record(self) -> component.Dataset:
        if isinstance(self._found, Tracked):
            self._found = self._found.capture()
        return self._found

    @property
    def _content(self) -> Digest:
        found = self._found
        return found.pointer.content if isinstance(found, Tracked) else found.content

    @property
    def name(self) -> str:
        """Its name."""
        return self._found.name

    @property
    def role(self) -> str:
        """``training``, ``validation`` or ``test``."""
        return self._record.role.value

    @property
    def row_count(self) -> int:
        """Number of rows; -1 when rows have no meaning."""
        return self._record.row_count

    @property
    def identity(self) -> str:
        """Digest of its canonical content."""
        return str(self._record.identity)

    @property
    def source(self) -> str:
        """Where it came from, as it was named when it was recorded."""
        return self._found.source

    @property
    def columns(self) -> tuple[component.ValueSpec, ...]:
        """Its schema."""
        return self._record.columns

    def path(self) -> Path:
        """Return its only file, or its folder, verified; not to be written to."""
        with closing(open_hub()) as hub, hub.reading(self._kept):
            folder = materialise(hub, self._content, self._owner())
        files = [path for path in folder.rglob("*") if path.is_file()]
        return files[0] if len(files) == 1 and self._found.format != "folder" else folder

    def files(self) -> tuple[DatasetFile, ...]:
        """List its files, sorted by path; a link is listed as the file that it leads to.

        Raises:
            NotFoundError: If it is neither here nor on a remote (``contents-not-here``).
        """
        return tuple(
            DatasetFile(path=path, size_bytes=entry.size_bytes)
            for path, entry in self._entries().items()
        )

    def open(self, path: str = "") -> BinaryIO:
        """Open one of its files for reading anywhere in it.

        Only the chunks that are read are looked at, each verified; those that are not here
        come from the remote, and stay until the next collection.

        Args:
            path: Which file; without, the only one.

        Raises:
            NotFoundError: If there is no such file (``file-not-found``), or it is neither here
                nor on a remote (``contents-not-here``).
            InvalidInputError: If it has several files and none is named (``ambiguous-file``).
            IntegrityError: If what is stored is damaged; also while it is read.
        """
        entry = self._entry(path)
        owner = replace(self._owner(), what=f"{entry.path} of {self.name}")
        raw = self._project.parts().open(cast("Digest", entry.digest), owner)
        return _OpenFile(raw, self._project)

    def _owner(self) -> Owner:
        what = f"{self.name} of {self._ref}" if self._ref else self.name
        return Owner(what=what, ref=self._ref, component=f"data/{self._found.name}")

    def _entries(self) -> dict[str, TreeEntry]:
        return _followed(self._project.parts().tree(self._content, self._owner()))

    def _entry(self, path: str) -> TreeEntry:
        entries = self._entries()
        if path in entries:
            return entries[path]
        if path:
            near = suggest(path, entries)
            raise NotFoundError(
                f"dataset {self.name} has no file {path}{did_you_mean(near)}",
                code="file-not-found",
                hint=".files() lists them",
            )
        if len(entries) != 1:
            raise InvalidInputError(
                f"dataset {self.name} has {len(entries)} files",
                code="ambiguous-file",
                hint=f".open({next(iter(entries), '')!r}); .files() lists them",
            )
        return next(iter(entries.values()))

    @override
    def __repr__(self) -> str:
        """Show what it is."""
        found = self._found
        if isinstance(found, Tracked):
            return f"<Dataset {found.name}: {found.pointer.size_bytes} bytes, {found.format}>"
        return f"<Dataset {found.name} ({self.role}): {found.row_count} rows, {found.format}>"


def _followed(tree: Tree) -> dict[str, TreeEntry]:
    """Return files by path; a link that leads to no file is left out."""
    entries = {entry.path: entry for entry in tree.entries}
    found: dict[str, TreeEntry] = {}
    for path in entries:
        entry = entries.get(path)
        for _ in range(_LINK_LIMIT):
            if entry is None or entry.digest is not None:
                break
            target = posixpath.join(posixpath.dirname(entry.path), entry.target)
            entry = entries.get(posixpath.normpath(target))
        if entry is not None and entry.digest is not None:
            found[path] = entry
    return found
