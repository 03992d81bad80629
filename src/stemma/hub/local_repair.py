"""Restoring what is damaged or missing, in this process: the trash, remotes, other copies.

Invariants:
    * Sources are asked in order, each only for what is still harmed: the trash, the remotes by
      name (``origin`` first), versions made ready to serve, files of the working tree.
    * A remote that does not answer is told and passed over.
    * The store's lock is held shared while a remote is read, else exclusively.
    * What the report calls well was read again from the first byte to the last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from typing_extensions import override

from stemma.catalog import rows
from stemma.catalog.pointer_files import find_pointers
from stemma.catalog.replay import load_records
from stemma.delivery.layout import ServeLayout
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, InvalidInputError, NotFoundError, StemmaError
from stemma.hub.base import DoctorReport, Finding, RepairReport, Restored
from stemma.hub.local_remotes import LocalRemotes
from stemma.hub.local_storage import LocalStorage, read_pointers
from stemma.store import mending
from stemma.store.hashing import hash_file
from stemma.store.keys import Family, parse_key, recipe_key, record_key, tree_key
from stemma.store.mending import Harmed, is_whole

_FIRST: Final = "origin"
_RECORDS: Final = {
    "manifests": rows.MANIFEST,
    "releases": rows.RELEASE,
    "channel_moves": rows.CHANNEL_MOVE,
}
"""The kind of record that a table's rows stand for, of those that remotes hold."""
_INDEX: Final = frozenset({"index-missing", "index-wrong"})


class _Copy(NamedTuple):
    """A folder that may hold the files of a tree."""

    label: str
    tree: Digest
    folder: Path
    names: tuple[str, ...]


