"""Makes a fresh database, and brings an old one up to date.

Invariants:
    * A fresh database is made from ``tables.metadata`` and stamped, in one transaction,
      without importing Alembic (it costs more than most commands).
    * ``REVISIONS`` lists every revision, oldest first; its last is what ``metadata``
      describes, and a test holds migrations and metadata equal on both engines.
    * A database of a later program is refused, never touched.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Table, func, insert, inspect, select

from stemma.db import tracking_tables
from stemma.db.bulk import insert_many
from stemma.db.columns import metadata
from stemma.db.rows import check, seal, seal_values
from stemma.db.tables import alembic_version, meta, stamp_metadata
from stemma.domain.errors import ConflictError, IntegrityError

REVISIONS: Final = ("0001", "0002", "0003")
"""Every revision this program knows, oldest first."""

HEAD: Final = REVISIONS[-1]
_GENERATION: Final = "generation"

_READ_GENERATION: Final = select(meta).where(meta.c.key == _GENERATION)
"""Made once: every write transaction carries it out."""

TRACKING_TABLES: Final = tuple(
    table for table in vars(tracking_tables).values() if isinstance(table, Table)
)
"""Tables that no record in the store makes again: the database alone holds them."""

SEALED_TABLES: Final = tuple(
    table for table in metadata.sorted_tables if "row_digest" in table.columns
)
"""Tables whose rows are sealed."""


def has_tables(connection: Connection) -> bool:
    """Whether the database holds our tables."""
    return inspect(connection).has_table(alembic_version.name)


def create(connection: Connection) -> None:
    """Make every table and stamp the revision; the caller's transaction makes it all or none."""
    metadata.create_all(connection)
    stamp_metadata.create_all(connection)
    connection.execute(insert(alembic_version).values(version_num=HEAD))
    connection.execute(insert(meta).values(seal(meta, {"key": _GENERATION, "value": "0"})))


def read_revision(connection: Connection) -> str:
    """Return the revision the database is at.

    Raises:
        IntegrityError: If there is none.
        ConflictError: If a later program made it.
    """
    revision = connection.execute(select(alembic_version.c.version_num)).scalar_one_or_none()
    if revision is None:
        raise IntegrityError(
            "the database does not say which revision it is of",
            code="corrupt-database",
            hint="stemma doctor --rebuild",
        )
    if revision not in REVISIONS:
        raise ConflictError(
            f"the database is of revision {revision!r}; this program knows up to {HEAD!r}",
            code="database-too-new",
            hint="upgrade stemma: pip install --upgrade stemma-ml",
        )
    return str(revision)


def read_generation(connection: Connection) -> int:
    """Return how many write transactions the database has seen.

    Raises:
        IntegrityError: If the row is missing or not what was written.
    """
    row = connection.execute(_READ_GENERATION).one_or_none()
    if row is None:
        raise IntegrityError(
            "table meta has no row generation",
            code="corrupt-database",
            hint="stemma doctor --rebuild",
        )
    return int(check(meta, row).value)


def advance_generation(connection: Connection) -> int:
    """Count one write transaction, and return its number."""
    following = read_generation(connection) + 1
    _write_generation(connection, following)
    return following


def raise_generation(connection: Connection, floor: int) -> None:
    """Count on from ``floor``, when the database has not come that far."""
    if read_generation(connection) < floor:
        _write_generation(connection, floor)


def _write_generation(connection: Connection, generation: int) -> None:
    row = seal_values(meta, _GENERATION, str(generation))
    insert_many(connection, meta, [row], replaces=True)


def count_rows(connection: Connection) -> dict[str, int]:
    """Return how many rows each table holds."""
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }
