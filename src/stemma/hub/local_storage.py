"""Verbs on what is stored, in this process."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from typing_extensions import override

from stemma.catalog import stat_cache
from stemma.catalog.capture.work_folder import remove_abandoned
from stemma.catalog.doctor import examine
from stemma.catalog.harm import Named, ObjectProblem, find_harm
from stemma.catalog.pointer_files import SUFFIX, find_pointers
from stemma.catalog.pointers import read_pointer
from stemma.catalog.rows import MANIFEST
from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import (
    DeniedError,
    IntegrityError,
    InvalidInputError,
    LockedError,
    UnavailableError,
)
from stemma.hub.base import DELETED_SECONDS, TRASH_SECONDS, DoctorReport, Finding, StorageVerbs
from stemma.hub.local_parts import LocalParts
from stemma.hub.portions import LeftElsewhere, absences_with_portions, find_left, portion_roots
from stemma.hub.run_telling import tell_runs
from stemma.store.gc import GcReport, Removal, find_garbage, remove_garbage
from stemma.store.keys import Family, parse_key, record_key
from stemma.store.objects import ObjectStore
from stemma.store.trash import RestoreReport, TrashHolding, empty, holding, restore
from stemma.store.verify import verify
from stemma.tracking import artifacts, removal

_REPAIR: Final = "stemma doctor --repair"
_UNNEEDED: Final = "(nothing recorded needs it)"


class LocalStorage(StorageVerbs):
    """Objects, rows and pointers of one project."""

    _parts: LocalParts

    @override
    def track(self, path: str, content: Digest) -> None:
        self._parts.catalog.track(path, content)

    @override
    @contextmanager
    def reading(self, content: Digest) -> Iterator[None]:
        parts = self._parts
        if parts.catalog.versions_of(content):
            yield  # released: kept for ever
            return
        lease = parts.leases.take(content)
        try:
            if lease is not None:
                self._outwait_collection(content)
                yield
            else:
                # Who may only read shares the lock, where there is one.
                with ExitStack() as stack:
                    with suppress(DeniedError, UnavailableError):
                        waiting = parts.lock.shared(timeout_seconds=parts.lock_timeout_seconds)
                        stack.enter_context(waiting)
                    yield
        finally:
            if lease is not None:
                lease.release()

    def _outwait_collection(self, content: Digest) -> None:
        """Wait for a collection that began before the lease, unless it keeps this anyway."""
        parts = self._parts
        try:
            with parts.lock.shared(timeout_seconds=0):
                return
        except LockedError:
            roots = parts.catalog.gc_roots(parts.clock(), self._expiry)
            if any(root.digest == content for root in roots):
                return
        with parts.lock.shared(timeout_seconds=parts.lock_timeout_seconds):
            pass

    @override
    def collect_garbage(
        self,
        *,
        is_dry_run: bool,
        grace_seconds: int,
        trash_seconds: int = TRASH_SECONDS,
        deleted_seconds: int = DELETED_SECONDS,
        is_final: bool = False,
    ) -> GcReport:
        parts = self._parts
        parts.runs.reap()
        remove_abandoned(parts.root / ".stemma" / "tmp")
        now = parts.clock()
        with parts.lock.exclusive(timeout_seconds=parts.lock_timeout_seconds):
            leased = [it for it in parts.leases.living() if _is_stored(parts.objects, it)]
            roots = parts.catalog.gc_roots(now, self._expiry, leased)
            doomed, files = self._artifacts(now - timedelta(seconds=deleted_seconds))
            garbage = find_garbage(
                parts.objects,
                [
                    *(root.digest for root in roots),
                    *files,
                    *self._pointed_at(),
                    *portion_roots(parts.objects, parts.root / ".stemma"),
                ],
                now=now,
                grace_seconds=grace_seconds,
            )
            # Before the rows, for a full disk has no room to forget those; and after all was
            # found sound, for else the trash may hold what must be restored.
            freed = self._emptied(None, is_dry_run=is_dry_run) if is_final else TrashHolding()
            report = replace(garbage.report(), is_final=is_final)
            if not is_dry_run:
                # Rows first: a row must not outlive its record.
                parts.catalog.forget_expired(now, self._expiry, leased)
                self._forget(doomed)
                report = remove_garbage(parts.objects, garbage, now=now, is_final=is_final)
            if not is_final:
                old = now - timedelta(seconds=trash_seconds)
                freed = self._emptied(old, is_dry_run=is_dry_run)
        return replace(report, expired=freed, trash=self.trash(), forgotten=_told(doomed))

    def _artifacts(self, before: datetime) -> tuple[removal.Removal, list[Digest]]:
        """Return what of deleted runs and models goes, and the files that others name."""
        with self._parts.database.read() as connection:
            doomed = removal.find_doomed(connection, before)
            kept = artifacts.kept_files(connection, without=doomed.owners)
            return doomed, [file for file, _ in kept]

    def _forget(self, doomed: removal.Removal) -> None:
        if doomed.owners:
            with self._parts.database.write() as connection:
                removal.forget(connection, doomed)

    def _emptied(self, before: datetime | None, *, is_dry_run: bool) -> TrashHolding:
        return empty(self._parts.objects, before=before, is_dry_run=is_dry_run)

    @override
    def restore_garbage(self, *, since: datetime | None, is_dry_run: bool) -> RestoreReport:
        parts = self._parts
        with parts.lock.exclusive(timeout_seconds=parts.lock_timeout_seconds):
            report = restore(parts.objects, since=since, is_dry_run=is_dry_run)
            if not is_dry_run:
                kinds = [digest for kind, digest in report.records if kind == MANIFEST]
                parts.catalog.remember(kinds)
        if not is_dry_run and report.records:
            parts.runs.restore_curves()
            tell_runs(parts)
        return report

    @override
    def trash(self) -> TrashHolding:
        return holding(self._parts.objects)

    def _pointed_at(self) -> Iterator[Digest]:
        """Yield the stored trees of the pointers that lie in the project.

        Their rows are lost when the database was lost; a damaged pointer stops collection,
        for nobody can tell what it stands for.
        """
        for path in find_pointers(self._parts.root):
            content = read_pointer(path).content
            if self._parts.objects.has_tree(content):
                yield content

    def _expiry(self, model: str) -> timedelta:
        return timedelta(days=self._parts.policy(model).expiry_days)

    @override
    def left_elsewhere(self, manifest: Digest) -> LeftElsewhere:
        return find_left(self._parts.objects, self._parts.root / ".stemma", manifest)

    @override
    def doctor(self) -> DoctorReport:
        with self._parts.lock.shared(timeout_seconds=self._parts.lock_timeout_seconds):
            return self._examined()

    def _examined(self) -> DoctorReport:
        parts = self._parts
        rows = examine(parts.database, parts.objects)
        findings = [
            Finding(
                kind=problem.kind,
                where=problem.where,
                detail=problem.detail,
                fix="" if problem.is_harmless else "stemma doctor --rebuild",
                is_harmless=problem.is_harmless,
            )
            for problem in rows.problems
        ]
        with parts.database.read() as connection:
            named = [
                (f"{owner} artifact {path}", file)
                for owner, path, file in artifacts.every_artifact(connection)
            ]
        return examine_files(parts.root, parts.objects, findings, rows.rows_checked, named)


def _told(doomed: removal.Removal) -> tuple[Removal, ...]:
    """Return what goes in the words of a report."""
    words = {"run": doomed.runs, "logged model": doomed.models, "trace": doomed.traces}
    return tuple(
        Removal(
            key=f"{word} {it.id}",
            size_bytes=it.size_bytes,
            reason=f"deleted {it.deleted_at[:10]}, its time is over",
        )
        for word, group in words.items()
        for it in group
    )


def _is_stored(objects: ObjectStore, digest: Digest) -> bool:
    """Whether a manifest or tree is here; of what is read from a remote nothing is to be kept."""
    if digest.algorithm is Algorithm.SHA256:
        return objects.backend.exists(record_key(MANIFEST, digest))
    return objects.has_tree(digest)


def examine_files(
    root: Path,
    objects: ObjectStore,
    findings: list[Finding],
    rows_checked: int,
    named: Sequence[tuple[str, Digest]] = (),
) -> DoctorReport:
    """Check every object and pointer, and join what was found with ``findings``.

    Args:
        root: The project's folder.
        objects: Its store.
        findings: What is known to be wrong already.
        rows_checked: How many rows were checked for that.
        named: Files that rows name, each with what it is in words.
    """
    counted = _Counter()
    problems = verify(objects, counted)
    pointers = find_pointers(root)
    tracked, unreadable = read_pointers(root, pointers)
    absent = absences_with_portions(root / ".stemma")
    harmed = find_harm(objects, problems, Named(tracked=tracked, files=named), absent)
    if harmed:
        # Else `stemma add` would believe that what is damaged is stored.
        stat_cache.forget(root / ".stemma")
    # What verify says of a record is said again when rows are compared with records.
    records = {str(key.digest) for problem in problems if (key := parse_key(problem.key))}
    findings = [
        finding
        for finding in findings
        if finding.kind != "record-damaged" or finding.where not in records
    ]
    stored = root / ".stemma" / "objects"
    findings += [
        _object_finding(problem, is_loose=(stored / problem.key).is_file()) for problem in harmed
    ]
    findings += unreadable
    if any(absent.values()):
        findings.append(_elsewhere(sum(map(bool, absent.values()))))
    return DoctorReport(
        findings=tuple(sorted(findings, key=lambda finding: finding.is_harmless)),
        checked={
            "objects": counted.object_count,
            "rows": rows_checked,
            "pointers": len(pointers),
        },
        trash=holding(objects),
    )


def _elsewhere(count: int) -> Finding:
    what = "1 version was" if count == 1 else f"{count} versions were"
    return Finding(
        kind="contents-elsewhere",
        where="remote",
        detail=f"{what} pulled without all contents; nothing is lost",
        fix="stemma pull   (when they are needed)",
        is_harmless=True,
    )


class _Counter:
    """Counts the objects that ``verify`` reports progress of, one call for each."""

    def __init__(self) -> None:
        self.object_count = 0

    def __call__(self, _size_bytes: int, /) -> None:
        """Count one."""
        self.object_count += 1


def _object_finding(problem: ObjectProblem, *, is_loose: bool) -> Finding:
    tracked = (f"tracked {path}" for path in problem.paths)
    harms = (*problem.versions, *tracked, *problem.named)
    return Finding(
        kind=problem.kind,
        where=problem.key,
        detail=problem.detail,
        fix=_object_fix(problem, is_loose=is_loose),
        harms=harms,
        parts=problem.files,
    )


def _object_fix(problem: ObjectProblem, *, is_loose: bool) -> str:
    """Say what can be done: the repair asks every place that may hold a copy."""
    if problem.kind in {"index-missing", "index-wrong", "pack-damaged"}:
        return "stemma doctor --rebuild"
    file = f".stemma/objects/{problem.key}"
    is_there = problem.kind != "missing-object"
    if problem.paths:
        return _REPAIR if is_there else _tracked_fix(problem.paths)
    if problem.named and not problem.versions:
        return f"{_REPAIR}   (where it finds none: log the artifact again)"
    if not problem.versions:
        name = parse_key(problem.key)
        if is_there and is_loose and name is not None and name.family is Family.RECORD:
            return f"rm {shlex.quote(file)}   {_UNNEEDED}"  # the repair leaves records alone
        return f"{_REPAIR}   {_UNNEEDED}"
    what = problem.key if "/" in problem.key else f"the object {problem.key}"
    by_hand = f"copy {what} from another copy of this project"
    if is_there:
        by_hand = f"copy {file} from another copy of this project; without one: rm"
        by_hand += f" {shlex.quote(file)}, then run the training again and release it"
    # What rests in a pack with others is no file that could go or be replaced.
    is_by_hand = is_loose or not is_there
    return f"{_REPAIR}   (where it finds none: {by_hand})" if is_by_hand else _REPAIR


def _tracked_fix(paths: Sequence[str]) -> str:
    """Say what brings tracked data back that is not stored; in a clone it never was."""
    adding = " && ".join(f"stemma add {shlex.quote(path)}" for path in paths)
    pulling = " && ".join(f"stemma pull {shlex.quote(path)}" for path in paths)
    return f"{pulling}   (no remote: {adding}, while the tracked files are unchanged)"


def read_pointers(root: Path, pointers: list[Path]) -> tuple[dict[str, Digest], list[Finding]]:
    """Return what is tracked, and the pointers that cannot be read."""
    tracked: dict[str, Digest] = {}
    unreadable: list[Finding] = []
    for path in pointers:
        try:
            content = read_pointer(path).content
        except (IntegrityError, InvalidInputError) as error:
            unreadable.append(
                Finding(kind="bad-pointer", where=str(path), detail=error.message, fix=error.hint)
            )
        else:
            tracked[str(path.relative_to(root)).removesuffix(SUFFIX)] = content
    return tracked, unreadable
