"""Removes runs with all they logged.

Invariants:
    * Nothing of a run stays: rows that name a run that is gone would be damage to doctor.
    * Logged models of a run and versions made from it are things of their own, and stay.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, delete, select

from stemma.db.tables import runs
from stemma.db.tracking_tables import (
    artifacts,
    metric_points,
    metric_series,
    run_inputs,
    run_model_inputs,
    run_outputs,
    run_params,
    run_tags,
)

RUN_TABLES = (run_params, run_tags, run_inputs, run_model_inputs, run_outputs)
"""Tables whose rows belong to the run in their column ``run``."""


def forget_runs(connection: Connection, of: Select[Any]) -> None:
    """Remove the runs whose ids a query of one column gives."""
    series = select(metric_series.c.id).where(metric_series.c.run.in_(of))
    connection.execute(delete(metric_points).where(metric_points.c.series.in_(series)))
    connection.execute(delete(metric_series).where(metric_series.c.run.in_(of)))
    for table in RUN_TABLES:
        connection.execute(delete(table).where(table.c.run.in_(of)))
    connection.execute(delete(artifacts).where(artifacts.c.owner.in_(of)))
    connection.execute(delete(runs).where(runs.c.id.in_(of)))
