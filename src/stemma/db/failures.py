"""Translates what SQLite and PostgreSQL raise into the one tree of errors.

Invariants:
    * Every translated error says which database it met and what helps.
    * Damage is an ``IntegrityError``, a full disk or a lost server an ``UnavailableError``,
      a lock that another command holds a ``LockedError``, a race that was lost a
      ``ConflictError``, a folder that may not be written a ``DeniedError``, a value that no
      column can hold an ``InvalidInputError``.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError

from stemma.db.rows import REBUILD_HINT
from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    IntegrityError,
    InvalidInputError,
    LockedError,
    StemmaError,
    UnavailableError,
)

_PRIMARY_CODE: Final = 0xFF

_SQLITE_KINDS: Final = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_PERM: "read-only",
    sqlite3.SQLITE_CANTOPEN: "read-only",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_FORMAT: "corrupt",
    sqlite3.SQLITE_CONSTRAINT: "constraint",
    sqlite3.SQLITE_IOERR: "unavailable",
    sqlite3.SQLITE_NOMEM: "corrupt",
    sqlite3.SQLITE_TOOBIG: "corrupt",
    # Our statements are fixed and tested, so one that SQLite does not understand
    # ("no such column") means that the schema it reads is not the one that was written.
    sqlite3.SQLITE_ERROR: "corrupt",
    sqlite3.SQLITE_MISMATCH: "corrupt",
}
_SQLITE_EXTENDED_KINDS: Final = {
    # There is no room for the index of the write-ahead log, which even reading needs.
    sqlite3.SQLITE_IOERR_SHMSIZE: "full",
    sqlite3.SQLITE_IOERR_SHMMAP: "full",
}
_POSTGRES_KINDS: Final = {
    "55P03": "locked",
    "40001": "raced",
    "40P01": "raced",
    "53100": "full",
    "25006": "read-only",
    "42501": "read-only",
    "XX001": "corrupt",
    "XX002": "corrupt",
    "42P01": "corrupt",
    "42703": "corrupt",
}
_POSTGRES_CLASSES: Final = {"23": "constraint", "08": "unavailable", "57": "unavailable"}
_ERRORS: Final[dict[str, tuple[type[StemmaError], str, str, str]]] = {
    "locked": (
        LockedError,
        "database-locked",
        "held by another command",
        "wait for the other stemma command to end, then run this again",
    ),
    "raced": (
        ConflictError,
        "database-raced",
        "another command changed it at the same moment",
        "run this again",
    ),
    "full": (
        UnavailableError,
        "disk-full",
        "no space left",
        "df -h; free some space, then run this again",
    ),
    "read-only": (
        DeniedError,
        "read-only",
        "cannot be written",
        "give yourself write permission on the folder",
    ),
    "constraint": (
        ConflictError,
        "duplicate-row",
        "a row is there that forbids this",
        "run this again",
    ),
    "unavailable": (
        UnavailableError,
        "database-unavailable",
        "does not answer",
        "run this again",
    ),
    "value": (
        InvalidInputError,
        "bad-value",
        "a value that cannot be kept",
        "use text without NUL characters, and integers of 64 bits",
    ),
}


FOREIGN_ERRORS: Final = (SQLAlchemyError, sqlite3.Error, UnicodeError, OverflowError)
"""What a database may raise; SQLite's own messages are no UTF-8 when its schema is damaged.

The drivers say ``OverflowError`` and ``UnicodeEncodeError`` of values no column can hold.
"""


def translate(
    error: SQLAlchemyError | sqlite3.Error | ValueError | OverflowError, where: str
) -> StemmaError:
    """Return our error for what the database at ``where`` raised."""
    original = error.orig if isinstance(error, DBAPIError) else error
    kind = "value" if _is_of_a_value(error, original) else _kind(original)
    return _as_error(kind, where, str(original).strip().splitlines()[:1])


def _is_of_a_value(error: Exception, original: BaseException | None) -> bool:
    if isinstance(original, sqlite3.Error):
        return False  # too large to be read is damage
    return isinstance(error, DataError) or isinstance(original, OverflowError | UnicodeEncodeError)


def _kind(original: BaseException | None) -> str:
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", None)
        if code is None:
            # The driver's own complaints: text that is not UTF-8, a string beyond all limits.
            return "corrupt"
        return _SQLITE_EXTENDED_KINDS.get(code) or _SQLITE_KINDS.get(
            code & _PRIMARY_CODE, "unavailable"
        )
    if isinstance(original, SQLAlchemyError | UnicodeDecodeError):
        # Two rows where the schema allows one, a type that no column has, text that is none.
        return "corrupt"
    state = getattr(original, "sqlstate", None) or ""
    return _POSTGRES_KINDS.get(state) or _POSTGRES_CLASSES.get(state[:2], "unavailable")


def _as_error(kind: str, where: str, detail: list[str]) -> StemmaError:
    said = f": {detail[0]}" if detail else ""
    if kind == "corrupt":
        return corrupt(where, detail[0] if detail else "unreadable")
    make, code, what, hint = _ERRORS[kind]
    if kind == "value":  # it is the caller's, whom the database's address does not concern
        return make(f"{what}{said}", code=code, hint=hint)
    return make(f"{where}: {what}{said}", code=code, hint=hint)


def corrupt(where: str, detail: str) -> IntegrityError:
    """Return the error for a damaged database."""
    return IntegrityError(
        f"{where} is damaged: {detail}", code="corrupt-database", hint=REBUILD_HINT
    )
