"""Verbs that talk to remotes, in this process: what to copy, in which order.

Invariants: those of ``stemma.hub.remotes``, and
    * Push: contents of a version, its manifest, its release; channel moves last.
    * Pull: contents of every version, then all names in one transaction per model.  A version
      whose contents are damaged on the remote is named, and does not keep others from coming.
    * The store's lock is held shared throughout, so that no collection comes in between.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from typing_extensions import override

from stemma.catalog import exchange
from stemma.catalog import rows as build
from stemma.catalog.absences import note_absences, read_absences
from stemma.catalog.exchange import EMPTY, Additions, Catalogue, Chains
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, NotFoundError
from stemma.domain.ref import Newest, Ref, did_you_mean, suggest
from stemma.hub.local_remote_settings import LocalRemoteSettings
from stemma.hub.portions import Came, keep_portions
from stemma.hub.remote_copy import Asked, Copying, Planned
from stemma.hub.remotes import (
    Remote,
    TransferOutcome,
    TransferProgress,
    TransferRequest,
)
from stemma.hub.seen_remotes import (
    RemoteSeen,
    write_seen,
)
from stemma.hub.selection import Selection, parse_selection
from stemma.hub.version_contents import contents_of
from stemma.store.backends.addresses import FOLDER, parse_address
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.opening import open_backend
from stemma.store.checking import damaged, put_sound
from stemma.store.fetching import Fetcher
from stemma.store.keys import record_key, records_prefix
from stemma.store.reading import Reader
from stemma.store.remote_index import RemoteIndex
from stemma.store.sides import LocalFrames, Side
from stemma.store.transfer import Transfer

_HERE: Final = "this project"
_CACHE: Final = ".stemma/cache/frame-index"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """Both ends of a copy.

    Attributes:
        remote: Which remote.
        here: Our side.
        there: Its side.
        catalogue: What it knows.
        seen: What it holds, as far as we get to know.
    """

    remote: Remote
    here: Side
    there: Side
    catalogue: Catalogue
    seen: RemoteSeen


class LocalRemotes(LocalRemoteSettings):
    """Remotes of one project."""

    @override
    def check_remote(self, name: str = "") -> Remote:
        remote = self.find_remote(name)
        backend = self._open(remote, may_create=True)
        next(iter(backend.list(records_prefix(build.RELEASE))), None)
        return remote

    def _open(self, remote: Remote, *, may_create: bool) -> BlobBackend:
        address = parse_address(remote.url)
        if address.scheme == FOLDER:
            folder = Path(address.path)
            # A disk that is not there must not become an empty folder in its place.
            if not folder.is_dir() and not (may_create and folder.parent.is_dir()):
                raise NotFoundError(
                    f"the folder {address.path} of {remote.label} is not there",
                    code="remote-missing",
                    hint=f"mkdir -p {address.path}, or: stemma remote list",
                )
        return open_backend(address, os.environ)

    # copying --------------------------------------------------------------------------------

    @override
    def push(
        self, request: TransferRequest, progress: TransferProgress | None = None
    ) -> TransferOutcome:
        with self._parts.writing():
            ends = self._ends(request, may_create=not request.is_dry_run)
            transfer = Transfer(ends.here, ends.there, is_repair=request.is_repair)
            copying = Copying(transfer, request, progress)
            found = (
                self._asked_of_push(ends, model, request, copying)
                for model in self._models_here(request.ref)
            )
            asked = [item for item in found if item is not None]
            planned = [copying.plan(item, is_chain=True) for item in asked]
            copying.announce(item for items in planned for item in items)
            for item_asked, items in zip(asked, planned, strict=True):
                is_whole = len(items) == len(item_asked.releases)
                for item in items:
                    is_whole = is_whole and copying.copy(item)
                    if not is_whole:
                        break
                    if not request.is_dry_run and not self._push_names(ends, item, copying):
                        is_whole = False
                        break
                if is_whole:
                    self._push_moves(ends, item_asked, request, copying)
            self._remember(ends, request)
        return copying.outcome(ends.remote)

    @override
    def pull(
        self, request: TransferRequest, progress: TransferProgress | None = None
    ) -> TransferOutcome:
        with self._parts.writing():
            ends = self._ends(request, may_create=False)
            transfer = Transfer(ends.there, ends.here, is_repair=request.is_repair)
            copying = Copying(transfer, request, progress)
            if request.is_repair and not request.is_dry_run:
                _mend_records(ends, copying)
            for key in ends.catalogue.damaged:
                copying.refuse(key, damaged(key, ends.remote.label))
            found = (
                self._asked_of_pull(ends, model, request, copying)
                for model in _models_there(ends, request.ref)
            )
            asked = [item for item in found if item is not None]
            planned = [
                item for item_asked in asked for item in copying.plan(item_asked, is_chain=False)
            ]
            copying.announce(planned)
            copied = [item for item in planned if copying.copy(item)]
            if not request.is_dry_run:
                # Before the names, for what they name and is not here would be taken for lost.
                self._note_what_is_left(asked, copied, parse_selection(request.only))
            for item_asked in asked:
                self._pull_names(ends, item_asked, request, copying)
            self._remember(ends, request)
        return copying.outcome(ends.remote)

    def _note_what_is_left(
        self, asked: Sequence[Asked], copied: Sequence[Planned], selection: Selection
    ) -> None:
        state = self._parts.root / ".stemma"
        came = [Came(item.release.manifest, selection.paths, item.portions) for item in copied]
        whole = keep_portions(self._parts.objects, state, came)
        left = _left(read_absences(state), asked, [item.manifest for item in came], selection)
        note_absences(state, {manifest: absent - whole for manifest, absent in left.items()})

    def _ends(self, request: TransferRequest, *, may_create: bool) -> _Ends:
        remote = self.find_remote(request.remote)
        here, there = self._sides(remote, may_create=may_create)
        catalogue = exchange.read_remote(there.backend, here.backend)
        seen = RemoteSeen(url=remote.url, seen_at=datetime.now(UTC))
        seen.add(catalogue.models)
        return _Ends(remote=remote, here=here, there=there, catalogue=catalogue, seen=seen)

    def _remember(self, ends: _Ends, request: TransferRequest) -> None:
        """Keep what the remote holds for whoever asks without a network."""
        if ends.remote.name and not request.is_dry_run:
            write_seen(self._parts.root, ends.remote.name, ends.seen)

    def _sides(self, remote: Remote, *, may_create: bool) -> tuple[Side, Side]:
        """Return our own side and the remote's."""
        backend = self._open(remote, may_create=may_create)
        objects = self._parts.objects
        here = Side(
            name=_HERE,
            backend=objects.backend,
            frames=LocalFrames(objects.backend, objects.index),
            reader=Reader(objects.backend, objects.index),
        )
        there = Side(
            name=remote.label,
            backend=backend,
            frames=RemoteIndex(backend, self._parts.root / _CACHE),
        )
        return here, there

    @override
    @contextmanager
    def fetching(
        self, remote: str = "", progress: TransferProgress | None = None
    ) -> Iterator[Fetcher]:
        with self._parts.writing():
            here, there = self._sides(self.find_remote(remote), may_create=False)
            if progress is None:
                yield Fetcher(there, here)
            else:
                yield Fetcher(there, here, progress.advance)

    def _local(self, model: str) -> Chains:
        return exchange.read_local(self._parts.database, self._parts.objects, model)

    # push -----------------------------------------------------------------------------------

    def _models_here(self, ref: str) -> list[str]:
        if not ref:
            return [summary.name for summary in self._parts.catalog.list_models()]
        model = Ref.parse(ref).model
        self._parts.catalog.check_model(model)
        return [model]

    def _asked_of_push(
        self, ends: _Ends, model: str, request: TransferRequest, copying: Copying
    ) -> Asked | None:
        mine = self._local(model)
        if request.ref and not isinstance(Ref.parse(request.ref).selector, Newest):
            release = exchange.pick(mine, Ref.parse(request.ref))
            mine = exchange.up_to(mine, release.version)
        theirs = ends.catalogue.models.get(model, EMPTY)
        additions = _compared(model, (theirs, mine), (ends.remote.label, _HERE), copying)
        if additions is None:
            return None
        wanted = mine.releases if request.is_repair else additions.releases
        return Asked(model=model, offered=mine, additions=additions, releases=wanted)

    def _push_names(self, ends: _Ends, item: Planned, copying: Copying) -> bool:
        """Copy a version's manifest, then its release; returns whether it got its number."""
        manifest = item.release.manifest
        data = self._parts.objects.read_record(build.MANIFEST, manifest)
        blobs = {record_key(build.MANIFEST, manifest): data}
        copying.count(size_bytes=put_sound(ends.there.backend, blobs, ends.there.name))
        is_ours = self._push_link(ends, build.RELEASE, item.record, copying)
        if is_ours:
            ends.seen.add_releases(item.release.model, [item.record])
        return is_ours

    def _push_moves(
        self, ends: _Ends, asked: Asked, request: TransferRequest, copying: Copying
    ) -> None:
        lost: set[str] = set()
        new = {record for record, _ in asked.additions.moves}
        # What is there already is written again where it is damaged.
        known = [pair for chain in asked.offered.moves.values() for pair in chain]
        for record, move in known if request.is_repair else asked.additions.moves:
            if move.channel in lost:
                continue
            is_ours = request.is_dry_run or self._push_link(
                ends, build.CHANNEL_MOVE, record, copying
            )
            if is_ours and record in new:
                ends.seen.add_moves(asked.model, [record])
                copying.count(moves=1)
            elif not is_ours:
                lost.add(move.channel)

    def _push_link(self, ends: _Ends, kind: str, record: Digest, copying: Copying) -> bool:
        """Claim a record's place in its chain and write it; returns whether the place is ours.

        Who claimed the place may have been killed before the record was written: then we
        write it for them, for everybody else would wait for it.
        """
        data = self._parts.objects.read_record(kind, record)
        owner, owned = exchange.claim(ends.there.backend, record, data)
        blobs = {record_key(kind, owner): owned}
        copying.count(size_bytes=put_sound(ends.there.backend, blobs, ends.there.name))
        if owner != record:
            copying.refuse(
                ends.remote.label,
                ConflictError(
                    f"another push was first: the place of {kind} {record.short} has"
                    f" {owner.short} on {ends.remote.label}",
                    code="releases-differ",
                    hint="stemma pull   (it says how both sides differ)",
                ),
            )
        return owner == record

    # pull -----------------------------------------------------------------------------------

    def _asked_of_pull(
        self, ends: _Ends, model: str, request: TransferRequest, copying: Copying
    ) -> Asked | None:
        theirs = ends.catalogue.models[model]
        additions = _compared(
            model, (self._local(model), theirs), (_HERE, ends.remote.label), copying
        )
        if additions is None:
            return None
        wanted = theirs.releases
        if request.ref and not isinstance(Ref.parse(request.ref).selector, Newest):
            version = exchange.pick(theirs, Ref.parse(request.ref)).version
            wanted = tuple(pair for pair in theirs.releases if pair[1].version == version)
        return Asked(model=model, offered=theirs, additions=additions, releases=wanted)

    def _pull_names(
        self, ends: _Ends, asked: Asked, request: TransferRequest, copying: Copying
    ) -> None:
        copying.count(moves=len(asked.additions.moves))
        if request.is_dry_run:
            return
        exchange.add_to_rows(
            self._parts.database,
            self._parts.objects,
            asked.offered,
            asked.additions,
            records=ends.catalogue.records,
        )


