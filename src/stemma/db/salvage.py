"""Reads what can be read of a damaged database.

Invariants:
    * Only rows that match their digest come back as sound.
    * A page that cannot be read ends the table's reading; what came before it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row, Table, inspect, select, text

from stemma.db.engine import Database
from stemma.db.rows import Value, is_sound
from stemma.domain.errors import IntegrityError


def read_rows(database: Database, table: Table) -> Iterator[Row[Any]]:
    """Yield every row of a table, sound or not; none when an older program made no such table.

    Raises:
        IntegrityError: When a page cannot be read.
    """
    with database.read() as connection:
        if not inspect(connection).has_table(table.name):
            return
        there = {column["name"] for column in inspect(connection).get_columns(table.name)}
        columns = [column for column in table.columns if column.name in there]
        yield from connection.execute(select(*columns).execution_options(yield_per=1000))


def sound_rows(database: Database, table: Table) -> list[dict[str, Value]]:
    """Return the sound rows of a table by column, without their digests.

    Columns that an older program did not have are left out.
    """
    found: list[dict[str, Value]] = []
    try:
        # ``extend`` keeps what came before the page that cannot be read.
        found.extend(
            {str(name): value for name, value in list(row._mapping.items())[:-1]}  # noqa: SLF001 - its name
            for row in read_rows(database, table)
            if is_sound(table, row)
        )
    except IntegrityError:
        return found
    return found


def engine_complaints(database: Database) -> list[str]:
    """Return what SQLite itself finds wrong with its file; nothing on PostgreSQL."""
    if not database.is_sqlite:
        return []
    try:
        with database.read() as connection:
            found = connection.execute(text("PRAGMA integrity_check(20)")).scalars().all()
    except IntegrityError as error:
        return [error.message]
    return [str(line) for line in found if line != "ok"]
