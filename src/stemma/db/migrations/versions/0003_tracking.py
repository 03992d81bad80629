"""Make the tables of experiments, metrics, logged models and the registry; extend ``runs``."""

from __future__ import annotations

import struct
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from stemma.db.rows import number_check, row_digest
from stemma.domain.run_names import name_of

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_RUN_COLUMNS = (
    "id",
    "model",
    "state",
    "command",
    "invocation",
    "reason",
    "created_by",
    "host",
    "process",
    "started_at",
    "ended_at",
    "manifest",
    "failure",
    "traceback",
)
_MINUS_ZERO = -(2**63)
_SERIES = ("id", "run", "name", "step", "logged_at_us", "value", "row_check")
_POINT = ("series", "step", "logged_at_us", "value_bits", "row_check")
_ADDED = ("experiment", "name", "deleted_at")


def upgrade() -> None:
    """Make the tables."""
    _make_experiments()
    _extend_runs()
    _make_run_logs()
    _make_inputs()
    _make_metrics()
    _move_curves()
    _make_logged_models()
    _make_logged_model_details()
    _make_traces()
    _make_registry()
    _make_model_versions()


def _extend_runs() -> None:
    """Give each run the experiment of its model, a name and a moment of deletion.

    The columns stand before the digest, so the table is made again; a project of 0.1 has few
    runs, which fit into memory.
    """
    connection = op.get_bind()
    old = sa.table("runs", *(sa.column(name) for name in _RUN_COLUMNS))
    rows = [dict(row) for row in connection.execute(sa.select(old)).mappings()]
    numbers = _make_model_experiments(rows)
    op.drop_table("runs")
    _make_runs()
    if not rows:
        return
    new = sa.table("runs", *(sa.column(name) for name in (*_RUN_COLUMNS, *_ADDED, "row_digest")))
    for row in rows:
        name = name_of(row["id"])
        row |= {"experiment": numbers[row["model"]], "name": name, "deleted_at": None}
        row["row_digest"] = row_digest("runs", tuple(row.values()))
    connection.execute(sa.insert(new), rows)


def _make_model_experiments(runs: list[dict[str, Any]]) -> dict[str, int]:
    """Make an experiment per model, dated by its first run; return their numbers."""
    names = ("id", "name", "created_at", "updated_at", "deleted_at")
    table = sa.table("experiments", *(sa.column(name) for name in (*names, "row_digest")))
    first: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: (run["started_at"], run["model"])):
        first.setdefault(run["model"], run["started_at"])
    for number, (model, moment) in enumerate(first.items(), start=1):
        values = (number, model, moment, moment, None)
        digest = row_digest("experiments", values)
        op.get_bind().execute(
            sa.insert(table).values(**dict(zip(names, values, strict=True)), row_digest=digest)
        )
    return {model: number for number, model in enumerate(first, start=1)}


def _make_runs() -> None:
    op.create_table(
        "runs",
        *(
            sa.Column(name, sa.Text(), nullable=name in {"ended_at", "manifest"})
            for name in _RUN_COLUMNS
        ),
        sa.Column("experiment", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.Text(), nullable=True),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_invocation", "runs", ["invocation"])
    op.create_index("ix_runs_model_started_at", "runs", ["model", "started_at"])
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_index("ix_runs_experiment_started_at_id", "runs", ["experiment", "started_at", "id"])


def _make_experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.Text(), nullable=True),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
        sa.UniqueConstraint("name", name="uq_experiments_name"),
    )
    op.create_table(
        "experiment_tags",
        sa.Column("experiment", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("experiment", "key", name="pk_experiment_tags"),
        sqlite_with_rowid=False,
    )


def _make_run_logs() -> None:
    op.create_table(
        "run_params",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "key", name="pk_run_params"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_tags",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "key", name="pk_run_tags"),
        sqlite_with_rowid=False,
    )


def _make_inputs() -> None:
    op.create_table(
        "run_inputs",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "name", "digest", name="pk_run_inputs"),
    )
    op.create_index("ix_run_inputs_name_digest", "run_inputs", ["name", "digest"])
    op.create_table(
        "run_model_inputs",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("logged_model", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "logged_model", name="pk_run_model_inputs"),
    )
    op.create_table(
        "run_outputs",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("logged_model", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "logged_model", name="pk_run_outputs"),
    )
    op.create_table(
        "artifacts",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column(
            "path",
            sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "path", name="pk_artifacts"),
    )
    op.create_index("ix_artifacts_file", "artifacts", ["file"])


