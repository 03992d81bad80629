"""The database: durable, one writer at a time, and clear when something is wrong."""

from __future__ import annotations

import resource
import signal
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from stemma.db.engine import Database
from stemma.db.failures import translate
from stemma.db.rows import check_all, seal
from stemma.db.schema import HEAD, read_generation
from stemma.db.tables import alembic_version, models
from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    IntegrityError,
    InvalidInputError,
    LockedError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)


def test_commits_are_durable(database: Database) -> None:
    """A power cut would take back what was acknowledged."""
    with database.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2


def test_an_error_inside_a_write_undoes_all_of_it(database: Database) -> None:
    """Half of a release would be visible."""

    def write_half() -> None:
        with database.write() as connection:
            connection.execute(insert(models).values(seal(models, {"name": "half"})))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    with database.read() as connection:
        assert "half" not in {row.name for row in connection.execute(select(models))}


def test_every_write_counts_once(database: Database) -> None:
    """A seal could not tell which state it is of."""
    with database.read() as connection:
        before = read_generation(connection)
    for _ in range(3):
        with database.write():
            pass
    with database.read() as connection:
        assert read_generation(connection) == before + 3


def test_a_snapshot_does_not_change_while_it_is_read(database: Database, url: str) -> None:
    """``log`` would show one half of a release that happens meanwhile."""
    with Database.open(url, may_create=False) as other, database.read() as connection:
        before = len(connection.execute(select(models)).all())
        with other.write() as writing:
            writing.execute(insert(models).values(seal(models, {"name": "later"})))
        assert len(connection.execute(select(models)).all()) == before


@pytest.mark.slow
def test_writers_from_several_threads_take_turns(database: Database) -> None:
    """Two threads of one training would get in each other's way."""

    def work(start: int) -> None:
        for number in range(10):
            with database.write() as connection:
                values = seal(models, {"name": f"m{start}-{number}"})
                connection.execute(insert(models).values(values))

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert len(check_all(models, connection.execute(select(models)))) == 43


def test_a_missing_database_is_not_made_unless_asked(url: str, path: Path) -> None:
    """A wrong folder would get a new, empty project."""
    with pytest.raises(NotFoundError):
        Database.open(url, may_create=False)
    assert not path.exists()


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite://", "sqlite:///relative.db", "::"])
def test_a_bad_url_is_refused(url: str) -> None:
    """A typing error in ``stemma.toml`` would end in a stack of foreign errors."""
    with pytest.raises(InvalidInputError):
        Database.open(url, may_create=True)


def test_a_database_of_a_later_program_is_refused(database: Database, url: str) -> None:
    """An old program would misread or damage it."""
    with database.write() as connection:
        connection.execute(alembic_version.update().values(version_num="9999"))
    database.close()
    with pytest.raises(ConflictError) as caught:
        Database.open(url, may_create=False)
    assert "9999" in caught.value.message
    assert HEAD in caught.value.message
    assert "upgrade" in caught.value.hint


def test_a_file_that_is_no_database_is_named(url: str, path: Path) -> None:
    """The user would see an error of SQLite."""
    path.write_text("hello " * 1000)
    with pytest.raises(IntegrityError) as caught:
        Database.open(url, may_create=True)
    assert caught.value.code == "corrupt-database"
    assert str(path) in caught.value.message


def test_a_truncated_file_is_refused(database: Database, url: str, path: Path) -> None:
    """Rows at the end would be missing without a word."""
    database.close()
    path.write_bytes(path.read_bytes()[:8192])
    with pytest.raises(IntegrityError):
        Database.open(url, may_create=True)


def test_an_interrupted_creation_is_finished(url: str, path: Path) -> None:
    """A kill during ``stemma init`` would leave a folder that no command accepts."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    with Database.open(url, may_create=True) as opened, opened.read() as reading:
        assert read_generation(reading) == 0


def test_a_full_disk_is_said_and_changes_nothing(database: Database, path: Path) -> None:
    """A full disk would look like a bug, or leave half a row."""
    with database.write() as connection:
        connection.execute(insert(models).values(seal(models, {"name": "before"})))

    def write_much() -> None:
        with database.write() as connection:
            rows = [seal(models, {"name": f"m{number}" * 50}) for number in range(2000)]
            connection.execute(insert(models), rows)

    limit = path.with_name("stemma.db-wal").stat().st_size + 4096
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(UnavailableError) as caught:
            write_much()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert str(path) in caught.value.message
    with database.read() as connection:
        found = {row.name for row in check_all(models, connection.execute(select(models)))}
    assert found == {"digits", "faces", "words", "before"}


@pytest.mark.parametrize(
    ("code", "kind", "stable"),
    [
        (sqlite3.SQLITE_BUSY, LockedError, "database-locked"),
        (sqlite3.SQLITE_FULL, UnavailableError, "disk-full"),
        (sqlite3.SQLITE_READONLY, DeniedError, "read-only"),
        (sqlite3.SQLITE_CORRUPT, IntegrityError, "corrupt-database"),
        (sqlite3.SQLITE_NOTADB, IntegrityError, "corrupt-database"),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, ConflictError, "duplicate-row"),
        (sqlite3.SQLITE_IOERR_READ, UnavailableError, "database-unavailable"),
    ],
)
def test_what_sqlite_says_becomes_one_of_our_errors(
    code: int, kind: type[StemmaError], stable: str
) -> None:
    """A command would end in a traceback."""
    original = sqlite3.OperationalError("said so")
    original.sqlite_errorcode = code  # type: ignore[misc]
    error = translate(OperationalError("SELECT 1", {}, original), "/x/stemma.db")
    assert type(error) is kind
    assert error.code == stable
    assert "/x/stemma.db" in error.message
    assert "said so" in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("state", "stable"),
    [
        ("55P03", "database-locked"),
        ("40001", "database-raced"),
        ("53100", "disk-full"),
        ("25006", "read-only"),
        ("XX001", "corrupt-database"),
        ("23505", "duplicate-row"),
        ("57P01", "database-unavailable"),
    ],
)
def test_what_postgresql_says_becomes_one_of_our_errors(state: str, stable: str) -> None:
    """A lost connection would look like a bug."""

    class RefusedError(Exception):
        sqlstate = state

    assert (
        translate(DBAPIError("SELECT 1", {}, RefusedError("no")), "postgresql://x").code == stable
    )


@pytest.mark.parametrize("value", [2**63, "\ud800"])
def test_a_value_that_no_column_holds_is_the_callers_fault(
    database: Database, value: object
) -> None:
    """A client's number of 65 bits would end in a traceback."""
    with pytest.raises(InvalidInputError) as caught, database.read() as connection:
        connection.execute(text("SELECT :value"), {"value": value})
    assert caught.value.code == "bad-value"


def test_a_value_that_postgresql_does_not_hold_is_the_callers_fault() -> None:
    """A NUL in a name would make the server look as if it were down, and clients try again."""
    refused = DataError("SELECT 1", {}, ValueError("text cannot contain NUL"))
    assert translate(refused, "postgresql://x").code == "bad-value"


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_said() -> None:
    """A stopped server would end in a foreign traceback."""
    with pytest.raises(UnavailableError):
        Database.open("postgresql://nobody@/x?host=/nonexistent", may_create=True)
