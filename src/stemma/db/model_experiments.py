"""The experiment that a model's own runs belong to: the one of the model's name.

Invariants:
    * There is one for each model that has runs; a deleted one is taken back, for a recording
      never fails because somebody deleted an experiment.

Everything else about experiments is in ``stemma.tracking.experiments``.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from stemma.db.bulk import insert_many
from stemma.db.rows import check, seal_values
from stemma.db.tracking_tables import experiments


def experiment_of(connection: Connection, model: str, moment: str) -> int:
    """Return the number of a model's experiment, made when there is none.

    Args:
        connection: Of the caller's transaction.
        model: The model's name.
        moment: Canonical text of now, or of the model's first run.
    """
    row = connection.execute(select(experiments).where(experiments.c.name == model)).one_or_none()
    if row is None:
        last = connection.execute(select(func.max(experiments.c.id))).scalar_one()
        number, created_at = max(0, last or 0) + 1, moment
    elif check(experiments, row).deleted_at is None:
        return int(row.id)
    else:
        number, created_at = int(row.id), row.created_at
    values = seal_values(experiments, number, model, created_at, moment, None)
    insert_many(connection, experiments, [values], replaces=True)
    return number
