"""Names between projects: which releases and channel moves another store knows, and we do not.

Names are rows here and records elsewhere; both are chains in which each record names the
one before it.

Invariants:
    * Chains only grow: what both sides have must be the same, record for record; else it is a
      conflict that names both, and nothing of that chain changes on either side.
    * A chain is taken up to the first record that is missing or damaged, for it has no gaps.
    * Of two pushes that claim one place of a chain on a remote, one gets it (``claim``).
    * A channel's move is taken only when the release it points at is.
    * Rows follow records, in one transaction that looks at the chains again.

It reads and writes records and rows, no contents; see ``stemma.store.transfer``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from stemma.catalog import queries
from stemma.catalog import rows as build
from stemma.catalog.adopted import has_run
from stemma.catalog.replay import Records, load_records
from stemma.catalog.run_rows import insert_runs
from stemma.db.engine import Connection, Database
from stemma.domain import canonical
from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from stemma.domain.manifest import Manifest, decode_manifest
from stemma.domain.ref import (
    ChannelName,
    ExactVersion,
    Newest,
    Ref,
    VersionRange,
    did_you_mean,
    suggest,
)
from stemma.domain.release import ChannelMove, Release
from stemma.domain.semver import SemVer
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.checking import checked_record
from stemma.store.hashing import hash_bytes
from stemma.store.index import MemoryChunkIndex
from stemma.store.keys import record_key, records_prefix
from stemma.store.objects import ObjectStore

KINDS: Final = (build.MANIFEST, build.RELEASE, build.CHANNEL_MOVE)
_THREADS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """What one side knows of one model, oldest first.

    Attributes:
        releases: Releases with their records.
        moves: Moves of each channel with their records.
        manifests: Manifests of the releases.
    """

    releases: tuple[tuple[Digest, Release], ...]
    moves: Mapping[str, tuple[tuple[Digest, ChannelMove], ...]]
    manifests: Mapping[Digest, Manifest]

    @property
    def versions(self) -> dict[str, Release]:
        """Releases by number."""
        return {release.version: release for _, release in self.releases}


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What a remote knows.

    Attributes:
        models: Chains by model.
        damaged: Keys of records that could not be read.
        records: The records that could, as they were written.
    """

    models: Mapping[str, Chains]
    damaged: tuple[str, ...]
    records: BlobBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What one side knows of a model and the other does not.

    Attributes:
        releases: New releases, oldest first.
        moves: New moves, each channel's oldest first.
        conflicts: Channels that went different ways; nothing of them is in ``moves``.
    """

    releases: tuple[tuple[Digest, Release], ...]
    moves: tuple[tuple[Digest, ChannelMove], ...]
    conflicts: tuple[ConflictError, ...] = ()


EMPTY: Final = Chains(releases=(), moves={}, manifests={})


# reading ------------------------------------------------------------------------------------


def read_remote(remote: BlobBackend, near: BlobBackend) -> Catalogue:
    """Read every manifest, release and channel move of a remote.

    Costs a listing of each kind, and a request for each record that is not here already.

    Args:
        remote: Where.
        near: Our own blobs.
    """
    damaged: list[str] = []
    copies = MemoryBackend()

    def fetch(key: str) -> bytes | None:
        for backend in (near, remote):
            try:
                return checked_record(backend, key, "")
            except (IntegrityError, NotFoundError):
                continue
        return None

    keys = [stat.key for kind in KINDS for stat in remote.list(records_prefix(kind))]
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        for key, data in zip(keys, pool.map(fetch, keys), strict=True):
            if data is None:
                damaged.append(key)
            else:
                copies.put(key, data)
    records = load_records(ObjectStore(copies, MemoryChunkIndex()))
    models = {release.model for release in records.releases.values()}
    return Catalogue(
        models={model: _chains_of(model, records) for model in sorted(models)},
        damaged=tuple(damaged),
        records=copies,
    )


def _chains_of(model: str, records: Records) -> Chains:
    """Return a model's chains as far as they are whole."""
    releases = _whole(pair for pair in records.releases.items() if pair[1].model == model)
    sound = _until(releases, lambda it: it.manifest in records.manifests)
    is_shared = _target_among(sound)
    own_moves = [pair for pair in records.moves.items() if pair[1].model == model]
    moves = {
        channel: _until(
            _whole(pair for pair in own_moves if pair[1].channel == channel),
            is_shared,
        )
        for channel in sorted({move.channel for _, move in own_moves})
    }
    manifests = {release.manifest: records.manifests[release.manifest] for _, release in sound}
    return Chains(releases=sound, moves=moves, manifests=manifests)


