"""Make the tables of delivery: configurations, deployments, rollouts, rollbacks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _make_configurations()
    _make_deployments()
    _make_rollouts()
    _make_rollout_log()
    _make_rollbacks()


def _make_configurations() -> None:
    op.create_table(
        "configurations",
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("record", name="pk_configurations"),
        sa.UniqueConstraint("model", "sequence", name="uq_configurations_model_sequence"),
        sa.UniqueConstraint("model", "digest", name="uq_configurations_model_digest"),
    )


def _make_deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("configuration", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("deployed_at", sa.Text(), nullable=False),
        sa.Column("deployed_by", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("record", name="pk_deployments"),
        sa.UniqueConstraint("model", "sequence", name="uq_deployments_model_sequence"),
    )


def _make_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("active", sa.Text(), nullable=True),
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
        sa.UniqueConstraint("model", "sequence", name="uq_rollouts_model_sequence"),
        sa.UniqueConstraint("active", name="uq_rollouts_active"),
    )


def _make_rollout_log() -> None:
    op.create_table(
        "rollout_events",
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("weight_bp", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "sequence", name="pk_rollout_events"),
    )
    op.create_table(
        "rollout_metrics",
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("trials", sa.BigInteger(), nullable=False),
        sa.Column("posted_at", sa.Text(), nullable=False),
        sa.Column("is_counted", sa.Integer(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "key", name="pk_rollout_metrics"),
    )
    op.create_index(
        "ix_rollout_metrics_rollout_is_counted", "rollout_metrics", ["rollout", "is_counted"]
    )


def _make_rollbacks() -> None:
    op.create_table(
        "rollbacks",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("is_drill", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model", "sequence", name="pk_rollbacks"),
    )


def downgrade() -> None:
    """Refuse: a database is made again from records, never taken back."""
    raise NotImplementedError("stemma doctor --rebuild makes a database of this program's revision")
