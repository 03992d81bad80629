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

from typing import Final, final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import UserDefinedType
from typing_extensions import override

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

stamp_metadata: Final = MetaData()
alembic_version: Final = Table(
    "alembic_version",
    stamp_metadata,
    Column("version_num", Text, nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, spelt out so that a fresh database needs no Alembic."""


@final
class _SqliteBlob(UserDefinedType[bytes]):
    """Bytes as SQLite returns them.

    SQLAlchemy's own type calls ``bytes(value)``, and a damaged row that holds the
    integer 2**40 there would ask for that much memory before its digest is looked at.
    """

    cache_ok = True

    @override
    def get_col_spec(self, **_: object) -> str:
        """Return the column's type in DDL."""
        return "BLOB"

    @property
    @override
    def python_type(self) -> type[bytes]:
        """Return what a value is in Python."""
        return bytes


def make_blob_type() -> LargeBinary:
    """Return the type of a column of bytes."""
    return LargeBinary().with_variant(_SqliteBlob(), "sqlite")


def _text(name: str, *, is_nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=is_nullable)


def _integer(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


meta: Final = Table(
    "meta",
    metadata,
    _text("key"),
    _text("value"),
    _text("row_digest"),
    PrimaryKeyConstraint("key"),
)
"""``generation``: counts write transactions, so that a seal knows which state it is of."""

models: Final = Table(
    "models", metadata, _text("name"), _text("row_digest"), PrimaryKeyConstraint("name")
)

runs: Final = Table(
    "runs",
    metadata,
    _text("id"),
    _text("model"),
    _text("state"),
    _text("command"),
    _text("invocation"),
    _text("reason"),
    _text("created_by"),
    _text("host"),
    _text("process"),
    _text("started_at"),
    _text("ended_at", is_nullable=True),
    _text("manifest", is_nullable=True),
    _text("failure"),
    _text("traceback"),
    _text("row_digest"),
    PrimaryKeyConstraint("id"),
    Index(None, "model", "started_at"),
    Index(None, "invocation"),
    Index(None, "state"),
)
"""``command`` is a JSON array of its arguments."""

run_points: Final = Table(
    "run_points",
    metadata,
    _text("run"),
    _text("name"),
    _integer("point_count"),
    Column("points", make_blob_type(), nullable=False),
    _text("row_digest"),
    PrimaryKeyConstraint("run", "name"),
)
"""One learning curve per row; ``points`` is the packed form of ``stemma.tracking.curves``."""

manifests: Final = Table(
    "manifests",
    metadata,
    _text("digest"),
    _text("model"),
    _text("run"),
    _text("created_at"),
    _text("architecture"),
    _text("datasets"),
    _text("pipeline"),
    _text("hyperparameters"),
    _text("artifact"),
    _text("environment"),
    _integer("size_bytes"),
    _text("parents"),
    _text("row_digest"),
    PrimaryKeyConstraint("digest"),
    Index(None, "model", "created_at"),
    Index(None, "run"),
)
"""The six names are the components' identities; ``parents`` are digests joined by a space."""

manifest_metrics: Final = Table(
    "manifest_metrics",
    metadata,
    _text("manifest"),
    _text("key"),
    _text("name"),
    _text("slice"),
    _text("value"),
    _integer("sample_size"),
    _text("unit"),
    _text("row_digest"),
    PrimaryKeyConstraint("manifest", "key"),
)

releases: Final = Table(
    "releases",
    metadata,
    _text("record"),
    _text("model"),
    _text("version"),
    Column("is_prerelease", Integer, nullable=False),
    _integer("sequence"),
    _text("previous", is_nullable=True),
    _text("manifest"),
    _text("level"),
    _text("why"),
    _text("message"),
    _text("released_at"),
    _text("released_by"),
    _text("row_digest"),
    PrimaryKeyConstraint("record"),
    UniqueConstraint("model", "version"),
    UniqueConstraint("model", "sequence"),
    Index(None, "manifest"),
)
"""``record`` is the sha256 of the release record; ``why`` is the verdict's sentence."""

channel_moves: Final = Table(
    "channel_moves",
    metadata,
    _text("record"),
    _text("model"),
    _text("channel"),
    _integer("sequence"),
    _text("version"),
    _text("manifest", is_nullable=True),
    _text("previous", is_nullable=True),
    _text("reason"),
    _text("moved_at"),
    _text("moved_by"),
    _text("row_digest"),
    PrimaryKeyConstraint("record"),
    UniqueConstraint("model", "channel", "sequence"),
)

configurations: Final = Table(
    "configurations",
    metadata,
    _text("record"),
    _text("model"),
    _integer("sequence"),
    _text("digest"),
    _text("previous", is_nullable=True),
    _text("created_at"),
    _text("created_by"),
    _text("row_digest"),
    PrimaryKeyConstraint("record"),
    UniqueConstraint("model", "sequence"),
    UniqueConstraint("model", "digest"),
)
"""``sequence`` is the configuration's number; its values are in the record."""

deployments: Final = Table(
    "deployments",
    metadata,
    _text("record"),
    _text("model"),
    _integer("sequence"),
    _text("version"),
    _text("manifest"),
    _text("configuration"),
    _text("kind"),
    _text("previous", is_nullable=True),
    _text("reason"),
    _text("deployed_at"),
    _text("deployed_by"),
    _text("row_digest"),
    PrimaryKeyConstraint("record"),
    UniqueConstraint("model", "sequence"),
)
"""The newest row of a model is what production is to be."""

rollouts: Final = Table(
    "rollouts",
    metadata,
    _text("id"),
    _text("model"),
    _integer("sequence"),
    _text("active", is_nullable=True),
    _integer("event_count"),
    _text("body"),
    _text("row_digest"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("model", "sequence"),
    UniqueConstraint("active"),
)
"""``active`` is the model's name until the rollout has ended, so that a model has one at most."""

rollout_events: Final = Table(
    "rollout_events",
    metadata,
    _text("rollout"),
    _integer("sequence"),
    _text("at"),
    _text("by"),
    _text("kind"),
    _text("text"),
    _integer("weight_bp"),
    _text("state"),
    _text("row_digest"),
    PrimaryKeyConstraint("rollout", "sequence"),
)

rollout_metrics: Final = Table(
    "rollout_metrics",
    metadata,
    _text("rollout"),
    _text("key"),
    _text("metric"),
    _text("side"),
    _integer("events"),
    _integer("trials"),
    _text("posted_at"),
    Column("is_counted", Integer, nullable=False),
    _text("row_digest"),
    PrimaryKeyConstraint("rollout", "key"),
    Index(None, "rollout", "is_counted"),
)
"""What users posted; ``is_counted`` once a look has handed it to the judge."""

rollbacks: Final = Table(
    "rollbacks",
    metadata,
    _text("model"),
    _integer("sequence"),
    Column("is_drill", Integer, nullable=False),
    _text("body"),
    _text("row_digest"),
    PrimaryKeyConstraint("model", "sequence"),
)
"""``body`` is the report as JSON."""

tracked: Final = Table(
    "tracked",
    metadata,
    _text("path"),
    _text("content"),
    _text("row_digest"),
    PrimaryKeyConstraint("path"),
)

chunks: Final = Table(
    "chunks",
    metadata,
    Column("chunk", make_blob_type(), nullable=False),
    Column("frame", make_blob_type(), nullable=False),
    _integer("offset"),
    _integer("size_bytes"),
    PrimaryKeyConstraint("chunk"),
    Index(None, "frame"),
    sqlite_with_rowid=False,
)

file_aliases: Final = Table(
    "file_aliases",
    metadata,
    _text("alias"),
    _text("file"),
    PrimaryKeyConstraint("alias"),
    Index(None, "file"),
    sqlite_with_rowid=False,
)

SEALED_TABLES: Final = tuple(
    table for table in metadata.sorted_tables if "row_digest" in table.columns
)
"""Tables whose rows are sealed."""