def _make_metrics() -> None:
    op.create_table(
        "metric_series",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("logged_at_us", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("row_check", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run", "name", name="pk_metric_series"),
        sa.UniqueConstraint("id", name="uq_metric_series_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_metric_series_name_value_run", "metric_series", ["name", "value", "run"])
    op.create_table(
        "metric_points",
        sa.Column("series", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("logged_at_us", sa.BigInteger(), nullable=False),
        sa.Column("value_bits", sa.BigInteger(), nullable=False),
        sa.Column("row_check", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "series", "step", "logged_at_us", "value_bits", name="pk_metric_points"
        ),
        sqlite_with_rowid=False,
    )


def _move_curves() -> None:
    """Make a row of each point of the packed curves: steps, values and moments, little-endian.

    A curve that is not whole points is damaged; it comes back from its journal.
    """
    connection = op.get_bind()
    old = sa.table("run_points", *(sa.column(name) for name in ("run", "name", "points")))
    kept = connection.execute(sa.select(old).order_by(old.c.run, old.c.name)).all()
    for number, (run, name, data) in enumerate(kept, start=1):
        count, rest = divmod(len(data), 24)
        if not count or rest:
            continue
        columns = struct.unpack(f"<{count}q{count}q{count}q", bytes(data))
        steps, words, moments = (columns[place * count : (place + 1) * count] for place in range(3))
        bits = [0 if word == _MINUS_ZERO else word for word in words]
        points = sorted(set(zip(steps, moments, bits, strict=True)))
        step, moment, value = max(
            (step, moment, struct.unpack("<d", struct.pack("<q", word))[0])
            for step, moment, word in points
        )
        series = (number, run, name, step, moment, value)
        _insert("metric_series", _SERIES, [(*series, number_check(*series))])
        rows = [(number, *point) for point in points]
        _insert("metric_points", _POINT, [(*row, number_check(*row)) for row in rows])
    op.drop_table("run_points")


def _insert(table: str, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    into = sa.table(table, *(sa.column(name) for name in names))
    op.get_bind().execute(sa.insert(into), [dict(zip(names, row, strict=True)) for row in rows])


def _make_logged_models() -> None:
    op.create_table(
        "logged_models",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("experiment", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.Text(), nullable=True),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_logged_models"),
    )
    op.create_index(
        "ix_logged_models_experiment_created_at_id",
        "logged_models",
        ["experiment", "created_at", "id"],
    )
    op.create_index("ix_logged_models_run", "logged_models", ["run"])


def _make_logged_model_details() -> None:
    op.create_table(
        "logged_model_params",
        sa.Column("logged_model", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("logged_model", "key", name="pk_logged_model_params"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "logged_model_tags",
        sa.Column("logged_model", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("logged_model", "key", name="pk_logged_model_tags"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "logged_model_metrics",
        sa.Column("logged_model", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("dataset_name", sa.Text(), nullable=False),
        sa.Column("dataset_digest", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("logged_at_us", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("row_check", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "logged_model",
            "name",
            "run",
            "dataset_name",
            "dataset_digest",
            name="pk_logged_model_metrics",
        ),
    )
    op.create_index(
        "ix_logged_model_metrics_name_value_logged_model",
        "logged_model_metrics",
        ["name", "value", "logged_model"],
    )


def _make_traces() -> None:
    op.create_table(
        "traces",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("experiment", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.Text(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("client_request", sa.Text(), nullable=False),
        sa.Column("request_preview", sa.Text(), nullable=False),
        sa.Column("response_preview", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_traces"),
    )
    op.create_index(
        "ix_traces_experiment_requested_at_id", "traces", ["experiment", "requested_at", "id"]
    )
    op.create_index("ix_traces_run", "traces", ["run"])
    op.create_table(
        "trace_tags",
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trace", "key", name="pk_trace_tags"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trace_metadata",
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trace", "key", name="pk_trace_metadata"),
        sqlite_with_rowid=False,
    )


def _make_registry() -> None:
    op.create_table(
        "registered_models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_registered_models"),
        sa.UniqueConstraint("model", name="uq_registered_models_model"),
    )
    op.create_table(
        "registered_model_tags",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "key", name="pk_registered_model_tags"),
        sqlite_with_rowid=False,
    )


def _make_model_versions() -> None:
    op.create_table(
        "model_versions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("logged_model", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "number", name="pk_model_versions"),
    )
    op.create_index("ix_model_versions_manifest", "model_versions", ["manifest"])
    op.create_index("ix_model_versions_name_version", "model_versions", ["name", "version"])
    op.create_index("ix_model_versions_run", "model_versions", ["run"])
    op.create_table(
        "model_version_tags",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "number", "key", name="pk_model_version_tags"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tokens",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Text(), nullable=True),
        sa.Column("row_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_tokens"),
        sa.UniqueConstraint("name", name="uq_tokens_name"),
    )
