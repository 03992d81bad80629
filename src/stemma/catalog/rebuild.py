"""The database, made again from the records in the store."""

from __future__ import annotations

from pathlib import Path

from stemma.store.objects import ObjectStore


def rebuild(
    url: str, objects: ObjectStore, *, journal_folder: Path | None = None
) -> dict[str, int]:
    """Make every row again; returns how many rows of each table."""
    raise NotImplementedError
