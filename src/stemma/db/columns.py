"""What every table is made of: the metadata they share, and columns by kind.

This module holds no table.
"""

from __future__ import annotations

from typing import Final, final

from sqlalchemy import BigInteger, Column, Double, LargeBinary, MetaData, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType
from typing_extensions import override

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


@final
class _SqliteBlob(UserDefinedType[bytes]):
    """Bytes as SQLite returns them.

    SQLAlchemy's own type calls ``bytes(value)``, and a damaged row that holds the
    integer 2**40 there would ask for that much memory before its digest is looked at.
    """

    cache_ok = True

    @override
    def get_col_spec(self, **_: object) -> str:
        """Return the column's type in DDL."""
        return "BLOB"

    @property
    @override
    def python_type(self) -> type[bytes]:
        """Return what a value is in Python."""
        return bytes


def make_blob_type() -> LargeBinary:
    """Return the type of a column of bytes."""
    return LargeBinary().with_variant(_SqliteBlob(), "sqlite")


def text_column(name: str, *, is_nullable: bool = False) -> Column[str]:
    """Return a column of text."""
    return Column(name, Text, nullable=is_nullable)


def path_column(name: str) -> Column[str]:
    """Return a column of text that both engines sort by its bytes, so that folders are ranges."""
    return Column(
        name, Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"), nullable=False
    )


def integer_column(name: str, *, is_nullable: bool = False) -> Column[int]:
    """Return a column of 64-bit integers."""
    return Column(name, BigInteger, nullable=is_nullable)


def number_column(name: str) -> Column[float]:
    """Return a column of 64-bit floats; NaN is stored as NULL, which both engines can."""
    return Column(name, Double, nullable=True)
