"""Brings an old database to the newest revision with Alembic.

Invariants:
    * Everything happens in the caller's transaction: after a crash the database is
      either of the old revision or of the new one.

Imported only when a migration is really needed: Alembic costs more to import than
most commands take.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def configuration(connection: Connection) -> Config:
    """Return Alembic's configuration for a connection that is inside a transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Run every migration that is missing."""
    command.upgrade(configuration(connection), "head")
