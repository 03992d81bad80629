"""The database: SQLite or PostgreSQL behind one small class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection


class Database:
    """Rows: short transactions, durable when they return."""

    @classmethod
    def open(cls, url: str, *, may_create: bool) -> Database:
        """Open ``sqlite:////absolute/stemma.db`` or ``postgresql://…``."""
        raise NotImplementedError

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read one consistent snapshot."""
        raise NotImplementedError
        yield

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Write; committed and durable when the block ends without an error."""
        raise NotImplementedError
        yield

    def close(self) -> None:
        """Seal the file when something was written, and let go of it."""
        raise NotImplementedError
