"""The rows that a record stands for: pure functions, used to write, check and rebuild.

Invariants:
    * A row is a function of its record and the record's digest alone, so that rebuilding
      gives the very rows that were written, and doctor can compare each with its record.
    * Nothing is left out of a row that ``log``, ``status`` or a ref needs, so that these
      read no records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from stemma.db.rows import Value
from stemma.domain.canonical import timestamp
from stemma.domain.digest import Digest
from stemma.domain.manifest import Manifest
from stemma.domain.release import ChannelMove, Release
from stemma.domain.run import RunState
from stemma.domain.semver import SemVer

MANIFEST: Final = "manifest"
RELEASE: Final = "release"
CHANNEL_MOVE: Final = "channel-move"
"""Kinds of records in the store."""

FIRST_VERSION: Final = "first version"


def manifest_values(digest: Digest, manifest: Manifest) -> dict[str, Value]:
    """Return the row of a manifest."""
    identities = {name: str(identity) for name, identity in manifest.identities.items()}
    return {
        "digest": str(digest),
        "model": manifest.model,
        "run": manifest.provenance.run,
        "created_at": timestamp(manifest.provenance.ended_at),
        **identities,
        "size_bytes": manifest.artifact.size_bytes,
        "parents": " ".join(str(parent) for parent in manifest.provenance.parents),
    }


def metric_values(digest: Digest, manifest: Manifest) -> list[dict[str, Value]]:
    """Return the rows of a manifest's metrics, by key."""
    by_key: dict[str, dict[str, Value]] = {
        metric.key: {
            "manifest": str(digest),
            "key": metric.key,
            "name": metric.name,
            "slice": metric.slice,
            "value": metric.value,
            "sample_size": metric.sample_size,
            "unit": metric.unit,
        }
        for metric in manifest.evidence.metrics
    }
    return [by_key[key] for key in sorted(by_key)]


def release_values(record: Digest, release: Release) -> dict[str, Value]:
    """Return the row of a release."""
    return {
        "record": str(record),
        "model": release.model,
        "version": release.version,
        "is_prerelease": int(bool(SemVer.parse(release.version).prerelease)),
        "sequence": release.sequence,
        "previous": None if release.previous is None else str(release.previous),
        "manifest": str(release.manifest),
        "level": release.level.value,
        "why": FIRST_VERSION if release.verdict is None else release.verdict.sentence,
        "message": release.message,
        "released_at": timestamp(release.released_at),
        "released_by": release.released_by,
    }


def move_values(record: Digest, move: ChannelMove) -> dict[str, Value]:
    """Return the row of a channel move."""
    return {
        "record": str(record),
        "model": move.model,
        "channel": move.channel,
        "sequence": move.sequence,
        "version": move.version,
        "manifest": None if move.manifest is None else str(move.manifest),
        "previous": None if move.previous is None else str(move.previous),
        "reason": move.reason,
        "moved_at": timestamp(move.moved_at),
        "moved_by": move.moved_by,
    }


NEW_RUN_VALUES: Final[Mapping[str, Value]] = {"experiment": 0, "name": "", "deleted_at": None}
"""What a run has that was recorded before 0.2 gave it these columns."""


def run_values(digest: Digest, manifest: Manifest) -> dict[str, Value]:
    """Return the row of a finished run, as far as its manifest knows it."""
    provenance = manifest.provenance
    return {
        "id": provenance.run,
        "model": manifest.model,
        "state": RunState.FINISHED.value,
        "command": _command(manifest),
        "invocation": "",
        "reason": provenance.reason,
        "created_by": provenance.created_by,
        "host": provenance.host,
        "process": "",
        "started_at": timestamp(provenance.started_at),
        "ended_at": timestamp(provenance.ended_at),
        "manifest": str(digest),
        "failure": "",
        "traceback": "",
        **NEW_RUN_VALUES,
    }


def _command(manifest: Manifest) -> str:
    return json.dumps(list(manifest.pipeline.command))
