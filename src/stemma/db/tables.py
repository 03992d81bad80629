"""Every table, for SQLite and PostgreSQL alike.

Invariants:
    * Digests of facts are text (``sha256:…``), moments are canonical text
      (``2026-05-03T12:00:00.000000Z``, so text order is time order), flags are 0 or 1.
    * A table with a ``row_digest`` column states facts; ``stemma.db.rows`` seals and
      checks its rows.  A migration that changes such a table seals its rows again.
    * ``chunks`` and ``file_aliases`` are large and only an index into the store, where
      every byte is verified anyway; their digests are raw bytes and they are not sealed.

This module holds no queries.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from stemma.db.columns import integer_column, make_blob_type, metadata, text_column

stamp_metadata: Final = MetaData()
alembic_version: Final = Table(
    "alembic_version",
    stamp_metadata,
    Column("version_num", Text, nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, spelt out so that a fresh database needs no Alembic."""


meta: Final = Table(
    "meta",
    metadata,
    text_column("key"),
    text_column("value"),
    text_column("row_digest"),
    PrimaryKeyConstraint("key"),
)
"""``generation``: counts write transactions, so that a seal knows which state it is of."""

models: Final = Table(
    "models", metadata, text_column("name"), text_column("row_digest"), PrimaryKeyConstraint("name")
)

runs: Final = Table(
    "runs",
    metadata,
    text_column("id"),
    text_column("model"),
    text_column("state"),
    text_column("command"),
    text_column("invocation"),
    text_column("reason"),
    text_column("created_by"),
    text_column("host"),
    text_column("process"),
    text_column("started_at"),
    text_column("ended_at", is_nullable=True),
    text_column("manifest", is_nullable=True),
    text_column("failure"),
    text_column("traceback"),
    integer_column("experiment"),
    text_column("name"),
    text_column("deleted_at", is_nullable=True),
    text_column("row_digest"),
    PrimaryKeyConstraint("id"),
    Index(None, "model", "started_at"),
    Index(None, "experiment", "started_at", "id"),
    Index(None, "invocation"),
    Index(None, "state"),
)
"""``command`` is a JSON array of its arguments."""

manifests: Final = Table(
    "manifests",
    metadata,
    text_column("digest"),
    text_column("model"),
    text_column("run"),
    text_column("created_at"),
    text_column("architecture"),
    text_column("datasets"),
    text_column("pipeline"),
    text_column("hyperparameters"),
    text_column("artifact"),
    text_column("environment"),
    integer_column("size_bytes"),
    text_column("parents"),
    text_column("row_digest"),
    PrimaryKeyConstraint("digest"),
    Index(None, "model", "created_at"),
    Index(None, "run"),
)
"""The six names are the components' identities; ``parents`` are digests joined by a space."""

manifest_metrics: Final = Table(
    "manifest_metrics",
    metadata,
    text_column("manifest"),
    text_column("key"),
    text_column("name"),
    text_column("slice"),
    text_column("value"),
    integer_column("sample_size"),
    text_column("unit"),
    text_column("row_digest"),
    PrimaryKeyConstraint("manifest", "key"),
)

releases: Final = Table(
    "releases",
    metadata,
    text_column("record"),
    text_column("model"),
    text_column("version"),
    Column("is_prerelease", Integer, nullable=False),
    integer_column("sequence"),
    text_column("previous", is_nullable=True),
    text_column("manifest"),
    text_column("level"),
    text_column("why"),
    text_column("message"),
    text_column("released_at"),
    text_column("released_by"),
    text_column("row_digest"),
    PrimaryKeyConstraint("record"),
    UniqueConstraint("model", "version"),
    UniqueConstraint("model", "sequence"),
    Index(None, "manifest"),
)
"""``record`` is the sha256 of the release record; ``why`` is the verdict's sentence."""

