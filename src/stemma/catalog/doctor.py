"""Every row against its record, and the database file against its seal."""

from __future__ import annotations

from dataclasses import dataclass

from stemma.db.engine import Database
from stemma.store.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """One thing that is wrong with the rows.

    Attributes:
        kind: Stable machine name, e.g. ``row-differs-from-record``.
        where: Table and row, or file.
        detail: What is wrong.
        is_harmless: Nothing is lost or wrong, only worth knowing.
    """

    kind: str
    where: str
    detail: str
    is_harmless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReport:
    """What was checked and found.

    Attributes:
        problems: What is wrong, in order of checking.
        rows_checked: How many rows were checked.
    """

    problems: tuple[RowProblem, ...]
    rows_checked: int


def examine(database: Database, objects: ObjectStore) -> RowReport:
    """Check everything the database says against the records."""
    raise NotImplementedError
