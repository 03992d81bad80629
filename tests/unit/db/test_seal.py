"""The seal of a database file: every flipped bit is damage, a crash never is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from stemma.db.engine import Database
from stemma.db.mark import is_mark_damaged, is_mark_held, mark_path, read_mark
from stemma.db.rows import check_all, seal
from stemma.db.seal import Claim, Seal, SealState, sidecar_path
from stemma.db.tables import models, tracked
from stemma.domain.errors import ConflictError, IntegrityError

DYING = (
    "import os, sys\n"
    "from sqlalchemy import insert\n"
    "from stemma.db.engine import Database\n"
    "from stemma.db.rows import seal\n"
    "from stemma.db.tables import models\n"
    "database = Database.open(sys.argv[1], may_create=False)\n"
    "with database.write() as connection:\n"
    "    connection.execute(insert(models).values(seal(models, {'name': 'late'})))\n"
    "os.kill(os.getpid(), 9)\n"
)
"""Writes a row and dies before the log is folded."""


def add(database: Database, name: str) -> None:
    """Add a model."""
    with database.write() as connection:
        connection.execute(insert(models).values(seal(models, {"name": name})))


def names(database: Database) -> list[str]:
    """Return the models."""
    with database.read() as connection:
        return sorted(row.name for row in check_all(models, connection.execute(select(models))))


def state(url: str) -> SealState | None:
    """Open, look and close."""
    with Database.open(url, may_create=False) as opened:
        return opened.seal_state


def test_a_closed_database_is_sealed(database: Database, url: str, path: Path) -> None:
    """Nothing would tell damage from data."""
    database.close()
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        path.name,
        f"{path.name}.mark",
        f"{path.name}.seal",
    ]
    assert state(url) is SealState.SOUND


@pytest.mark.slow
def test_every_flipped_bit_of_the_file_is_found(database: Database, url: str, path: Path) -> None:
    """A flipped bit in an index or a free page would wait for the day it matters."""
    database.close()
    whole = path.read_bytes()
    chance = random.Random(1)
    for _ in range(150):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        with pytest.raises(IntegrityError) as caught:
            Database.open(url, may_create=True)
        assert caught.value.hint == "stemma doctor --rebuild"
    path.write_bytes(whole)
    assert state(url) is SealState.SOUND


@pytest.mark.slow
def test_without_a_seal_no_flipped_bit_gives_a_wrong_row(
    database: Database, url: str, path: Path
) -> None:
    """After a crash the seal is stale, and a flipped bit would come back as a model's name."""
    expected = names(database)
    database.close()
    whole = path.read_bytes()
    used = [at for at in range(len(whole)) if whole[at]]
    chance = random.Random(2)
    found = 0
    for _ in range(150):
        sidecar_path(path).unlink(missing_ok=True)
        data = bytearray(whole)
        data[chance.choice(used)] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            with Database.open(url, may_create=False) as opened:
                assert set(names(opened)) <= set(expected)
        except (IntegrityError, ConflictError):  # a revision of a later program is refused, too
            found += 1
        for leftover in path.parent.glob("stemma.db-*"):
            leftover.unlink()
    assert found


@pytest.mark.slow
def test_a_damaged_seal_is_told_from_a_damaged_file(
    database: Database, url: str, path: Path
) -> None:
    """A flipped bit in the sidecar would call a sound database broken."""
    database.close()
    sidecar = sidecar_path(path)
    whole = sidecar.read_bytes()
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1
        sidecar.write_bytes(data)
        assert Claim.examine(path).is_seal_damaged
    assert state(url) is SealState.DAMAGED_SEAL


@pytest.mark.slow
def test_a_process_that_dies_leaves_a_stale_seal_and_every_row(
    database: Database, url: str
) -> None:
    """A crash would look like damage, or cost what was acknowledged."""
    database.close()
    assert subprocess.run([sys.executable, "-c", DYING, url], check=False).returncode == -9
    with Database.open(url, may_create=False) as opened:
        assert opened.seal_state is SealState.STALE
        assert "late" in names(opened)
    assert state(url) is SealState.SOUND


@pytest.mark.slow
@pytest.mark.parametrize("part", ["header", "frame", "last frame"])
def test_a_flipped_bit_in_a_log_that_a_crash_left_is_found(
    database: Database, url: str, path: Path, part: str
) -> None:
    """SQLite drops what follows a damaged frame: an acknowledged release would be gone."""
    database.close()
    assert subprocess.run([sys.executable, "-c", DYING, url], check=False).returncode == -9
    log = path.with_name("stemma.db-wal")
    data = bytearray(log.read_bytes())
    data[{"header": 9, "frame": 32 + 24 + 100, "last frame": len(data) - 100}[part]] ^= 4
    log.write_bytes(data)
    for _ in range(2):  # the first look folds what is left of the log into the file
        with pytest.raises(IntegrityError, match="what was written last is gone"):
            Database.open(url, may_create=False)


