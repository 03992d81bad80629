"""Writes and reads many rows at once, as fast as the engines take them.

SQLAlchemy makes a dictionary of every row and compiles long lists of values anew; here rows are
tuples, each statement is one text, and a list of keys is one value (JSON on SQLite, an array
on PostgreSQL).

Invariants:
    * A row is written whole, in table order, sealed by the caller.
    * A row whose key is there is left alone, or replaced when asked; never written twice.
    * Every row that is returned matched its digest or check.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import BigInteger, Connection, CursorResult, Double, Integer, Row, Table

from stemma.db.rows import check_all, check_rows

Values: TypeAlias = tuple[str | float | bytes | None, ...]
_encode: Final = msgspec.json.Encoder().encode


def insert_many(
    connection: Connection,
    table: Table,
    rows: Sequence[Values],
    *,
    replaces: bool = False,
    keeps: tuple[str, ...] = (),
) -> int:
    """Add rows; returns how many were added, or replaced.

    Args:
        connection: Of the caller's transaction.
        table: Where to.
        rows: Whole rows; with ``replaces`` no two of the same key.
        replaces: Write over a row of the same primary key, which else is left as it is.
        keeps: Columns that are never written over, which spares their indexes.
    """
    if not rows:
        return 0
    if connection.dialect.name == "sqlite":
        statement = _insert(table, is_sqlite=True, replaces=replaces, keeps=keeps)
        # Straight to the driver, whose errors the engine class translates as well: SQLAlchemy
        # takes longer to hand over a statement than SQLite to carry it out.
        driver: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]
        if len(rows) == 1:
            return driver.execute(statement, rows[0]).rowcount
        return driver.executemany(statement, rows).rowcount
    statement = _insert(table, is_sqlite=False, replaces=replaces, keeps=keeps)
    columns = tuple(list(column) for column in zip(*rows, strict=True))
    return connection.exec_driver_sql(statement, columns).rowcount


def select_many(
    connection: Connection, table: Table, column: str, keys: Sequence[str | int], **equal: str | int
) -> list[Row[Any]]:
    """Return the rows whose ``column`` is one of ``keys``, and that equal the rest.

    Raises:
        IntegrityError: If a row is not what was written.
    """
    return check_all(table, _selected(connection, table, column, keys, equal).all())


def read_many(
    connection: Connection, table: Table, column: str, keys: Sequence[str], **equal: str | int
) -> list[tuple[Any, ...]]:
    """Return as ``select_many``, but as plain tuples: for thousands of rows, at half the cost.

    Raises:
        IntegrityError: If a row is not what was written.
    """
    cursor = _selected(connection, table, column, keys, equal).cursor
    rows = list(cursor.fetchall())
    check_rows(table, rows)
    return rows


def _selected(
    connection: Connection,
    table: Table,
    column: str,
    keys: Sequence[str | int],
    equal: Mapping[str, str | int],
) -> CursorResult[Any]:
    is_sqlite = connection.dialect.name == "sqlite"
    statement = _select(table, column, tuple(equal), is_sqlite=is_sqlite)
    listed = _encode(keys).decode() if is_sqlite else list(keys)
    values: tuple[object, ...] = (*equal.values(), listed)
    return connection.exec_driver_sql(statement, values)


@lru_cache(maxsize=64)
def _insert(table: Table, *, is_sqlite: bool, replaces: bool, keeps: tuple[str, ...]) -> str:
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    rest = [name for name in names if name not in {*keys, *keeps}]
    action = "NOTHING"
    if replaces:
        action = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in rest)
    source = f"VALUES ({', '.join('?' * len(names))})"
    if not is_sqlite:
        arrays = ", ".join(f"%s::{_array_type(table, name)}" for name in names)
        source = f"SELECT * FROM unnest({arrays})"  # noqa: S608 - our own tables and columns
    return (
        f"INSERT INTO {table.name} ({_list(names)}) {source} "
        f"ON CONFLICT ({_list(keys)}) DO {action}"
    )


@lru_cache(maxsize=64)
def _select(table: Table, column: str, equal: tuple[str, ...], *, is_sqlite: bool) -> str:
    mark = "?" if is_sqlite else "%s"
    listed = "IN (SELECT value FROM json_each(?))" if is_sqlite else "= ANY(%s)"
    conditions = [*(f"{name} = {mark}" for name in equal), f"{column} {listed}"]
    names = _list([column.name for column in table.columns])
    return f"SELECT {names} FROM {table.name} WHERE {' AND '.join(conditions)}"  # noqa: S608 - so are these


def _array_type(table: Table, name: str) -> str:
    kind = table.columns[name].type
    if isinstance(kind, Double):
        return "double precision[]"
    return "bigint[]" if isinstance(kind, BigInteger | Integer) else "text[]"


def _list(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
