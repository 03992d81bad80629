"""``Database``: SQLite or PostgreSQL behind one small class.

Invariants:
    * ``write()`` returns only after the rows are durable: SQLite in WAL mode with
      ``synchronous=FULL``, PostgreSQL with ``synchronous_commit=on``.
    * One writer at a time on both engines (``BEGIN IMMEDIATE``, an advisory lock), so what
      a write transaction has read stays true until it commits.
    * ``read()`` sees one consistent snapshot.
    * Every write transaction raises ``meta.generation``; see ``stemma.db.seal`` and
      ``stemma.db.mark`` for why.
    * A SQLite file in a folder that may not be written can be read all the same.
    * Only errors of ``stemma.domain.errors`` leave this module.

It holds no queries, and it knows nothing of models or files in the store.

Example:
    >>> database = Database.open("sqlite:////tmp/stemma.db", may_create=True)  # doctest: +SKIP
    >>> with database.write() as connection:  # doctest: +SKIP
    ...     connection.execute(...)
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from stemma.db import schema
from stemma.db.failures import FOREIGN_ERRORS, corrupt, translate
from stemma.db.mark import hold_mark, is_mark_held, read_mark, write_mark
from stemma.db.seal import Claim, SealState, is_log_empty, sidecar_path, sync_folder, write_seal
from stemma.domain.errors import IntegrityError, InvalidInputError, NotFoundError

__all__ = ["BUSY_TIMEOUT_SECONDS", "Connection", "Database", "sqlite_path"]

BUSY_TIMEOUT_SECONDS: Final = 30
"""How long a command waits for another one's write transaction."""

_WRITES: Final = "stemma_writes"
_ADVISORY_LOCK: Final = 0x5374656D6D61  # "Stemma": one writer per PostgreSQL database
_EMPTY_SIZE_BYTES: Final = 4096


