"""``stemma.runs``: runs as a table, searched and ordered.

Invariants:
    * The filter is MLflow's: comparisons joined by ``AND``.
    * Only ``to_pandas`` needs pandas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Final, final, overload

from typing_extensions import override

from stemma.domain.tracking import RunData
from stemma.sdk.libraries import library
from stemma.server.wiring import open_hub
from stemma.tracking.search.values import Search

_SHOWN_RUNS: Final = 10


@final
class RunTable(Sequence[RunData]):
    """Runs in order, each with its metrics, params and tags."""

    def __init__(self, found: Sequence[RunData]) -> None:
        """Hold what was found."""
        self._found = tuple(found)

    @overload
    def __getitem__(self, index: int) -> RunData: ...

    @overload
    def __getitem__(self, index: slice) -> RunTable: ...

    @override
    def __getitem__(self, index: int | slice) -> RunData | RunTable:
        """Return one run, or a part of the table."""
        if isinstance(index, slice):
            return RunTable(self._found[index])
        return self._found[index]

    @override
    def __len__(self) -> int:
        """Return how many runs there are."""
        return len(self._found)

    @override
    def __iter__(self) -> Iterator[RunData]:
        """Yield every run."""
        return iter(self._found)

    @override
    def __repr__(self) -> str:
        """Name the first runs."""
        first = ", ".join(data.record.id for data in self._found[:_SHOWN_RUNS])
        more = ", …" if len(self._found) > _SHOWN_RUNS else ""
        return f"<{len(self._found)} runs: {first}{more}>"

    def columns(self) -> dict[str, list[Any]]:
        """Return the table by column: ``run``, ``model``, ``state``, ``started_at``, and more.

        A metric, param or tag is ``metrics.NAME``, ``params.NAME`` or ``tags.NAME``; a run
        without it has NaN there, or ``None``.
        """
        records = [data.record for data in self._found]
        table: dict[str, list[Any]] = {
            "run": [str(record.id) for record in records],
            "model": [record.start.model for record in records],
            "state": [record.state.value for record in records],
            "started_at": [record.started_at for record in records],
        }
        metrics = [{point.name: point.value for point in data.metrics} for data in self._found]
        for name in _names(metrics):
            table[f"metrics.{name}"] = [values.get(name, math.nan) for values in metrics]
        for kind, labels in (
            ("params", [data.params for data in self._found]),
            ("tags", [data.tags for data in self._found]),
        ):
            for name in _names(labels):
                table[f"{kind}.{name}"] = [values.get(name) for values in labels]
        return table

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` with the columns of ``columns()``.

        Raises:
            InvalidInputError: If pandas is not installed.
        """
        return library("pandas").DataFrame(self.columns())


def runs(
    filter: str = "",  # noqa: A002 - the name that users of trackers know it by
    *,
    order_by: str | Sequence[str] = (),
    model: str = "",
    experiment: str | int | None = None,
    limit: int = 1_000,
) -> RunTable:
    """Return the runs that a filter takes, newest first unless ``order_by`` says otherwise.

    Args:
        filter: Comparisons joined by ``and``, as ``metrics.accuracy > 0.9 and params.lr = '0.1'``.
        order_by: One key or several, as ``metrics.loss`` or ``params.lr DESC``.
        model: Runs of this model only.
        experiment: Runs of this experiment only, by its name or number.
        limit: At most so many.

    Raises:
        InvalidInputError: If the filter or the order cannot be read, or names what runs have not.
        NotFoundError: If there is no such experiment.
    """
    order = (order_by,) if isinstance(order_by, str) else tuple(order_by)
    search = Search(
        filter=filter, order=tuple(key for key in order if key), model=model, page_size=limit
    )
    with closing(open_hub()) as hub:
        return RunTable(hub.search_runs(search, experiment=experiment))


def _names(labels: Iterable[Iterable[str]]) -> list[str]:
    return sorted({name for values in labels for name in values})
