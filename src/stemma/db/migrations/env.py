"""Alembic runs this file; it hands over the connection that the caller opened."""

from __future__ import annotations

from alembic import context

from stemma.db import tracking_tables  # noqa: F401 - completes the metadata
from stemma.db.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a column by copying its table.
    render_as_batch=True,
    # The caller's transaction makes all migrations one step.
    transactional_ddl=False,
)
context.run_migrations()
