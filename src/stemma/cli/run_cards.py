"""Runs as tables and as JSON: what is known of each, and the values that were asked about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stemma.cli.plain import plain
from stemma.cli.version_cards import RUN_HEADER, run_rows
from stemma.domain.tracking import RunData
from stemma.tracking.search.fields import RUN_FIELDS, Entity, Field, resolve, resolve_order
from stemma.tracking.search.values import Search

_SHOWN = frozenset({Entity.METRIC, Entity.PARAM, Entity.TAG})


def asked_columns(search: Search) -> list[Field]:
    """Return the metrics, params and tags that a search names, each once, in its order.

    Raises:
        InvalidInputError: If the filter or the order cannot be.
    """
    named = [key.field for key in resolve_order(RUN_FIELDS, search.order)]
    named += [condition.field for condition in resolve(RUN_FIELDS, search.filter)]
    return list(dict.fromkeys(field for field in named if field.entity in _SHOWN))


def run_header(columns: Sequence[Field]) -> tuple[str, ...]:
    """Return the names of the columns, the asked ones last."""
    return (*RUN_HEADER, *(field.key for field in columns))


def run_table(
    found: Sequence[RunData], columns: Sequence[Field], *, is_precise: bool
) -> list[list[str]]:
    """Return one row per run: what is known of it, then what was asked about."""
    rows = run_rows([data.record for data in found], is_precise=is_precise)
    for row, data in zip(rows, found, strict=True):
        row += [_value(data, field, is_precise=is_precise) for field in columns]
    return rows


def run_payload(data: RunData) -> dict[str, Any]:
    """Return a run as JSON: its record, and what it logged by name; NaN is null."""
    metrics = {point.name: point.value for point in data.metrics}
    return {
        **plain(data.record),
        "metrics": {name: None if math.isnan(value) else value for name, value in metrics.items()},
        "params": dict(data.params),
        "tags": dict(data.tags),
    }


def _value(data: RunData, field: Field, *, is_precise: bool) -> str:
    if field.entity is not Entity.METRIC:
        return (data.params if field.entity is Entity.PARAM else data.tags).get(field.key, "")
    value = next((point.value for point in data.metrics if point.name == field.key), None)
    if value is None:
        return ""
    return repr(value) if is_precise else f"{value:.6g}"
