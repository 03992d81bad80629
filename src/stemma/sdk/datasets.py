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
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, cast, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from stemma.catalog.capture.tables import ENCODING, ENCODING_ERRORS, csv_text, read_csv_stream
from stemma.catalog.table_pins.formats import NAMES as TABLE_FORMATS
from stemma.catalog.table_pins.pin import is_pin
from stemma.domain import component
from stemma.domain.component import DatasetRole
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.manifest import Manifest
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.run import RunState
from stemma.domain.tree import Tree, TreeEntry
from stemma.hub.base import Hub
from stemma.hub.parts import Owner, Parts
from stemma.sdk.libraries import library
from stemma.sdk.materials import materialise
from stemma.sdk.open_project import OpenProject
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
from stemma.store.ranges import OpenedFile

_MATRIX: Final = 2
_BUFFER_BYTES: Final = 64 << 10
_LINK_LIMIT: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFile:
    """One file of a dataset.

    Attributes:
        path: Below the dataset's folder.
        size_bytes: Its size.
    """

    path: str
    size_bytes: int


@final
class _OpenFile(io.BufferedReader):
    """A file of a dataset; the project stays open as long as it is used."""

    def __init__(self, raw: OpenedFile, project: OpenProject) -> None:
        super().__init__(raw, _BUFFER_BYTES)
        self._project = project


class Dataset:
    """One dataset as a version used it, or as it is tracked.

    Nothing of it is read before somebody asks.
    """

    def __init__(self, found: component.Dataset | Tracked, ref: str = "") -> None:
        """Stand for the dataset of a manifest, or for what a pointer names.

        Args:
            found: Which one.
            ref: Version it was found in.
        """
        self._found = found
        self._ref = ref
        self._project = OpenProject()

    @property
    def _record(self) -> component.Dataset:
        if isinstance(self._found, Tracked):
            self._found = self._found.capture()
        return self._found

    @property
    def _content(self) -> Digest:
        found = self._found
        return found.pointer.content if isinstance(found, Tracked) else found.content

    @property
    def name(self) -> str:
        """Its name."""
        return self._found.name

    @property
    def role(self) -> str:
        """``training``, ``validation`` or ``test``."""
        return self._record.role.value

    @property
    def row_count(self) -> int:
        """Number of rows; -1 when rows have no meaning."""
        return self._record.row_count

    @property
    def identity(self) -> str:
        """Digest of its canonical content."""
        return str(self._record.identity)

    @property
    def source(self) -> str:
        """Where it came from, as it was named when it was recorded."""
        return self._found.source

    @property
    def columns(self) -> tuple[component.ValueSpec, ...]:
        """Its schema."""
        return self._record.columns

    def path(self) -> Path:
        """Return its only file, or its folder, verified; not to be written to."""
        with closing(open_hub()) as hub:
            folder = materialise(hub, self._content, self._owner())
        files = [path for path in folder.rglob("*") if path.is_file()]
        return files[0] if len(files) == 1 and self._found.format != "folder" else folder

    def files(self) -> tuple[DatasetFile, ...]:
        """List its files, sorted by path; a link is listed as the file that it leads to.

        Raises:
            NotFoundError: If it is neither here nor on a remote (``contents-not-here``).
        """
        return tuple(
            DatasetFile(path=path, size_bytes=entry.size_bytes)
            for path, entry in self._entries().items()
        )

    def open(self, path: str = "") -> BinaryIO:
        """Open one of its files for reading anywhere in it.

        Only the chunks that are read are looked at, each verified; those that are not here
        come from the remote, and stay until the next collection.

        Args:
            path: Which file; without, the only one.

        Raises:
            NotFoundError: If there is no such file (``file-not-found``), or it is neither here
                nor on a remote (``contents-not-here``).
            InvalidInputError: If it has several files and none is named (``ambiguous-file``).
            IntegrityError: If what is stored is damaged; also while it is read.
        """
        entry = self._entry(path)
        owner = replace(self._owner(), what=f"{entry.path} of {self.name}")
        raw = self._project.parts().open(cast("Digest", entry.digest), owner)
        return _OpenFile(raw, self._project)

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

    def _owner(self) -> Owner:
        what = f"{self.name} of {self._ref}" if self._ref else self.name
        return Owner(what=what, ref=self._ref, component=f"data/{self._found.name}")

    def _entries(self) -> dict[str, TreeEntry]:
        return _followed(self._project.parts().tree(self._content, self._owner()))

    def _entry(self, path: str) -> TreeEntry:
        entries = self._entries()
        if path in entries:
            return entries[path]
        if path:
            near = suggest(path, entries)
            raise NotFoundError(
                f"dataset {self.name} has no file {path}{did_you_mean(near)}",
                code="file-not-found",
                hint=".files() lists them",
            )
        if len(entries) != 1:
            raise InvalidInputError(
                f"dataset {self.name} has {len(entries)} files",
                code="ambiguous-file",
                hint=f".open({next(iter(entries), '')!r}); .files() lists them",
            )
        return next(iter(entries.values()))

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

    @override
    def __repr__(self) -> str:
        """Show what it is."""
        found = self._found
        if isinstance(found, Tracked):
            return f"<Dataset {found.name}: {found.pointer.size_bytes} bytes, {found.format}>"
        return f"<Dataset {found.name} ({self.role}): {found.row_count} rows, {found.format}>"


def _followed(tree: Tree) -> dict[str, TreeEntry]:
    """Return files by path; a link that leads to no file is left out."""
    entries = {entry.path: entry for entry in tree.entries}
    found: dict[str, TreeEntry] = {}
    for path in entries:
        entry = entries.get(path)
        for _ in range(_LINK_LIMIT):
            if entry is None or entry.digest is not None:
                break
            target = posixpath.join(posixpath.dirname(entry.path), entry.target)
            entry = entries.get(posixpath.normpath(target))
        if entry is not None and entry.digest is not None:
            found[path] = entry
    return found


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
            return Dataset(_choose(hub.resolve(ref).manifest, ref, name), ref)
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
        for dataset in hub.resolve(ref).manifest.datasets.datasets:
            if dataset.name == name:
                return Dataset(dataset, ref)
            seen.add(dataset.name)
    near = suggest(name, seen)
    raise NotFoundError(
        f"no dataset is called {name}{did_you_mean(near)}",
        code="dataset-not-found",
        hint=f"stemma.data({near[0]!r})" if near else "stemma show lists a version's",
    )