@final
class Database:
    """Rows: short transactions, durable when they return; safe to use from several threads.

    Attributes:
        url: Where it is, without a password.
        path: The SQLite file; ``None`` on PostgreSQL.
        seal_state: What the seal said when the file was opened; ``None`` on PostgreSQL.
    """

    def __init__(self, engine: Engine, path: Path | None) -> None:
        self._engine = engine
        self._has_written = False
        self._held_mark: int | None = None
        self.path = path
        self.url = engine.url.render_as_string(hide_password=True)
        self.seal_state: SealState | None = None

    @classmethod
    def open(cls, url: str, *, may_create: bool, is_salvage: bool = False) -> Database:
        """Open ``sqlite:////absolute/stemma.db`` or ``postgresql://user@host/name``.

        Args:
            url: Where the database is.
            may_create: Make it when there is none.
            is_salvage: Open it whatever is wrong with it, to look for what can be saved; it is
                neither checked, upgraded nor sealed.

        Raises:
            NotFoundError: If there is none and none may be made.
            IntegrityError: If it is damaged.
            ConflictError: If a later program made it.
            DeniedError: If its folder cannot be written.
        """
        path = sqlite_path(url)
        if path is not None and not may_create and not path.is_file():
            raise NotFoundError(
                f"no database at {path}", code="no-database", hint="stemma doctor --rebuild"
            )
        database = cls(_make_engine(_parse(url)), path)
        try:
            database._prepare(may_create=may_create, is_salvage=is_salvage)
        except BaseException:
            database._engine.dispose()
            raise
        return database

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a SQLite file."""
        return self.path is not None

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.path) if self.path else self.url

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read one consistent snapshot."""
        try:
            with self._engine.connect() as connection:
                if not self.is_sqlite:
                    connection.execution_options(
                        isolation_level="REPEATABLE READ", postgresql_readonly=True
                    )
                with connection.begin():
                    yield connection
        except FOREIGN_ERRORS as error:
            raise translate(error, self.name) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Write; committed and durable when the block ends without an error, else undone."""
        try:
            with self._engine.connect() as connection:
                connection.execution_options(**{_WRITES: True})
                with connection.begin():
                    self._take_turn(connection)
                    yield connection
                    generation = schema.advance_generation(connection)
        except FOREIGN_ERRORS as error:
            raise translate(error, self.name) from error
        if self.path is not None:
            write_mark(self.path, generation)
            if self._held_mark is None:
                self._held_mark = hold_mark(self.path)
        self._has_written = True

    def generation(self) -> int:
        """Return how many write transactions there were; equal answers mean equal rows."""
        with self.read() as connection:
            return schema.read_generation(connection)

    def close(self) -> None:
        """Seal the file when something was written, and let go of it."""
        try:
            is_unsealed = self.seal_state in {SealState.STALE, SealState.MISSING}
            if self.path is not None and (self._has_written or is_unsealed):
                self._seal(self.path)
        finally:
            if self._held_mark is not None:
                os.close(self._held_mark)
                self._held_mark = None
            self._engine.dispose()

    def __enter__(self) -> Database:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _take_turn(self, connection: Connection) -> None:
        if self.is_sqlite:
            return  # BEGIN IMMEDIATE has done it
        connection.execute(text(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_SECONDS}s'"))
        connection.execute(text("SET LOCAL synchronous_commit = on"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))

    def _prepare(self, *, may_create: bool, is_salvage: bool) -> None:
        try:
            claim = self._examine_file()
            if is_salvage:
                self.seal_state = SealState.BROKEN
                return
            if not self._has_tables():
                self._create(claim, may_create=may_create)
            with self.read() as connection:
                revision = schema.read_revision(connection)
                generation = schema.read_generation(connection)
        except FOREIGN_ERRORS as error:
            raise translate(error, self.name) from error
        if claim is not None:
            self.seal_state = claim.judge(generation)
            if self.seal_state is SealState.BROKEN:
                raise corrupt(self.name, "its bytes are not what was written")
            if self.seal_state is SealState.BEHIND:
                raise corrupt(self.name, "what was written last is gone from it or its log")
            has_no_seal = self.seal_state in {SealState.MISSING, SealState.DAMAGED_SEAL}
            if has_no_seal or (claim.has_moved(generation) and not self._has_writer()):
                self._ask_engine()
        if revision != schema.HEAD:
            self._upgrade()

    def _has_writer(self) -> bool:
        """Whether somebody at work has moved the file past its seal, and nobody died of it."""
        return self.path is not None and is_mark_held(self.path)

    def _ask_engine(self) -> None:
        """Let SQLite compare tables with indexes, where no seal vouches for either."""
        with self.read() as connection:
            found = connection.execute(text("PRAGMA integrity_check(1)")).scalars().first()
        if found != "ok":
            raise corrupt(self.name, str(found))

    def _examine_file(self) -> Claim | None:
        if self.path is None:
            return None
        if not self.path.is_file():
            if sidecar_path(self.path).exists() or read_mark(self.path):
                raise corrupt(self.name, "the file is gone, its seal or mark is there")
            return Claim(seal=None, is_seal_damaged=False, digest="")
        return Claim.examine(self.path)

    def _has_tables(self) -> bool:
        with self.read() as connection:
            return schema.has_tables(connection)

    def _create(self, claim: Claim | None, *, may_create: bool) -> None:
        """Make the tables; a sealed or longer file without tables has lost them."""
        # What was seen before the tables were looked for: another command may make them now.
        if claim is not None and (
            claim.seal is not None
            or claim.is_seal_damaged
            or claim.acknowledged
            or claim.size_bytes > _EMPTY_SIZE_BYTES
        ):
            raise corrupt(self.name, "its tables are gone")
        if not may_create:
            raise NotFoundError(
                f"{self.name} holds no tables", code="no-database", hint="stemma doctor --rebuild"
            )
        with self._engine.connect() as connection:
            connection.execution_options(**{_WRITES: True})
            with connection.begin():
                self._take_turn(connection)
                if not schema.has_tables(connection):  # nobody was faster
                    schema.create(connection)
        if self.path is not None:
            sync_folder(self.path.parent)
        self._has_written = True

    def _upgrade(self) -> None:
        # Alembic costs more to import than most commands take, and is hardly ever needed.
        from stemma.db.migrations.upgrade import upgrade  # noqa: PLC0415

        with self.write() as connection:
            upgrade(connection)

    def _seal(self, path: Path) -> None:
        """Fold the log into the file and seal it; a reader or writer at work leaves it stale."""
        if self.seal_state is SealState.BROKEN:
            return
        try:
            _fold_log(self._engine)
            with self._engine.connect() as connection:
                connection.execution_options(**{_WRITES: True})
                with connection.begin():  # holds the write lock; nothing is written
                    if is_log_empty(path):
                        write_seal(path, schema.read_generation(connection))
        except (*FOREIGN_ERRORS, OSError, IntegrityError):
            # Everything written is durable; only the seal stays stale, which harms nothing.
            return


def sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite URL; ``None`` for PostgreSQL.

    Raises:
        InvalidInputError: If it is neither.
    """
    parsed = _parse(url)
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database
    return Path(parsed.database) if is_file and parsed.database else None


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise _bad_url(url) from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not parsed.database or not Path(parsed.database).is_absolute():
        raise _bad_url(url)
    return parsed


def _bad_url(url: str) -> InvalidInputError:
    return InvalidInputError(
        f"not a database: {url[:80]!r}",
        code="bad-database-url",
        hint="use sqlite:////absolute/path/stemma.db or postgresql://user@host/name",
    )


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    path = Path(url.database or "")
    if path.is_file() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        engine = create_engine(url, creator=partial(_connect_read_only, path))
    else:
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """Open a file whose folder takes no write-ahead log.

    While nobody else has a log there, nobody writes, and SQLite may take the file as it is.
    """
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    return sqlite3.connect(
        f"file:{quote(str(path))}?{how}",
        uri=True,
        timeout=BUSY_TIMEOUT_SECONDS,
        check_same_thread=False,
    )


def _on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Hand transactions to us, and make commits durable."""
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA cell_size_check = ON")
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()
    except BaseException:
        connection.close()  # SQLAlchemy does not know it yet
        raise


def _fold_log(engine: Engine) -> None:
    """Fold the write-ahead log into the file, without waiting for anybody."""
    pooled = engine.raw_connection()
    try:
        cursor = pooled.cursor()
        cursor.execute("PRAGMA busy_timeout = 0")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.close()
    finally:
        pooled.close()


def _on_begin(connection: Connection) -> None:
    is_writing = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")