class LocalRepair(LocalStorage, LocalRemotes):
    """Restores objects of one project."""

    @override
    def repair(self) -> RepairReport:
        parts = self._parts
        report = self.doctor()
        restored: list[Restored] = []
        notes: list[str] = []
        if any(finding.kind in _INDEX for finding in report.findings):
            with parts.lock.exclusive(timeout_seconds=parts.lock_timeout_seconds):
                parts.objects.rebuild_index()
            report = self.doctor()
        harmed = self._harmed(report)
        if harmed:
            restored += self._mended(harmed, notes)
            # Records say which contents a version has: what was lost with one shows only now.
            report = self.doctor()
            more = [item for item in self._harmed(report) if item not in harmed]
            if more:
                restored += self._mended(more, notes)
                report = self.doctor()
        aside = self._set_aside(report)
        if aside:
            report = self.doctor()
        return RepairReport(
            restored=tuple(restored), set_aside=tuple(aside), notes=tuple(notes), after=report
        )

    def _harmed(self, report: DoctorReport) -> list[Harmed]:
        """Return what must be mended, from what was found."""
        found: dict[Harmed, None] = {}
        for finding in report.findings:
            if not finding.is_harmless:
                found.update(dict.fromkeys(_harmed_by(finding)))
        items = mending.with_files(self._parts.objects, found)
        return [item for item in items if not is_whole(self._parts.objects, item)]

    def _mended(self, harmed: Sequence[Harmed], notes: list[str]) -> Iterator[Restored]:
        """Ask every source in turn, and yield what each restored."""
        objects, parts = self._parts.objects, self._parts
        waiting = list(harmed)

        def whole_now(source: str) -> Iterator[Restored]:
            for item in [item for item in waiting if is_whole(objects, item)]:
                waiting.remove(item)
                yield Restored(what=item.record_key or str(item.digest), source=source)

        with parts.lock.exclusive(timeout_seconds=parts.lock_timeout_seconds):
            mending.from_trash(objects, waiting)
        yield from whole_now("the trash")
        for remote in sorted(self.list_remotes(), key=lambda remote: remote.name != _FIRST):
            if not waiting:
                return
            try:
                with parts.writing():
                    here, there = self._sides(remote, may_create=False)
                    mending.from_remote(here, there, mending.with_files(objects, waiting))
            except StemmaError as error:
                notes.append(f"{remote.label}: {error.message}")
            yield from whole_now(remote.label)
        for copy in self._copies():
            if not waiting:
                return
            with parts.lock.exclusive(timeout_seconds=parts.lock_timeout_seconds):
                self._take(copy, mending.with_files(objects, waiting))
            yield from whole_now(copy.label)

    def _take(self, copy: _Copy, items: Collection[Harmed]) -> None:
        """Restore the tree of a folder, or those files of it that are harmed."""
        objects = self._parts.objects
        digests = {item.digest for item in items}
        try:
            entries = objects.read_tree(copy.tree).entries
        except (IntegrityError, NotFoundError):
            if copy.tree in digests:
                mending.from_folder(objects, copy.folder, _names(copy), copy.tree)
            return
        for entry in entries:
            path = copy.folder / entry.path
            if entry.digest not in digests or path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_size == entry.size_bytes and hash_file(path) == entry.digest:
                mending.from_file(objects, path, entry.digest)

    def _copies(self) -> Iterator[_Copy]:
        """Yield folders that may hold what is harmed, the likeliest to be right first."""
        root = self._parts.root
        manifests = load_records(self._parts.objects).manifests
        layout = ServeLayout(state=root / ".stemma")
        for digest, manifest in manifests.items():
            ready = layout.version(str(digest))
            for name, tree in (
                ("artifact", manifest.artifact.content),
                ("code", manifest.architecture.content),
            ):
                yield _Copy(f"{ready.relative_to(root)}/{name}", tree, ready / name, ())
        tracked, _ = read_pointers(root, find_pointers(root))
        for path, content in tracked.items():
            place = root / path
            if place.is_dir():
                yield _Copy(path, content, place, ())
            else:
                yield _Copy(path, content, place.parent, (place.name,))
        for manifest in manifests.values():
            named = [dataset.content for dataset in manifest.datasets.datasets]
            named += [manifest.architecture.content, manifest.pipeline.content]
            for tree in dict.fromkeys([*named, manifest.artifact.content]):
                yield _Copy("the working tree", tree, root, ())

    def _set_aside(self, report: DoctorReport) -> list[str]:
        """Move damaged objects that nothing needs to the trash."""
        damaged: list[str] = []
        for finding in report.findings:
            name = parse_key(finding.where)
            is_object = name is not None and name.family is not Family.RECORD
            if is_object and finding.kind not in _INDEX and not finding.harms:
                damaged.append(finding.where)
                for item in _parts_of(finding):
                    damaged += [recipe_key(item), tree_key(item)]
        if not damaged:
            return []
        parts = self._parts
        with parts.lock.exclusive(timeout_seconds=parts.lock_timeout_seconds):
            return mending.set_aside(
                parts.objects, damaged, parts.root / ".stemma" / "tmp", parts.clock()
            )


def _harmed_by(finding: Finding) -> Iterator[Harmed]:
    """Yield the records, trees and files that a finding is about."""
    name = parse_key(finding.where)
    if name is not None and name.family is Family.RECORD:
        yield Harmed(name.digest, finding.where)
    elif name is not None and name.family is not Family.FRAME:
        yield Harmed(name.digest)
    elif name is None:
        # A digest that a version names, or the table and the record of a row.
        table, _, text = finding.where.rpartition(" ")
        try:
            digest = Digest.parse(text)
        except InvalidInputError:
            return
        if not table:
            yield Harmed(digest)
        elif finding.kind == "row-without-record" and table in _RECORDS:
            yield Harmed(digest, record_key(_RECORDS[table], digest))
    yield from map(Harmed, _parts_of(finding))


def _parts_of(finding: Finding) -> Iterator[Digest]:
    for part in finding.parts:
        # "file blake3:…: why", as `find_harm` puts it.
        yield Digest.parse(part.split(" ")[1].removesuffix(":"))


def _names(copy: _Copy) -> tuple[str, ...]:
    """Return the paths of a folder's files, those that are asked for or all."""
    if copy.names or not copy.folder.is_dir():
        return copy.names
    found = (path for path in copy.folder.rglob("*") if path.is_symlink() or path.is_file())
    return tuple(
        sorted(
            path.relative_to(copy.folder).as_posix()
            for path in found
            if "__pycache__" not in path.parts
        )
    )
