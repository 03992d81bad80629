"""Contents of tracked paths in one push or pull.

A release names its contents itself; what is only tracked is named by pointers in git
(``docs/formats/store.md`` §Remotes).

Invariants:
    * Everything is planned before anything is copied, and copied together: many small files
      cost few requests.  Only when that fails, path by path, so that what fails has a name.
    * A path that cannot be copied is refused by name; others are copied all the same.
    * What is pulled has its row as soon as it is in the working tree, and not before: the row
      says what was last put there, so that a pull that is cut off knows what is unchanged.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import final

from stemma.catalog.pointers import Pointer
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, IntegrityError, NotFoundError, StemmaError
from stemma.hub.local_parts import LocalParts
from stemma.hub.remotes import (
    Refusal,
    Remote,
    TrackedTransfer,
    TransferOutcome,
    TransferRequest,
)
from stemma.hub.tracked_paths import Placing, is_stored, place, read_tracked
from stemma.store.keys import tree_key
from stemma.store.sides import Side
from stemma.store.transfer import Content, Plan, Transfer


@dataclass(slots=True)
class _Found:
    """One path, and what becomes of it."""

    pointer: Pointer
    is_copied: bool = False
    is_refused: bool = False
    written_count: int = 0
    note: str = ""
    hint: str = ""


@final
class Noted:
    """Refusals and bytes, as they come up."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.refused: list[Refusal] = []
        self.copied_bytes = 0

    def refuse(self, path: str, error: StemmaError) -> None:
        """Note what was not done, and why."""
        self.refused.append(
            Refusal(
                what=path,
                code=error.code,
                detail=error.message,
                hint=error.hint,
                is_conflict=isinstance(error, ConflictError),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """Where contents go, and who is told.

    Attributes:
        transfer: Copies them.
        remote: The side that is not ours.
        noted: Takes note of refusals and bytes.
        advance: Told of the bytes that are copied.
    """

    transfer: Transfer
    remote: Side
    noted: Noted
    advance: Callable[[int], None] = field(default=lambda _: None)


@final
class TrackedCopy:
    """The tracked paths that one request is about."""

    def __init__(self, parts: LocalParts, request: TransferRequest) -> None:
        """Read the pointers; none when the request names a version or components.

        Raises:
            StemmaError: If a path that was named has no pointer, or one that cannot be read.
        """
        self._parts = parts
        self._request = request
        self._paths: dict[str, _Found] = {}
        self._unreadable: dict[str, StemmaError] = {}
        self._wanted: list[str] = []
        self._known: list[str] = []
        self._plan: Plan | None = None
        if not request.ref and not request.only:
            found = read_tracked(parts.root, request.paths)
            self._paths = {path: _Found(pointer) for path, pointer in found.pointers.items()}
            self._unreadable = found.unreadable
        if request.paths and self._unreadable:
            raise next(iter(self._unreadable.values()))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is tracked."""
        return not (self._paths or self._unreadable)

    @property
    def plan(self) -> Plan | None:
        """What must be copied; ``None`` before it was planned."""
        return self._plan

    @property
    def are_stored(self) -> bool:
        """Whether all of it is here, so that no remote need be asked."""
        objects = self._parts.objects
        stored = (is_stored(objects, found.pointer) for found in self._paths.values())
        return not self._unreadable and all(stored)

    @property
    def held(self) -> list[Digest]:
        """Contents that the remote holds now, as far as the copy has shown."""
        found = (self._paths[path] for path in (*self._known, *self._wanted))
        return [it.pointer.content for it in found if not it.is_refused]

    def plan_push(self, journey: Journey) -> None:
        """Plan what the remote lacks; what is not here is said, or refused if it is nowhere."""
        self._refuse_unreadable(journey)
        for path, found in self._paths.items():
            if self._parts.objects.has_tree(found.pointer.content):
                self._wanted.append(path)
            elif journey.remote.backend.exists(tree_key(found.pointer.content)):
                self._known.append(path)
                found.note = f"its content is not here; {journey.remote.name} has it"
                found.hint = f"stemma pull {shlex.quote(path)}"
            else:
                self._refuse(path, self._lost(path, journey), journey)
        self._plan_wanted(journey, is_new=False)

    def plan_pull(self, journey: Journey) -> None:
        """Plan what we lack."""
        self._refuse_unreadable(journey)
        objects = self._parts.objects
        self._wanted = [
            path
            for path, found in self._paths.items()
            if self._request.is_repair or not is_stored(objects, found.pointer)
        ]
        self._plan_wanted(journey, is_new=not self._request.is_repair)

    def copy(self, journey: Journey) -> None:
        """Copy what was planned."""
        plan = self._plan
        if plan is None or plan.is_empty:
            return
        if self._request.is_dry_run:
            journey.noted.copied_bytes += sum(plan.frames.values())
            return
        try:
            journey.noted.copied_bytes += journey.transfer.copy(plan, journey.advance)
        except IntegrityError:
            for path in self._wanted:
                try:
                    plan = journey.transfer.plan([self._content(path)])
                    journey.noted.copied_bytes += journey.transfer.copy(plan, journey.advance)
                except IntegrityError as error:
                    self._refuse(path, error, journey)

    def place(self, noted: Noted) -> None:
        """Write what is missing or outdated into the working tree; its rows keep it from then on.

        Until then the pointers do, from garbage collection.
        """
        before = self._parts.catalog.tracked()
        for path, found in self._paths.items():
            if found.is_refused or found.note:
                continue
            if self._request.is_dry_run and found.is_copied:
                found.written_count = int(not (self._parts.root / path).exists())
                continue
            content = found.pointer.content
            try:
                is_there = self._place(path, found, before.get(path))
            except StemmaError as error:
                noted.refuse(path, error)
                continue
            if is_there and before.get(path) != content:
                self._parts.catalog.track(path, content)

    def _place(self, path: str, found: _Found, before: Digest | None) -> bool:
        """Write a path out; returns whether it is there now."""
        request = self._request
        placed = place(
            self._parts.objects,
            self._parts.root,
            path,
            found.pointer,
            Placing(before, is_forced=request.is_forced, is_dry_run=request.is_dry_run),
        )
        found.written_count = placed.written_count
        if placed.differing_count:
            name = shlex.quote(path)
            found.note = "differs from its pointer and was left as it is"
            found.hint = f"stemma pull {name} --force, or keep yours: stemma add {name}"
        return not (placed.differing_count or request.is_dry_run)

    def told(self, remote: Remote, noted: Noted) -> TransferOutcome:
        """Return what became of the paths."""
        tracked = tuple(
            TrackedTransfer(
                path=path,
                file_bytes=found.pointer.size_bytes,
                is_copied=found.is_copied,
                written_count=found.written_count,
                note=found.note,
                hint=found.hint,
            )
            for path, found in self._paths.items()
            if not found.is_refused and (found.is_copied or found.written_count or found.note)
        )
        return TransferOutcome(
            remote=remote,
            versions=(),
            move_count=0,
            copied_bytes=noted.copied_bytes,
            file_bytes=0 if self._plan is None else self._plan.file_bytes,
            refused=tuple(noted.refused),
            is_dry_run=self._request.is_dry_run,
            tracked=tracked,
        )

    # planning -------------------------------------------------------------------------------

    def _plan_wanted(self, journey: Journey, *, is_new: bool) -> None:
        try:
            self._plan = journey.transfer.plan(self._contents(self._wanted))
        except IntegrityError:
            for path in list(self._wanted):
                try:
                    journey.transfer.plan([self._content(path)])
                except IntegrityError as error:
                    self._wanted.remove(path)
                    self._leave(path, error, journey)
            self._plan = journey.transfer.plan(self._contents(self._wanted))
        trees = set(self._plan.trees)
        for path in self._wanted:
            self._paths[path].is_copied = is_new or self._paths[path].pointer.content in trees

    def _leave(self, path: str, error: StemmaError, journey: Journey) -> None:
        """Say that a path cannot be had: nobody has it, or what they have is damaged."""
        found = self._paths[path]
        here, there = self._parts.objects.backend, journey.remote.backend
        key = tree_key(found.pointer.content)
        if here.exists(key) or there.exists(key):
            self._refuse(path, error, journey)
        elif (self._parts.root / path).exists():
            found.note = f"its content is neither stored here nor on {journey.remote.name}"
            found.hint = f"stemma add {shlex.quote(path)}"
        else:
            self._refuse(path, self._lost(path, journey), journey)

    def _lost(self, path: str, journey: Journey) -> StemmaError:
        name = shlex.quote(path)
        is_there = (self._parts.root / path).exists()
        return NotFoundError(
            f"its content is neither here nor on {journey.remote.name}",
            code="tracked-nowhere",
            hint=f"stemma add {name}" if is_there else f"stemma push {name}, where it was added",
        )

    def _content(self, path: str) -> Content:
        return Content(self._paths[path].pointer.content, is_required=True)

    def _contents(self, paths: Iterable[str]) -> list[Content]:
        return list(dict.fromkeys(self._content(path) for path in paths))

    def _refuse_unreadable(self, journey: Journey) -> None:
        for path, error in self._unreadable.items():
            journey.noted.refuse(path, error)

    def _refuse(self, path: str, error: StemmaError, journey: Journey) -> None:
        self._paths[path].is_refused = True
        journey.noted.refuse(path, error)
