"""Candidates made of what a tracking client logged: what stays when one expires.

Invariants:
    * The run of such a candidate, with all it logged, is its user's record and stays; only what
      the catalog made of it goes.

It holds the SQL of this; whether a candidate expires is decided in ``stemma.catalog.candidates``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, select, update

from stemma.db.rows import check_all, seal
from stemma.db.tables import runs
from stemma.db.tracking_tables import model_versions


def let_go(connection: Connection, manifests: Sequence[str]) -> None:
    """Undo the adoption of these manifests: their runs belong to no model again."""
    versions = select(model_versions).where(model_versions.c.manifest.in_(manifests))
    found = check_all(model_versions, connection.execute(versions))
    of_clients = [row.run or f"r-{row.logged_model[2:]}" for row in found]
    for row in found:
        keys = {"name": row.name, "number": row.number}
        _rewrite(connection, model_versions, keys, {**row._mapping, "manifest": None})  # noqa: SLF001 - SQLAlchemy's public name for it
    adopted = select(runs).where(runs.c.manifest.in_(manifests), runs.c.id.in_(of_clients))
    for row in check_all(runs, connection.execute(adopted)):
        _rewrite(connection, runs, {"id": row.id}, {**row._mapping, "model": "", "manifest": None})  # noqa: SLF001 - as above


def has_run(connection: Connection, run: str) -> bool:
    """Return whether there is a run of that id, of whatever model."""
    return connection.execute(select(runs.c.id).where(runs.c.id == run)).first() is not None


def _rewrite(
    connection: Connection, table: Table, keys: dict[str, Any], values: dict[str, Any]
) -> None:
    query = update(table)
    for name, value in keys.items():
        query = query.where(table.c[name] == value)
    connection.execute(query.values(seal(table, values)))
