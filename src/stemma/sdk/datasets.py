"""``stemma.data``: datasets, verified, as files, arrays or frames.

Of recorded versions, and of files that ``stemma add`` tracks: what a pointer names is read
from the store, whatever lies at its path.
"""

from __future__ import annotations

import importlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from stemma.catalog.capture.data import capture_dataset_path
from stemma.catalog.pointer_files import SUFFIX
from stemma.catalog.pointers import pointer_path, read_pointer
from stemma.domain import component
from stemma.domain.component import DatasetRole
from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.manifest import Manifest
from stemma.domain.ref import did_you_mean, suggest
from stemma.domain.run import RunState
from stemma.hub.base import Hub
from stemma.sdk.materials import materialise
from stemma.server.wiring import open_hub

_FEATURES = "features"
_LABELS = "labels"
_MATRIX = 2


class Dataset:
    """One dataset as a version used it."""

    def __init__(self, record: component.Dataset) -> None:
        """Stand for the dataset of a manifest."""
        self._record = record

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

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
        return self._record.source

    @property
    def columns(self) -> tuple[component.ValueSpec, ...]:
        """Its schema."""
        return self._record.columns

    def path(self) -> Path:
        """Return its only file, or its folder, verified; not to be written to."""
        with closing(open_hub()) as hub:
            folder = materialise(hub, self._record.content)
        files = [path for path in folder.rglob("*") if path.is_file()]
        return files[0] if len(files) == 1 and self._record.format != "folder" else folder

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays of a dataset that was recorded from arrays.

        Returns:
            ``features`` (n, …) and, where there are right answers, ``labels`` (n,).

        Raises:
            InvalidInputError: If it was recorded from other files.
        """
        match self._record.format:
            case "npz":
                with np.load(self.path(), allow_pickle=False) as archive:
                    return {name: archive[name] for name in archive.files}
            case "npy":
                return {_FEATURES: np.load(self.path(), allow_pickle=False)}
            case other:
                raise InvalidInputError(
                    f"dataset {self.name} is {other}, not arrays",
                    code="not-arrays",
                    hint="read .path() with the library of your choice",
                )

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame``; right answers are the column ``label``.

        Raises:
            InvalidInputError: If pandas is missing or the format has no rows.
        """
        pandas = _library("pandas")
        path = self.path() if self._record.format not in {"npz", "npy"} else None
        match self._record.format:
            case "csv" | "tsv":
                return pandas.read_csv(path, sep="," if self._record.format == "csv" else "\t")
            case "json" | "jsonl":
                return pandas.read_json(path, lines=self._record.format == "jsonl")
            case "parquet":
                return pandas.read_parquet(path)
            case "npz" | "npy":
                return self._frame(pandas)
            case other:
                raise InvalidInputError(
                    f"dataset {self.name} is {other}: it has no rows to show as a table",
                    code="not-a-table",
                    hint="read .path() with the library of your choice",
                )

    def _frame(self, pandas: Any) -> Any:
        arrays = self.arrays()
        features = arrays[_FEATURES]
        if features.ndim > _MATRIX:
            raise InvalidInputError(
                f"dataset {self.name} has {features.ndim} dimensions: no table",
                code="not-a-table",
                hint="use .arrays()",
            )
        table = features.reshape(len(features), -1)
        specs = [spec for spec in self.columns if spec.name not in {_FEATURES, _LABELS}]
        has_names = len(specs) == table.shape[1]
        names = [spec.name for spec in specs] if has_names else list(range(table.shape[1]))
        frame = pandas.DataFrame(table, columns=names)
        for spec in specs if has_names else []:
            # Columns of several kinds were stored as text; the schema says what they were.
            column = frame[spec.name]
            if table.dtype.kind == "U" and spec.dtype == "bool":
                frame[spec.name] = column == "True"
            elif spec.dtype != "str":
                frame[spec.name] = pandas.to_numeric(column).astype(spec.dtype)
        if _LABELS in arrays and arrays[_LABELS].ndim == 1:
            frame["label"] = arrays[_LABELS]
        return frame

    def to_arrow(self) -> Any:
        """Return a ``pyarrow.Table``.

        Raises:
            InvalidInputError: If pyarrow or pandas is missing, the format has no rows, or Arrow
                has no type for a column.
        """
        arrow = _library("pyarrow")
        try:
            return arrow.Table.from_pandas(self.to_pandas())
        except arrow.ArrowException as error:
            raise InvalidInputError(
                f"dataset {self.name} is no Arrow table: {error}",
                code="not-a-table",
                hint="use .to_pandas() or .path()",
            ) from error

    @override
    def __repr__(self) -> str:
        """Show what it is."""
        return f"<Dataset {self.name} ({self.role}): {self.row_count} rows, {self._record.format}>"


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
        pointer = _find_pointer(hub, ref) if not name else None
        if pointer is not None:
            return Dataset(_tracked(hub, ref, pointer))
        models = {view.name for view in hub.list_models()}
        if "@" in ref or ref in models:
            return Dataset(_choose(hub.resolve(ref).manifest, ref, name))
        return Dataset(_search(hub, ref, models))


def _find_pointer(hub: Hub, ref: str) -> Path | None:
    """Return the pointer file of a tracked path, seen from here or from the project's root."""
    named = Path(ref.removesuffix(SUFFIX))
    places = (pointer_path(folder / named) for folder in (Path(), hub.project_root) if named.name)
    return next((place for place in places if place.is_file()), None)


def _tracked(hub: Hub, ref: str, file: Path) -> component.Dataset:
    pointer = read_pointer(file)
    folder = materialise(hub, pointer.content)
    tracked = file.name.removesuffix(SUFFIX)
    content = folder if pointer.kind == "folder" else folder / tracked
    found = capture_dataset_path(tracked, content, DatasetRole.TRAINING)
    return component.Dataset(
        name=tracked,
        role=found.role,
        identity=Digest.blake3(found.canonical_digest),
        content=pointer.content,
        format=found.format,
        row_count=found.row_count,
        size_bytes=pointer.size_bytes,
        columns=found.columns,
        source=ref.removesuffix(SUFFIX),
    )


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


def _search(hub: Hub, name: str, models: set[str]) -> component.Dataset:
    seen: set[str] = set()
    for run in hub.list_runs():
        if run.state is not RunState.FINISHED or run.start.model not in models:
            continue
        manifest = hub.resolve(f"{run.start.model}@{run.id}").manifest
        for dataset in manifest.datasets.datasets:
            if dataset.name == name:
                return dataset
            seen.add(dataset.name)
    near = suggest(name, seen)
    raise NotFoundError(
        f"no dataset is called {name}{did_you_mean(near)}",
        code="dataset-not-found",
        hint=f"stemma.data({near[0]!r})" if near else "stemma show lists a version's",
    )


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"this needs {name}, which is not installed",
            code="library-missing",
            hint=f"pip install {name}",
        ) from error
