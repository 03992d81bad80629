"""Deleted runs and logged models go for good once nobody may take the deletion back.

Invariants:
    * Until then everything of them stays, and their files are kept.
    * A run goes with all it logged, except its logged models: those are deleted themselves, or
      go with their experiment.
    * What a registered version is made of never goes, nor does a run whose candidate is kept.

It removes rows; garbage collection removes the files that no row names any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import final

from stemma.db.engine import Connection
from stemma.tracking import removal_queries as queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """A deleted run or logged model whose time is over.

    Attributes:
        id: Its id.
        deleted_at: When it was deleted, as canonical text.
        file_count: How many artifacts it has.
        size_bytes: How many bytes those have; other owners may name the same files.
    """

    id: str
    deleted_at: str
    file_count: int
    size_bytes: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What goes.

    Attributes:
        runs: Runs.
        models: Logged models.
        traces: Traces of experiments that go.
    """

    runs: tuple[Doomed, ...]
    models: tuple[Doomed, ...]
    traces: tuple[Doomed, ...] = ()

    @property
    def owners(self) -> frozenset[str]:
        """Whose artifacts are no longer kept."""
        return frozenset(doomed.id for doomed in (*self.runs, *self.models, *self.traces))


def find_doomed(connection: Connection, before: datetime) -> Removal:
    """Return what was deleted before a moment and may go."""
    runs = queries.deleted_runs(connection, before)
    models = queries.deleted_models(connection, before)
    traces = queries.deleted_traces(connection, before)
    sizes = queries.sizes(connection, [row.id for row in (*runs, *models, *traces)])

    def doomed(identity: str, deleted_at: str) -> Doomed:
        count, size_bytes = sizes.get(identity, (0, 0))
        return Doomed(id=identity, deleted_at=deleted_at, file_count=count, size_bytes=size_bytes)

    return Removal(
        runs=tuple(doomed(row.id, row.deleted_at) for row in runs),
        models=tuple(doomed(row.id, row.deleted_at) for row in models),
        traces=tuple(doomed(row.id, row.deleted_at) for row in traces),
    )


def forget(connection: Connection, removal: Removal) -> None:
    """Remove the rows of what goes."""
    queries.forget(
        connection,
        [doomed.id for doomed in removal.runs],
        [doomed.id for doomed in removal.models],
    )
    queries.forget_traces(connection, [doomed.id for doomed in removal.traces])
