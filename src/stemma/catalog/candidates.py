"""What garbage collection must keep, which candidates have expired, and which came back.

Invariants:
    * Kept for ever: every release with its ancestors, every channel target, every record of
      a release, channel move, configuration or deployment, every tracked tree.
    * An unreleased candidate is kept until it expires, and as long as somebody reads it; the
      candidate of a running run is kept, for it is young.
    * A candidate that is kept as an ancestor never expires.
    * Rows of expired candidates go before their records do, so that no row ever names a
      record that is gone.

It decides and drops rows; ``stemma.store.gc`` removes objects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from stemma.catalog import queries
from stemma.catalog import rows as build
from stemma.catalog.adopted import has_run
from stemma.catalog.delivery_queries import delivery_records
from stemma.catalog.run_rows import insert_runs
from stemma.db.engine import Connection
from stemma.db.rows import Value
from stemma.domain.digest import Digest
from stemma.domain.manifest import Manifest

READY_COUNT: Final = 3
"""How many of the newest versions of a model stay ready for a rollback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcRoot:
    """Something garbage collection must keep, and why.

    Attributes:
        digest: Record (sha256) or tree (blake3) that must stay.
        reason: In words, e.g. ``release digits@1.0.0``.
    """

    digest: Digest
    reason: str


def gc_roots(
    connection: Connection,
    now: datetime,
    expiry: Callable[[str], timedelta],
    leased: Collection[Digest] = (),
) -> list[GcRoot]:
    """Return what must stay, each with its first reason."""
    reasons = _lasting(connection)
    for digest in leased:
        reasons.setdefault(digest, "being read")
    rows = queries.manifests_of(connection, "")
    for row in rows:
        if _is_young(row, now, expiry):
            reasons.setdefault(_digest(row), f"candidate {row['model']!s}@{row['run']!s}")
    _add_ancestors(reasons, rows)
    for path, content in queries.tracked_trees(connection).items():
        reasons.setdefault(content, f"tracked {path}")
    return [GcRoot(digest=digest, reason=reason) for digest, reason in reasons.items()]


def expired(
    connection: Connection,
    now: datetime,
    expiry: Callable[[str], timedelta],
    leased: Collection[Digest] = (),
) -> list[Digest]:
    """Return the manifests of candidates whose time is over and that nothing keeps."""
    kept = {root.digest for root in gc_roots(connection, now, expiry, leased)}
    return [
        digest
        for digest in (_digest(row) for row in queries.manifests_of(connection, ""))
        if digest not in kept
    ]


def remember(connection: Connection, digest: Digest, manifest: Manifest) -> bool:
    """Make the rows of a candidate again whose record came back; returns whether they were gone."""
    if queries.find_manifest(connection, digest) is not None:
        return False
    queries.insert_manifest(connection, digest, manifest)
    row = build.run_values(digest, manifest)
    if not has_run(connection, str(row["id"])):
        insert_runs(connection, [row])
    return True


def _lasting(connection: Connection) -> dict[Digest, str]:
    """Return channel targets, rollback-ready versions, releases and their records."""
    reasons: dict[Digest, str] = {}
    for move in queries.current_moves(connection):
        if move.manifest is not None:
            reasons.setdefault(move.manifest, f"channel {move.model}@{move.channel}")
    releases = queries.all_release_rows(connection)
    ready: dict[str, int] = {}
    for row in sorted(releases, key=lambda row: row.sequence, reverse=True):
        model = str(row.values["model"])
        if not row.is_prerelease and ready.get(model, 0) < READY_COUNT:
            ready[model] = ready.get(model, 0) + 1
            reasons.setdefault(row.manifest, f"rollback-ready {model}@{row.version}")
    for row in releases:
        name = f"release {row.values['model']!s}@{row.version}"
        reasons.setdefault(row.manifest, name)
        reasons.setdefault(row.record, f"record of {name}")
    for record, move in queries.all_moves(connection):
        reasons.setdefault(record, f"history of channel {move.model}@{move.channel}")
        if move.manifest is not None:
            reasons.setdefault(move.manifest, f"history of channel {move.model}@{move.channel}")
    for record, model in delivery_records(connection):
        reasons.setdefault(record, f"record of what served {model}")
    return reasons


def _add_ancestors(reasons: dict[Digest, str], rows: list[dict[str, Value]]) -> None:
    parents = {
        _digest(row): [Digest.parse(parent) for parent in str(row["parents"]).split()]
        for row in rows
    }
    waiting = [digest for digest in reasons if digest in parents]
    while waiting:
        child = waiting.pop()
        for parent in parents.get(child, []):
            # A parent that is not here was made in another project; nothing to keep.
            if parent in parents and parent not in reasons:
                reasons[parent] = f"ancestor of {child.short}"
                waiting.append(parent)


def _is_young(row: dict[str, Value], now: datetime, expiry: Callable[[str], timedelta]) -> bool:
    return datetime.fromisoformat(str(row["created_at"])) + expiry(str(row["model"])) > now


def _digest(row: dict[str, Value]) -> Digest:
    return Digest.parse(str(row["digest"]))
