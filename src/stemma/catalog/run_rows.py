"""Adds the rows of runs that are known from elsewhere: from manifests, or an older database.

Invariants:
    * A run of a model that names no experiment joins the one of its model; one without a name
      gets the name that its id stands for.
"""

from __future__ import annotations

from collections.abc import Iterable

from stemma.catalog.queries import insert_rows
from stemma.catalog.rows import NEW_RUN_VALUES
from stemma.db.engine import Connection
from stemma.db.model_experiments import experiment_of
from stemma.db.rows import Value
from stemma.db.tables import runs
from stemma.domain.run import RunId
from stemma.domain.run_names import name_of


def insert_runs(connection: Connection, rows: Iterable[dict[str, Value]]) -> None:
    """Add rows of runs, oldest first."""
    numbers: dict[str, int] = {}
    joined: list[dict[str, Value]] = []
    for row in sorted(rows, key=lambda row: (str(row["started_at"]), str(row["model"]))):
        model, number = str(row["model"]), row.get("experiment", 0)
        if model and not number:
            if model not in numbers:
                numbers[model] = experiment_of(connection, model, str(row["started_at"]))
            number = numbers[model]
        name = row.get("name") or name_of(RunId(str(row["id"])))
        joined.append({**NEW_RUN_VALUES, **row, "experiment": number, "name": name})
    insert_rows(connection, runs, joined)