channel_moves: Final = Table(
    "channel_moves",
    metadata,
    text_column("record"),
    text_column("model"),
    text_column("channel"),
    integer_column("sequence"),
    text_column("version"),
    text_column("manifest", is_nullable=True),
    text_column("previous", is_nullable=True),
    text_column("reason"),
    text_column("moved_at"),
    text_column("moved_by"),
    text_column("row_digest"),
    PrimaryKeyConstraint("record"),
    UniqueConstraint("model", "channel", "sequence"),
)

configurations: Final = Table(
    "configurations",
    metadata,
    text_column("record"),
    text_column("model"),
    integer_column("sequence"),
    text_column("digest"),
    text_column("previous", is_nullable=True),
    text_column("created_at"),
    text_column("created_by"),
    text_column("row_digest"),
    PrimaryKeyConstraint("record"),
    UniqueConstraint("model", "sequence"),
    UniqueConstraint("model", "digest"),
)
"""``sequence`` is the configuration's number; its values are in the record."""

deployments: Final = Table(
    "deployments",
    metadata,
    text_column("record"),
    text_column("model"),
    integer_column("sequence"),
    text_column("version"),
    text_column("manifest"),
    text_column("configuration"),
    text_column("kind"),
    text_column("previous", is_nullable=True),
    text_column("reason"),
    text_column("deployed_at"),
    text_column("deployed_by"),
    text_column("row_digest"),
    PrimaryKeyConstraint("record"),
    UniqueConstraint("model", "sequence"),
)
"""The newest row of a model is what production is to be."""

rollouts: Final = Table(
    "rollouts",
    metadata,
    text_column("id"),
    text_column("model"),
    integer_column("sequence"),
    text_column("active", is_nullable=True),
    integer_column("event_count"),
    text_column("body"),
    text_column("row_digest"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("model", "sequence"),
    UniqueConstraint("active"),
)
"""``active`` is the model's name until the rollout has ended, so that a model has one at most."""

rollout_events: Final = Table(
    "rollout_events",
    metadata,
    text_column("rollout"),
    integer_column("sequence"),
    text_column("at"),
    text_column("by"),
    text_column("kind"),
    text_column("text"),
    integer_column("weight_bp"),
    text_column("state"),
    text_column("row_digest"),
    PrimaryKeyConstraint("rollout", "sequence"),
)

rollout_metrics: Final = Table(
    "rollout_metrics",
    metadata,
    text_column("rollout"),
    text_column("key"),
    text_column("metric"),
    text_column("side"),
    integer_column("events"),
    integer_column("trials"),
    text_column("posted_at"),
    Column("is_counted", Integer, nullable=False),
    text_column("row_digest"),
    PrimaryKeyConstraint("rollout", "key"),
    Index(None, "rollout", "is_counted"),
)
"""What users posted; ``is_counted`` once a look has handed it to the judge."""

rollbacks: Final = Table(
    "rollbacks",
    metadata,
    text_column("model"),
    integer_column("sequence"),
    Column("is_drill", Integer, nullable=False),
    text_column("body"),
    text_column("row_digest"),
    PrimaryKeyConstraint("model", "sequence"),
)
"""``body`` is the report as JSON."""

tracked: Final = Table(
    "tracked",
    metadata,
    text_column("path"),
    text_column("content"),
    text_column("row_digest"),
    PrimaryKeyConstraint("path"),
)

chunks: Final = Table(
    "chunks",
    metadata,
    Column("chunk", make_blob_type(), nullable=False),
    Column("frame", make_blob_type(), nullable=False),
    integer_column("offset"),
    integer_column("size_bytes"),
    PrimaryKeyConstraint("chunk"),
    Index(None, "frame"),
    sqlite_with_rowid=False,
)

file_aliases: Final = Table(
    "file_aliases",
    metadata,
    text_column("alias"),
    text_column("file"),
    PrimaryKeyConstraint("alias"),
    Index(None, "file"),
    sqlite_with_rowid=False,
)