def _left(
    before: Mapping[Digest, Collection[Digest]],
    asked: Sequence[Asked],
    copied: Collection[Digest],
    selection: Selection,
) -> dict[Digest, set[Digest]]:
    """Return by manifest what was left on the remote because it was not asked for."""
    left: dict[Digest, set[Digest]] = {}
    for model in asked:
        wanted = {release.manifest for _, release in model.releases}
        new = {release.manifest for _, release in model.additions.releases}
        for digest in (new | before.keys()) & model.offered.manifests.keys():
            if digest in wanted and digest not in copied:
                continue  # refused, and told so
            manifest = model.offered.manifests[digest]
            named = contents_of(manifest) if digest in new else ()
            absent = set(before.get(digest, (content.digest for content in named)))
            came = selection.contents(manifest) if digest in copied else ()
            left[digest] = absent - {content.digest for content in came}
    return left


def _mend_records(ends: _Ends, copying: Copying) -> None:
    """Replace our records that are damaged; nothing of a model can be compared without them."""
    for stat in ends.catalogue.records.list():
        if ends.here.backend.exists(stat.key):
            blobs = {stat.key: ends.catalogue.records.get(stat.key)}
            copying.count(size_bytes=put_sound(ends.here.backend, blobs, ends.here.name))


def _models_there(ends: _Ends, ref: str) -> list[str]:
    names = list(ends.catalogue.models)
    if not ref:
        return names
    model = Ref.parse(ref).model
    if model not in names:
        near = suggest(model, names)
        raise NotFoundError(
            f"{ends.remote.label} holds no release of {model}{did_you_mean(near)}",
            code="model-not-found",
            hint=f"stemma pull {near[0]}" if near else f"stemma push {model}, where it was made",
        )
    return [model]


def _compared(
    model: str, sides: tuple[Chains, Chains], names: tuple[str, str], copying: Copying
) -> Additions | None:
    """Return what the first side lacks; conflicts are noted, and one of releases gives none."""
    try:
        additions = exchange.compare(*sides, names)
    except ConflictError as error:
        copying.refuse(model, error)
        return None
    for conflict in additions.conflicts:
        copying.refuse(model, conflict)
    return additions
