"""``stemma.data``: datasets, verified, as files, rows, arrays or frames.

Of recorded versions, and of files that ``stemma add`` tracks: what a pointer names is read
from the store, whatever lies at its path.

Invariants:
    * Finding a dataset reads nothing of its contents.
    * Contents are read from the store, or from a remote what is not here; ``path`` alone writes
      files to the disk.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stemma.catalog.capture.tables import ENCODING, ENCODING_ERRORS, csv_text, read_csv_stream
from stemma.catalog.table_pins.formats import NAMES as TABLE_FORMATS
from stemma.catalog.table_pins.pin import is_pin
from stemma.domain import component
from stemma.domain.component import DatasetRole
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.manifest import Manifest
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.run import RunState
from stemma.hub.base import Hub
from stemma.hub.parts import Owner, Parts
from stemma.sdk.dataset_files import DatasetFiles
from stemma.sdk.libraries import library
from stemma.sdk.rows import (
    FEATURES,
    LABEL,
    LABELS,
    RowSource,
    by_column,
    chosen,
    iterate_batches,
    iterate_rows,
)
from stemma.sdk.tracked import Tracked, find_tracked
from stemma.server.wiring import open_hub

_MATRIX: Final = 2


class Dataset(DatasetFiles):
    """One dataset as a version used it, or as it is tracked: its files, rows, arrays or frames.

    Nothing of it is read before somebody asks.
    """

    def rows(self, columns: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        """Yield its rows one by one, as values by column; memory stays bounded.

        Args:
            columns: Which columns; of Parquet nothing else is read.

        Raises:
            NotFoundError: If it has no such column.
            InvalidInputError: If it has no rows, or the library for its format is missing.
        """
        return iterate_rows(self._rows(columns))

    def batches(
        self, row_count: int = 1024, columns: Sequence[str] = ()
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield rows as arrays by column; memory stays bounded.

        Args:
            row_count: How many at a time; the last time fewer.
            columns: Which columns; of Parquet nothing else is read.

        Raises:
            NotFoundError: If it has no such column.
            InvalidInputError: If it has no rows, or the library for its format is missing.
        """
        return iterate_batches(self._rows(columns), row_count)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays of a dataset that was recorded from arrays.

        Returns:
            ``features`` (n, …) and, where there are right answers, ``labels`` (n,).

        Raises:
            InvalidInputError: If it was recorded from other files.
        """
        match self._found.format:
            case "npz":
                with self.open() as stream, np.load(stream, allow_pickle=False) as archive:
                    return {name: archive[name] for name in archive.files}
            case "npy":
                with self.open() as stream:
                    return {FEATURES: np.load(stream, allow_pickle=False)}
            case other:
                raise InvalidInputError(
                    f"dataset {self.name} is {other}, not arrays",
                    code="not-arrays",
                    hint="read .open() with the library of your choice",
                )

    def to_pandas(self, columns: Sequence[str] = ()) -> Any:
        """Return a ``pandas.DataFrame``; right answers are the column ``label``.

        Args:
            columns: Which columns; of Parquet nothing else is read.

        Raises:
            InvalidInputError: If pandas is missing or the format has no rows.
        """
        self._refuse_pin()
        pandas = library("pandas")
        wanted = list(columns) or None
        match self._found.format:
            case "csv" | "tsv":
                frame = self._csv_frame(pandas)
            case "json" | "jsonl":
                with self.open() as stream:
                    frame = pandas.read_json(stream, lines=self._found.format == "jsonl")
            case "parquet":
                return self.to_arrow(columns).to_pandas()
            case "npz" | "npy":
                frame = self._frame(pandas)
            case _:
                raise self._without_rows()
        chosen(self.name, frame, columns)
        return frame if wanted is None else frame[wanted]

    def to_arrow(self, columns: Sequence[str] = ()) -> Any:
        """Return a ``pyarrow.Table``.

        Args:
            columns: Which columns; of Parquet nothing else is read.

        Raises:
            InvalidInputError: If pyarrow or pandas is missing, the format has no rows, or Arrow
                has no type for a column.
        """
        self._refuse_pin()
        arrow = library("pyarrow")
        try:
            if self._found.format == "parquet":
                with self.open() as stream:
                    file = library("pyarrow.parquet").ParquetFile(stream, pre_buffer=False)
                    names = dict.fromkeys(file.schema_arrow.names)
                    return file.read(columns=list(chosen(self.name, names, columns)))
            return arrow.Table.from_pandas(self.to_pandas(columns))
        except arrow.ArrowException as error:
            raise InvalidInputError(
                f"dataset {self.name} is no Arrow table: {error}",
                code="not-a-table",
                hint="use .to_pandas() or .path()",
            ) from error

    # inside -------------------------------------------------------------------------------------

    def _refuse_pin(self) -> None:
        """A pinned table is read with its own library; its files alone are not its rows."""
        if self._found.format in TABLE_FORMATS:
            raise InvalidInputError(
                f"dataset {self.name} pins a snapshot of a table of format {self._found.format}:"
                " its rows are read with the table's own library",
                code="not-a-table",
                hint=f".open({self._pin_name()!r}) says location and snapshot",
            )

    def _pin_name(self) -> str:
        return next((path for path in self._entries() if is_pin(path)), "")

    def _without_rows(self) -> InvalidInputError:
        return InvalidInputError(
            f"dataset {self.name} is {self._found.format}: it has no rows to show as a table",
            code="not-a-table",
            hint="read .open() or .path() with the library of your choice",
        )

    def _rows(self, columns: Sequence[str]) -> RowSource:
        self._refuse_pin()
        if self._found.format == "folder":
            raise self._without_rows()
        return RowSource(
            name=self.name,
            format=self._found.format,
            open=self.open,
            columns=self._schema,
            wanted=tuple(columns),
        )

    def _schema(self) -> tuple[component.ValueSpec, ...]:
        """Return the schema; of a tracked file it is found in one pass over what is stored."""
        if not isinstance(self._found, Tracked):
            return self._found.columns
        if self._found.format not in {"csv", "tsv"}:
            return ()
        with self._text() as stream:
            delimiter = "\t" if self._found.format == "tsv" else ""
            return read_csv_stream(stream, delimiter=delimiter).columns

    def _text(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(self.open(), ENCODING, errors=ENCODING_ERRORS, newline="")

    def _csv_frame(self, pandas: Any) -> Any:
        with self._text() as stream:
            text = csv_text(stream, "\t" if self._found.format == "tsv" else "")
        with self.open() as stream:
            return pandas.read_csv(
                stream,
                sep=text.delimiter,
                header=0 if text.has_header else None,
                names=text.names or None,
            )

    def _frame(self, pandas: Any) -> Any:
        arrays = self.arrays()
        features = arrays[FEATURES]
        if features.ndim > _MATRIX:
            raise InvalidInputError(
                f"dataset {self.name} has {features.ndim} dimensions: no table",
                code="not-a-table",
                hint="use .arrays()",
            )
        named = by_column(arrays, self._schema())
        if named is not None:
            return pandas.DataFrame({key: row for key, row in named.items() if row.ndim == 1})
        frame = pandas.DataFrame(features.reshape(len(features), -1))
        if LABELS in arrays and arrays[LABELS].ndim == 1:
            frame[LABEL] = arrays[LABELS]
        return frame


def data(ref: str, name: str = "") -> Dataset:
    """Find a dataset.

    Args:
        ref: A version (``digits@1.0.0``); the path of what ``stemma add`` tracks
            (``data/train.csv``); or the name of a dataset, which is looked for in the newest
            run of each model.
        name: Which of the version's datasets; without, its training data.

    Raises:
        NotFoundError: If there is none of that name.
        IntegrityError: If a pointer, or what it names, is damaged.
        InvalidInputError: If a version has several training datasets and none is named.
    """
    with closing(open_hub()) as hub:
        tracked = find_tracked(hub.project_root, ref) if not name else None
        if tracked is not None:
            Parts(hub).tree(tracked.pointer.content, Owner(what=tracked.source))
            return Dataset(tracked)
        models = {view.name for view in hub.list_models()}
        if "@" in ref or ref in models:
            view = hub.resolve(ref)
            return Dataset(_choose(view.manifest, ref, name), ref, view.digest)
        return _search(hub, ref, models)


def _choose(manifest: Manifest, ref: str, name: str) -> component.Dataset:
    found = manifest.datasets.datasets
    wanted = [
        dataset
        for dataset in found
        if (dataset.name == name if name else dataset.role is DatasetRole.TRAINING)
    ]
    names = ", ".join(dataset.name for dataset in found) or "none"
    if not wanted:
        raise NotFoundError(
            f"{ref} has no dataset {name or 'for training'}",
            code="dataset-not-found",
            hint=f"it has {names}",
        )
    if len(wanted) > 1 and not name:
        raise InvalidInputError(
            f"{ref} has {len(wanted)} training datasets",
            code="ambiguous-dataset",
            hint=f"stemma.data({ref!r}, name=…), one of {names}",
        )
    return wanted[0]


def _search(hub: Hub, name: str, models: set[str]) -> Dataset:
    seen: set[str] = set()
    for run in hub.list_runs():
        if run.state is not RunState.FINISHED or run.start.model not in models:
            continue
        ref = f"{run.start.model}@{run.id}"
        view = hub.resolve(ref)
        for dataset in view.manifest.datasets.datasets:
            if dataset.name == name:
                return Dataset(dataset, ref, view.digest)
            seen.add(dataset.name)
    near = suggest(name, seen)
    raise NotFoundError(
        f"no dataset is called {name}{did_you_mean(near)}",
        code="dataset-not-found",
        hint=f"stemma.data({near[0]!r})" if near else "stemma show lists a version's",
    )