class _Link(Protocol):
    @property
    def sequence(self) -> int: ...

    @property
    def previous(self) -> Digest | None: ...


_LinkT = TypeVar("_LinkT", bound=_Link)


def _whole(pairs: Iterable[tuple[Digest, _LinkT]]) -> tuple[tuple[Digest, _LinkT], ...]:
    """Return a chain from its start up to the first record that does not follow."""
    kept: list[tuple[Digest, _LinkT]] = []
    for record, item in sorted(pairs, key=lambda pair: pair[1].sequence):
        if item.sequence != len(kept) + 1 or item.previous != (kept[-1][0] if kept else None):
            break
        kept.append((record, item))
    return tuple(kept)


def _until(
    pairs: Iterable[tuple[Digest, _LinkT]], is_sound: Callable[[_LinkT], bool]
) -> tuple[tuple[Digest, _LinkT], ...]:
    kept: list[tuple[Digest, _LinkT]] = []
    for record, item in pairs:
        if not is_sound(item):
            break
        kept.append((record, item))
    return tuple(kept)


def read_local(database: Database, objects: ObjectStore, model: str) -> Chains:
    """Read what our own rows say of a model, each record verified."""
    with database.read() as connection:
        rows = queries.release_rows(connection, model)
        moves = [pair for pair in queries.all_moves(connection) if pair[1].model == model]
    records = [_local_release(objects, row.record) for row in reversed(rows)]
    channels = {move.channel for _, move in moves}
    return Chains(
        releases=tuple(zip([row.record for row in reversed(rows)], records, strict=True)),
        moves={
            channel: _whole(pair for pair in moves if pair[1].channel == channel)
            for channel in sorted(channels)
        },
        manifests={
            release.manifest: decode_manifest(objects.read_record(build.MANIFEST, release.manifest))
            for release in records
        },
    )


def _local_release(objects: ObjectStore, record: Digest) -> Release:
    return canonical.decode(objects.read_record(build.RELEASE, record), Release, what="release")


# comparing ----------------------------------------------------------------------------------


def compare(known: Chains, offered: Chains, names: tuple[str, str]) -> Additions:
    """Say what ``offered`` has beyond ``known``.

    Args:
        known: The side that is to grow.
        offered: The side to take from.
        names: What messages call them.

    Raises:
        ConflictError: If their releases went different ways (``releases-differ``).
    """
    for mine, theirs in zip(known.releases, offered.releases, strict=False):
        if mine[0] != theirs[0]:
            raise _releases_differ(mine[1], theirs[1], names)
    moves: list[tuple[Digest, ChannelMove]] = []
    conflicts: list[ConflictError] = []
    for channel, offered_moves in offered.moves.items():
        ours = known.moves.get(channel, ())
        differing = [
            (mine[1], theirs[1])
            for mine, theirs in zip(ours, offered_moves, strict=False)
            if mine[0] != theirs[0]
        ]
        if differing:
            conflicts.append(_moves_differ(*differing[0], names))
        else:
            moves += offered_moves[len(ours) :]
    return Additions(
        releases=offered.releases[len(known.releases) :],
        moves=tuple(moves),
        conflicts=tuple(conflicts),
    )


def up_to(chains: Chains, version: str) -> Chains:
    """Return what was known when a release was the newest: the chains up to it."""
    sequence = chains.versions[version].sequence
    releases = chains.releases[:sequence]
    is_shared = _target_among(releases)
    return Chains(
        releases=releases,
        moves={channel: _until(moves, is_shared) for channel, moves in chains.moves.items()},
        manifests=chains.manifests,
    )


def _target_among(releases: Iterable[tuple[Digest, Release]]) -> Callable[[ChannelMove], bool]:
    """Return whether a move points nowhere, or at one of these, if only since it was released."""
    versions: set[str] = set()
    manifests: set[Digest | None] = set()
    for _, release in releases:
        versions.add(release.version)
        manifests.add(release.manifest)
    return lambda it: not it.version or it.version in versions or it.manifest in manifests


def pick(chains: Chains, ref: Ref) -> Release:
    """Return the release that a ref names among these.

    Raises:
        NotFoundError: If none is named so.
        InvalidInputError: If it names a run or a manifest, which have no name to share.
    """
    versions = chains.versions
    found: str | None = None
    match ref.selector:
        case ExactVersion(version):
            found = str(version)
        case VersionRange(wanted):
            numbers = [SemVer.parse(text) for text in versions]
            matching = [number for number in numbers if wanted.matches(number)]
            found = str(max(matching)) if matching else None
        case ChannelName(channel):
            moves = chains.moves.get(channel, ())
            found = moves[-1][1].version if moves else None
        case Newest():
            found = chains.releases[-1][1].version if chains.releases else None
        case _:
            raise InvalidInputError(
                f"{ref} is no release; only releases are shared",
                code="not-shareable",
                hint=f"stemma release {ref.model}",
            )
    if found is None or found not in versions:
        near = suggest(str(ref.selector), [*versions, *chains.moves])
        raise NotFoundError(
            f"no version {ref}{did_you_mean(near)}",
            code="version-not-found",
            hint=f"stemma log {ref.model}",
        )
    return versions[found]


