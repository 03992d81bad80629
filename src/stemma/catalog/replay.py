"""Reads every record in the store, and decides which of them make up the catalog.

A record is written before its row, so a process that was killed in between leaves a
record that nobody was told about.  The next release takes the same place, and then two
records claim one number.

Invariants:
    * Each release names the record before it, so from the newest one back the chain says
      which of two claimants was acknowledged: the one that others build on.
    * At the tip, where nothing builds on either yet, the later ``released_at`` wins: the
      later one could only be written because the earlier one had no row, which means that
      it was never acknowledged.  The same holds for the moves of a channel, and for a
      model's configurations and deployments.
    * A lone unacknowledged record at the tip is complete and is taken; whoever asked for it
      did not learn whether it had happened.
    * A damaged record is left out and named, so that one lost file never keeps the rest
      from being rebuilt.

It writes nothing; ``stemma.catalog.rebuild`` and ``stemma.catalog.doctor`` use it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from stemma.catalog import rows as build
from stemma.catalog.delivery_rows import CONFIGURATION, DEPLOYMENT
from stemma.domain import canonical
from stemma.domain.delivery_records import ConfigurationRecord, DeploymentRecord
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from stemma.domain.manifest import Manifest, decode_manifest
from stemma.domain.release import ChannelMove, Release
from stemma.store.objects import ObjectStore


class Link(Protocol):
    """What the records of a chain have in common."""

    @property
    def sequence(self) -> int:
        """Its place in the chain, from 1."""
        ...

    @property
    def previous(self) -> Digest | None:
        """The record before it."""
        ...


LinkT = TypeVar("LinkT", bound=Link)
RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Every record that makes up the catalog.

    Attributes:
        manifests: By digest.
        releases: By record, superseded ones left out.
        moves: By record, superseded ones left out.
        configurations: By record, superseded ones left out.
        deployments: By record, superseded ones left out.
        superseded: Records that lost their place to another one.
        damaged: Records that cannot be read.
    """

    manifests: dict[Digest, Manifest]
    releases: dict[Digest, Release]
    moves: dict[Digest, ChannelMove]
    configurations: dict[Digest, ConfigurationRecord]
    deployments: dict[Digest, DeploymentRecord]
    superseded: frozenset[Digest]
    damaged: frozenset[Digest]


def load_records(objects: ObjectStore) -> Records:
    """Read every record, each verified by its sha256."""
    damaged: set[Digest] = set()
    manifests = dict(_read(objects, build.MANIFEST, decode_manifest, damaged))
    superseded: set[Digest] = set()

    def chains(
        kind: str,
        of: type[LinkT],
        chain_of: Callable[[LinkT], tuple[str, ...]],
        moment_of: Callable[[LinkT], datetime],
    ) -> dict[Digest, LinkT]:
        found = dict(_read(objects, kind, lambda data: canonical.decode(data, of), damaged))
        kept = _chains(found, chain_of, moment_of)
        superseded.update(found.keys() - kept.keys())
        return kept

    return Records(
        manifests=manifests,
        releases=chains(build.RELEASE, Release, lambda it: (it.model,), lambda it: it.released_at),
        moves=chains(
            build.CHANNEL_MOVE,
            ChannelMove,
            lambda it: (it.model, it.channel),
            lambda it: it.moved_at,
        ),
        configurations=chains(
            CONFIGURATION, ConfigurationRecord, lambda it: (it.model,), lambda it: it.created_at
        ),
        deployments=chains(
            DEPLOYMENT, DeploymentRecord, lambda it: (it.model,), lambda it: it.deployed_at
        ),
        superseded=frozenset(superseded),
        damaged=frozenset(damaged),
    )


def _read(
    objects: ObjectStore, kind: str, decode: Callable[[bytes], RecordT], damaged: set[Digest]
) -> Iterator[tuple[Digest, RecordT]]:
    for digest in objects.list_records(kind):
        try:
            yield digest, decode(objects.read_record(kind, digest))
        except (IntegrityError, InvalidInputError, NotFoundError):
            damaged.add(digest)


def _chains(
    items: dict[Digest, LinkT],
    chain_of: Callable[[LinkT], tuple[str, ...]],
    moment_of: Callable[[LinkT], datetime],
) -> dict[Digest, LinkT]:
    """Keep one record per place of each chain."""
    chains: defaultdict[tuple[str, ...], list[tuple[Digest, LinkT]]] = defaultdict(list)
    for digest, item in items.items():
        chains[chain_of(item)].append((digest, item))
    kept: dict[Digest, LinkT] = {}
    for members in chains.values():
        kept.update(_chain(members, moment_of))
    return kept


def _chain(
    members: Iterable[tuple[Digest, LinkT]], moment_of: Callable[[LinkT], datetime]
) -> Iterator[tuple[Digest, LinkT]]:
    """Yield the records of one chain, newest first."""
    places: defaultdict[int, list[tuple[Digest, LinkT]]] = defaultdict(list)
    for digest, item in members:
        places[item.sequence].append((digest, item))
    named: Digest | None = None
    for sequence in sorted(places, reverse=True):
        claimants = places[sequence]
        built_on = [claimant for claimant in claimants if claimant[0] == named]
        digest, item = (
            built_on or [max(claimants, key=lambda pair: (moment_of(pair[1]), pair[0]))]
        )[0]
        named = item.previous
        yield digest, item
