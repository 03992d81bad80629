"""Tables of experiments, of what runs log, and of the registry as tracking clients see it.

Invariants:
    * As in ``stemma.db.tables``: moments are canonical text, flags are 0 or 1, and a table
      with a ``row_digest`` is sealed.
    * Rows of metrics are many and small; instead of a digest they carry ``row_check``, a
      CRC-32 of their values (``stemma.db.rows.number_check``).  Moments are microseconds
      since 1970 there.
    * A run, an experiment and a logged model are deleted by a moment first, and by garbage
      collection later.

``runs`` itself stands in ``stemma.db.tables``.  This module holds no queries.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from stemma.db.columns import (
    integer_column,
    metadata,
    number_column,
    path_column,
    text_column,
)


def _check() -> Column[int]:
    return Column("row_check", BigInteger, nullable=False)


def _labels(name: str, *owner: Column[str] | Column[int]) -> Table:
    """Return a table of keys and values that belong to something."""
    return Table(
        name,
        metadata,
        *owner,
        text_column("key"),
        text_column("value"),
        text_column("row_digest"),
        PrimaryKeyConstraint(*(column.name for column in owner), "key"),
        sqlite_with_rowid=False,
    )


experiments: Final = Table(
    "experiments",
    metadata,
    integer_column("id"),
    text_column("name"),
    text_column("created_at"),
    text_column("updated_at"),
    text_column("deleted_at", is_nullable=True),
    text_column("row_digest"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("name"),
)
"""A run of a model that names no experiment belongs to the one of the model's name."""

experiment_tags: Final = _labels("experiment_tags", integer_column("experiment"))
run_params: Final = _labels("run_params", text_column("run"))
run_tags: Final = _labels("run_tags", text_column("run"))

metric_series: Final = Table(
    "metric_series",
    metadata,
    integer_column("id"),
    text_column("run"),
    text_column("name"),
    integer_column("step"),
    integer_column("logged_at_us"),
    number_column("value"),
    _check(),
    PrimaryKeyConstraint("run", "name"),
    UniqueConstraint("id"),
    Index(None, "name", "value", "run"),
    sqlite_with_rowid=False,
)
"""One metric of one run, with its latest point: the greatest (step, moment, value).

What belongs to one run stands together, so that a page of runs is read in a few places."""

metric_points: Final = Table(
    "metric_points",
    metadata,
    integer_column("series"),
    integer_column("step"),
    integer_column("logged_at_us"),
    integer_column("value_bits"),
    _check(),
    PrimaryKeyConstraint("series", "step", "logged_at_us", "value_bits"),
    sqlite_with_rowid=False,
)
"""``value_bits`` are the IEEE 754 bits as a signed integer, so NaN is a value and equal points
are one row."""

run_inputs: Final = Table(
    "run_inputs",
    metadata,
    text_column("run"),
    text_column("name"),
    text_column("digest"),
    text_column("context"),
    text_column("body"),
    text_column("row_digest"),
    PrimaryKeyConstraint("run", "name", "digest"),
    Index(None, "name", "digest"),
)
"""``body`` is JSON: ``source_type``, ``source``, ``schema``, ``profile``, ``tags``."""

run_model_inputs: Final = Table(
    "run_model_inputs",
    metadata,
    text_column("run"),
    text_column("logged_model"),
    text_column("row_digest"),
    PrimaryKeyConstraint("run", "logged_model"),
)
"""Logged models that a run read."""

run_outputs: Final = Table(
    "run_outputs",
    metadata,
    text_column("run"),
    text_column("logged_model"),
    integer_column("step"),
    text_column("row_digest"),
    PrimaryKeyConstraint("run", "logged_model"),
)

logged_models: Final = Table(
    "logged_models",
    metadata,
    text_column("id"),
    integer_column("experiment"),
    text_column("run"),
    text_column("name"),
    text_column("type"),
    text_column("state"),
    text_column("state_message"),
    text_column("created_at"),
    text_column("updated_at"),
    text_column("deleted_at", is_nullable=True),
    text_column("row_digest"),
    PrimaryKeyConstraint("id"),
    Index(None, "experiment", "created_at", "id"),
    Index(None, "run"),
)
logged_model_params: Final = _labels("logged_model_params", text_column("logged_model"))
logged_model_tags: Final = _labels("logged_model_tags", text_column("logged_model"))
logged_model_metrics: Final = Table(
    "logged_model_metrics",
    metadata,
    text_column("logged_model"),
    text_column("name"),
    text_column("run"),
    text_column("dataset_name"),
    text_column("dataset_digest"),
    integer_column("step"),
    integer_column("logged_at_us"),
    number_column("value"),
    _check(),
    PrimaryKeyConstraint("logged_model", "name", "run", "dataset_name", "dataset_digest"),
    Index(None, "name", "value", "logged_model"),
)

traces: Final = Table(
    "traces",
    metadata,
    text_column("id"),
    integer_column("experiment"),
    text_column("run"),
    text_column("name"),
    text_column("state"),
    text_column("requested_at"),
    integer_column("duration_ms", is_nullable=True),
    text_column("client_request"),
    text_column("request_preview"),
    text_column("response_preview"),
    text_column("row_digest"),
    PrimaryKeyConstraint("id"),
    Index(None, "experiment", "requested_at", "id"),
    Index(None, "run"),
)
"""What a call did stands in a file, among the artifacts of the trace."""

trace_tags: Final = _labels("trace_tags", text_column("trace"))
trace_metadata: Final = _labels("trace_metadata", text_column("trace"))

artifacts: Final = Table(
    "artifacts",
    metadata,
    text_column("owner"),
    path_column("path"),
    text_column("file"),
    integer_column("size_bytes"),
    text_column("stored_at"),
    text_column("row_digest"),
    PrimaryKeyConstraint("owner", "path"),
    Index(None, "file"),
)
"""Files of a run (``r-…``), a logged model (``m-…``) or a trace (``tr-…``), in the content
store by digest."""

registered_models: Final = Table(
    "registered_models",
    metadata,
    text_column("name"),
    text_column("model"),
    text_column("description"),
    text_column("created_at"),
    text_column("updated_at"),
    text_column("row_digest"),
    PrimaryKeyConstraint("name"),
    UniqueConstraint("model"),
)
"""``model`` is the name the catalog knows it by: any name, made to fit the rule for names."""

registered_model_tags: Final = _labels("registered_model_tags", text_column("name"))

model_versions: Final = Table(
    "model_versions",
    metadata,
    text_column("name"),
    integer_column("number"),
    text_column("run"),
    text_column("logged_model"),
    text_column("source"),
    text_column("description"),
    text_column("stage"),
    text_column("created_at"),
    text_column("updated_at"),
    text_column("created_by"),
    text_column("manifest", is_nullable=True),
    text_column("version"),
    text_column("row_digest"),
    PrimaryKeyConstraint("name", "number"),
    Index(None, "name", "version"),
    Index(None, "run"),
    Index(None, "manifest"),
)
"""``version`` is the release's SemVer text; empty until it is released."""

model_version_tags: Final = _labels(
    "model_version_tags", text_column("name"), integer_column("number")
)

tokens: Final = Table(
    "tokens",
    metadata,
    text_column("digest"),
    text_column("name"),
    text_column("role"),
    text_column("created_at"),
    text_column("created_by"),
    text_column("expires_at", is_nullable=True),
    text_column("row_digest"),
    PrimaryKeyConstraint("digest"),
    UniqueConstraint("name"),
)
"""``digest`` is the sha256 of the token, which itself is stored nowhere."""