def _releases_differ(mine: Release, theirs: Release, names: tuple[str, str]) -> ConflictError:
    return ConflictError(
        f"{mine.model}: release {mine.sequence} is {mine.version} ({mine.manifest.short})"
        f" in {names[0]} and {theirs.version} ({theirs.manifest.short}) in {names[1]};"
        " nothing was changed",
        code="releases-differ",
        hint="stemma init in a new folder, stemma pull there, and release again on top",
    )


def _moves_differ(mine: ChannelMove, theirs: ChannelMove, names: tuple[str, str]) -> ConflictError:
    return ConflictError(
        f"{mine.model}@{mine.channel}: move {mine.sequence} goes to"
        f" {mine.version or 'nothing'} in {names[0]} and to {theirs.version or 'nothing'}"
        f" in {names[1]}; the channel was left as it is",
        code="channels-differ",
        hint=f"stemma log {mine.model} --channel {mine.channel}",
    )


# writing ------------------------------------------------------------------------------------


def add_to_rows(
    database: Database,
    objects: ObjectStore,
    offered: Chains,
    additions: Additions,
    *,
    records: BlobBackend,
) -> None:
    """Store the records of additions, then their rows.

    Raises:
        ConflictError: If another command released or moved in between (``release-raced``).
    """
    for _, release in additions.releases:
        _copy_record(objects, records, build.MANIFEST, release.manifest)
    for record, _ in additions.releases:
        _copy_record(objects, records, build.RELEASE, record)
    for record, _ in additions.moves:
        _copy_record(objects, records, build.CHANNEL_MOVE, record)
    with database.write() as connection:
        for record, release in additions.releases:
            _add_release(connection, record, release, offered.manifests[release.manifest])
        for record, move in additions.moves:
            history = queries.channel_rows(connection, move.model, move.channel, limit=1)
            if (history[0][0] if history else None) != move.previous:
                raise _raced(f"{move.model}@{move.channel}")
            queries.insert_move(connection, record, move)


def _copy_record(objects: ObjectStore, records: BlobBackend, kind: str, digest: Digest) -> None:
    objects.put_record(kind, records.get(record_key(kind, digest)))


def _add_release(
    connection: Connection, record: Digest, release: Release, manifest: Manifest
) -> None:
    last = queries.last_release(connection, release.model, include_prereleases=True)
    if (None if last is None else last.record) != release.previous:
        raise _raced(release.model)
    queries.insert_manifest(connection, release.manifest, manifest)
    run = build.run_values(release.manifest, manifest)
    if not has_run(connection, str(run["id"])):
        insert_runs(connection, [run])
    queries.insert_release(connection, record, release)


def _raced(what: str) -> ConflictError:
    return ConflictError(
        f"another command changed {what} meanwhile",
        code="release-raced",
        hint="stemma pull",
    )


# claiming -----------------------------------------------------------------------------------


def claim(remote: BlobBackend, record: Digest, data: bytes) -> tuple[Digest, bytes]:
    """Take a record's place in its chain on a remote, or find who took it.

    Creating a blob is the one thing that a remote decides between two writers.

    Args:
        remote: Where.
        record: The record's digest.
        data: The record of a release or channel move.

    Returns:
        The record that has the place now, and its bytes: ours, or the other's.
    """
    key = _place(data)
    mine = record.hex.encode() + b"\n" + data
    if remote.put(key, mine):
        return record, data
    name, _, found = remote.get(key).partition(b"\n")
    other = hash_bytes(found, Algorithm.SHA256)
    if other.hex.encode() == name:
        return other, found
    # Damaged: who had it is not to be told any more, and its record would show in the chain.
    remote.delete(key)
    remote.put(key, mine)
    return record, data


def _place(data: bytes) -> str:
    """Return the key that stands for a record's place in its chain."""
    fields = json.loads(data)
    place = [fields["schema"], fields["model"], fields.get("channel", ""), fields["sequence"]]
    name = hash_bytes(json.dumps(place).encode(), Algorithm.SHA256).hex
    return f"claims/{name[:2]}/{name[2:]}"
