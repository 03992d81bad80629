"""Data that grows from version to version: a table as CSV and parquet, and forests of trees."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

_CITIES: Final = ("Berlin", "Lagos", "Lima", "Osaka", "Porto", "Quito", "Tartu", "Turin", "Utrecht")
_STATES: Final = ("new", "paid", "packed", "sent", "returned")
_START: Final = 1_750_000_000
_GONE: Final = 1


class Table:
    """Orders of a shop: from version to version more rows, and one of the old ones gone."""

    def __init__(self, rows: Sequence[int]) -> None:
        """Make the longest version; ``rows`` are the numbers of orders by version."""
        self._rows = rows
        self._columns = self._longest(rows[-1])
        self._gone = np.random.default_rng(8).integers(0, rows[0], _GONE * len(rows))

    def _longest(self, rows: int) -> dict[str, NDArray[np.generic]]:
        random = np.random.default_rng(7)
        cents = np.round(np.exp(random.normal(3.2, 0.9, rows)), 2)
        amount = random.integers(1, 9, rows)
        return {
            "order": np.arange(1, rows + 1) + 100_000,
            "second": _START + np.cumsum(random.integers(0, 90, rows)),
            "customer": random.zipf(1.3, rows) % 50_000,
            "city": np.array(_CITIES)[random.integers(0, len(_CITIES), rows)],
            "state": np.array(_STATES)[random.integers(0, len(_STATES), rows)],
            "amount": amount,
            "price": cents,
            "total": np.round(cents * amount, 2),
            "score": np.round(random.normal(0.5, 0.2, rows), 6),
        }

    def _version(self, number: int) -> dict[str, NDArray[np.generic]]:
        kept = np.delete(np.arange(self._rows[number]), self._gone[: _GONE * number])
        return {name: column[kept] for name, column in self._columns.items()}

    def write_csv(self, path: Path, number: int) -> None:
        """Write a version as text."""
        columns = self._version(number)
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    def write_parquet(self, path: Path, number: int, *, is_cut_by_content: bool) -> None:
        """Write a version as pyarrow does unless told otherwise."""
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table(self._version(number))
        parquet.write_table(table, path, use_content_defined_chunking=is_cut_by_content)


def forests(counts: list[int]) -> Iterator[RandomForestClassifier]:
    """Yield a forest that grows by new trees, then forests fitted again on more rows."""
    images, labels = load_digits(return_X_y=True)
    forest = RandomForestClassifier(n_estimators=counts[0], random_state=5, warm_start=True)
    for count in counts:
        forest.set_params(n_estimators=count)
        yield forest.fit(images, labels)
    for share in (0.96, 0.98, 1.0):
        rows = int(share * len(images))
        refit = RandomForestClassifier(n_estimators=counts[-1], random_state=5)
        yield refit.fit(images[:rows], labels[:rows])
