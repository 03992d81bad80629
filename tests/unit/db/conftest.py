"""A database file with some rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from stemma.db.engine import Database
from stemma.db.rows import seal
from stemma.db.tables import models


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file lies."""
    return tmp_path / "stemma.db"


@pytest.fixture
def url(path: Path) -> str:
    """Return the file's URL."""
    return f"sqlite:///{path}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """Return an open database with three models."""
    opened = Database.open(url, may_create=True)
    with opened.write() as connection:
        rows = [seal(models, {"name": name}) for name in ("digits", "faces", "words")]
        connection.execute(insert(models), rows)
    yield opened
    opened.close()
