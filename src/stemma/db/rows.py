"""Seals rows with a digest of their values, and refuses rows that do not match theirs.

A flipped bit in a database file often survives every check the engine makes and
comes back as a plausible value.  A row that states a fact therefore carries the first
16 bytes of the blake3 of ``[table, value, …]`` in MessagePack, columns in table order.

Invariants:
    * ``check`` returns only rows whose digest matches; anything else is an
      ``IntegrityError`` that names table and row.
    * The digest finds damage and hand edits; it does not stop an attacker, who can
      compute it too.  The record in the store, named by its sha256, is the authority.
    * Sealing and checking cost a few microseconds a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar
from zlib import crc32

import msgspec
from blake3 import blake3
from sqlalchemy import Row, Table

from stemma.domain.errors import IntegrityError

Value: TypeAlias = str | int | bytes | None
RowT = TypeVar("RowT", bound=Row[Any])

REBUILD_HINT: Final = "stemma doctor --rebuild"
_DIGEST_SIZE_BYTES: Final = 16
_encode: Final = msgspec.msgpack.Encoder().encode


@lru_cache(maxsize=64)
def _plain_name(table: Table) -> str:
    """Return the table's name as a plain string; SQLAlchemy's own kind cannot be encoded."""
    return str(table.name)


@lru_cache(maxsize=64)
def sealed_columns(table: Table) -> tuple[str, ...]:
    """Return the names of the columns that the digest covers, in table order."""
    return tuple(column.name for column in table.columns if column.name != "row_digest")


def row_digest(table_name: str, values: Sequence[Value]) -> str:
    """Return the digest of a row's values."""
    return blake3(_encode((table_name, *values))).hexdigest(length=_DIGEST_SIZE_BYTES)


def seal(table: Table, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return ``values`` with their ``row_digest``; every column must be given."""
    ordered = [values[name] for name in sealed_columns(table)]
    return {**values, "row_digest": row_digest(_plain_name(table), ordered)}


def seal_values(table: Table, *values: Value) -> tuple[Value, ...]:
    """Return a whole row: the values in table order, and their digest."""
    return (*values, row_digest(_plain_name(table), values))


def is_sound(table: Table, values: Sequence[Any]) -> bool:
    """Whether the values of a whole row match the digest or the check that stands last in it."""
    try:
        if is_counted(table):
            return bool(number_check(*values[:-1]) == values[-1])
        return bool(row_digest(_plain_name(table), values[:-1]) == values[-1])
    except (OverflowError, ValueError, TypeError):
        return False


@lru_cache(maxsize=64)
def is_counted(table: Table) -> bool:
    """Whether rows of the table carry a ``row_check`` in place of a digest."""
    return "row_check" in table.columns


def number_check(*values: float | str | None) -> int:
    """Return the check of a small row of numbers: the CRC-32 of them in MessagePack."""
    return crc32(_encode(values))


def check(table: Table, row: RowT) -> RowT:
    """Return a row of ``select(table)`` when it matches its digest.

    Raises:
        IntegrityError: If it does not.
    """
    if not is_sound(table, row):
        raise damaged(table, row)
    return row


def check_part(table: Table, row: Sequence[Any], start: int) -> None:
    """Check the columns of ``table`` that stand in a joined row from ``start`` on.

    Raises:
        IntegrityError: If they do not match their digest.
    """
    part = row[start : start + len(table.columns)]
    if not is_sound(table, part):
        raise damaged(table, part)


def check_all(table: Table, rows: Iterable[RowT]) -> list[RowT]:
    """Return rows of ``select(table)`` when each matches its digest.

    Raises:
        IntegrityError: If one does not.
    """
    found = list(rows)
    check_rows(table, found)
    return found


def check_rows(table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Check whole rows of the table.

    Raises:
        IntegrityError: If one does not match its digest.
    """
    if not _are_sound(table, rows):
        for row in rows:
            if not is_sound(table, row):
                raise damaged(table, row)


def _are_sound(table: Table, rows: Sequence[Any]) -> bool:
    """Whether all rows are sound, as ``is_sound``, without a call for each."""
    name = _plain_name(table)
    size = _DIGEST_SIZE_BYTES
    try:
        if is_counted(table):
            return all(crc32(_encode(row[:-1])) == row[-1] for row in rows)
        return all(
            blake3(_encode((name, *row[:-1]))).hexdigest(length=size) == row[-1] for row in rows
        )
    except (OverflowError, ValueError, TypeError):
        return False


def damaged(table: Table, values: Sequence[Any]) -> IntegrityError:
    """Return the error for a row that does not match its digest."""
    return IntegrityError(
        f"table {table.name}, row {name_row(table, values)}: the row is not what was written",
        code="row-damaged",
        hint=REBUILD_HINT,
    )


def name_row(table: Table, values: Sequence[Any]) -> str:
    """Name a row by its primary key, for messages."""
    keys = [str(values[list(table.columns).index(column)]) for column in table.primary_key]
    return " ".join(keys)[:200]