@pytest.mark.slow
def test_a_flipped_bit_in_an_index_is_found_though_the_seal_is_stale(
    database: Database, url: str, path: Path
) -> None:
    """After a crash a row that its index no longer finds would be answered as not there."""
    rows = [seal(tracked, {"path": f"data/{name}.csv", "content": name}) for name in "abc"]
    with database.write() as connection:
        connection.execute(insert(tracked), rows)
        query = text("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_tracked_1'")
        page = connection.execute(query).scalar_one()
    database.close()
    assert subprocess.run([sys.executable, "-c", DYING, url], check=False).returncode == -9
    data = bytearray(path.read_bytes())
    data[data.index(b"data/b.csv", (page - 1) * 4096) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="damaged"):
        Database.open(url, may_create=False)


def test_a_writer_at_work_is_told_from_one_that_died(
    database: Database, url: str, path: Path
) -> None:
    """Each command beside a server would read the whole file, or none after a crash."""
    add(database, "early")
    assert is_mark_held(path)
    assert state(url) is not SealState.BROKEN
    assert is_mark_held(path)
    database.close()
    assert not is_mark_held(path)
    assert subprocess.run([sys.executable, "-c", DYING, url], check=False).returncode == -9
    assert not is_mark_held(path)


def test_a_damaged_mark_says_nothing(database: Database, url: str, path: Path) -> None:
    """A flipped bit in the mark would lock everybody out of a sound database."""
    database.close()
    mark = mark_path(path)
    whole = mark.read_bytes()
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1
        mark.write_bytes(data)
        assert is_mark_damaged(path)
        assert read_mark(path) == 0
    for left_by_power_cut in (b"", bytes(len(whole))):
        mark.write_bytes(left_by_power_cut)
        assert not is_mark_damaged(path)
    assert state(url) is SealState.SOUND


def test_an_older_file_under_its_seal_is_refused(database: Database, url: str, path: Path) -> None:
    """A copy of the database from yesterday would hide what was released since."""
    database.close()
    older = path.read_bytes()
    with Database.open(url, may_create=False) as opened, opened.write() as connection:
        connection.execute(insert(models).values(seal(models, {"name": "late"})))
    path.write_bytes(older)
    with pytest.raises(IntegrityError, match="what was written last is gone"):
        Database.open(url, may_create=False)


def test_another_writer_makes_the_seal_stale_not_wrong(database: Database, url: str) -> None:
    """Two commands at once would call each other's work damage."""
    database.close()
    first = Database.open(url, may_create=False)
    second = Database.open(url, may_create=False)
    add(first, "one")
    add(second, "two")
    assert state(url) is SealState.STALE
    first.close()
    add(second, "three")
    assert state(url) is SealState.STALE
    second.close()
    with Database.open(url, may_create=False) as opened:
        assert opened.seal_state is SealState.SOUND
        assert {"one", "two", "three"} <= set(names(opened))


def test_a_reader_at_work_does_not_hold_up_closing(database: Database, url: str) -> None:
    """A long ``log`` would make every other command wait."""
    reader = Database.open(url, may_create=False)
    with reader.read() as connection:
        assert connection.execute(select(models)).all()
        add(database, "while reading")
        database.close()
    reader.close()
    with Database.open(url, may_create=False) as opened:
        assert opened.seal_state in {SealState.STALE, SealState.MISSING, SealState.SOUND}
        assert "while reading" in names(opened)


def test_the_generation_is_judged_after_the_hash() -> None:
    """A seal of an older state would be held against newer bytes."""
    claim = Claim(seal=Seal(7, "aa"), is_seal_damaged=False, digest="bb")
    assert claim.judge(8) is SealState.STALE
    assert claim.judge(7) is SealState.BROKEN
    assert Claim(seal=Seal(7, "aa"), is_seal_damaged=False, digest="aa").judge(7) is SealState.SOUND
    assert Claim(seal=None, is_seal_damaged=False, digest="").judge(7) is SealState.MISSING


def test_a_large_file_is_hashed_only_when_asked(database: Database, path: Path) -> None:
    """Every command would read gigabytes first."""
    database.close()
    claim = Claim.examine(path, limit_bytes=10)
    assert claim.seal is not None
    assert claim.judge(claim.seal.generation) is SealState.UNCHECKED
    assert Claim.examine(path, limit_bytes=None).digest


def test_a_sidecar_that_cannot_be_written_stops_nothing(
    database: Database, url: str, path: Path
) -> None:
    """A command whose work is done would end with an error."""
    path.with_name(f"{path.name}.seal.{os.getpid()}.tmp").mkdir()
    database.close()
    assert state(url) is SealState.MISSING
