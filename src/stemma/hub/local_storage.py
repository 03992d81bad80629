"""Verbs on what is stored, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from typing_extensions import override

from stemma.catalog.capture.work_folder import remove_abandoned
from stemma.catalog.doctor import examine
from stemma.catalog.holdings import find_losses
from stemma.catalog.pointer_files import find_pointers
from stemma.catalog.pointers import read_pointer
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, InvalidInputError
from stemma.hub.base import DoctorReport, Finding, StorageVerbs
from stemma.hub.local_parts import LocalParts
from stemma.store.gc import GcReport, collect
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify


class LocalStorage(StorageVerbs):
    """Objects, rows and pointers of one project."""

    _parts: LocalParts

    @override
    def track(self, path: str, content: Digest) -> None:
        self._parts.catalog.track(path, content)

    @override
    def collect_garbage(self, *, is_dry_run: bool, grace_seconds: int) -> GcReport:
        parts = self._parts
        parts.runs.reap()
        remove_abandoned(parts.root / ".stemma" / "tmp")
        now = parts.clock()
        with parts.lock.exclusive(timeout_seconds=parts.lock_timeout_seconds):
            if not is_dry_run:
                # Rows first: a row must not outlive its record.
                parts.catalog.forget_expired(now, self._expiry)
            roots = parts.catalog.gc_roots(now, self._expiry)
            return collect(
                parts.objects,
                [root.digest for root in roots],
                now=now,
                grace_seconds=grace_seconds,
                is_dry_run=is_dry_run,
            )

    def _expiry(self, model: str) -> timedelta:
        return timedelta(days=self._parts.policy(model).expiry_days)

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
        return examine_files(parts.root, parts.objects, findings, rows.rows_checked)


def examine_files(
    root: Path, objects: ObjectStore, findings: list[Finding], rows_checked: int
) -> DoctorReport:
    """Check every object and pointer, and join what was found with ``findings``."""
    report = verify(objects)
    findings += [
        Finding(kind=problem.kind, where=problem.key, detail=problem.detail) for problem in report
    ]
    findings += [
        Finding(
            kind="missing-object",
            where=loss.version,
            detail=f"its {loss.part}, {loss.digest}, is not in the store",
        )
        for loss in find_losses(objects)
    ]
    pointers = find_pointers(root)
    findings += _pointer_findings(pointers, objects)
    return DoctorReport(
        findings=tuple(sorted(findings, key=lambda finding: finding.is_harmless)),
        checked={"rows": rows_checked, "pointers": len(pointers)},
    )


def _pointer_findings(pointers: list[Path], objects: ObjectStore) -> Iterator[Finding]:
    for path in pointers:
        try:
            pointer = read_pointer(path)
        except (IntegrityError, InvalidInputError) as error:
            yield Finding(kind="bad-pointer", where=str(path), detail=error.message, fix=error.hint)
            continue
        if not objects.has_tree(pointer.content):
            yield Finding(
                kind="pointer-without-content",
                where=str(path),
                detail=f"{pointer.content} is not in the store",
                fix=f"stemma add {str(path).removesuffix('.stemma')}",
            )
