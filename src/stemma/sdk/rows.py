"""Rows of a dataset's file, one by one or in batches, wherever the file is opened from.

Invariants:
    * Memory holds one batch, one page per column of a Parquet file, or one array whose rows do
      not lie one after another (in Fortran order); a ``.json`` list is read whole.
    * A row has the columns that ``to_pandas`` has; numbers of text files are those that the
      schema says, and what is missing is ``None``, in batches of numbers NaN.
    * Nothing is unpickled.

It opens no file itself and knows nothing of versions.
"""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from stemma.catalog.capture.rows import NULL_TEXTS, parse_number
from stemma.catalog.capture.tables import (
    ENCODING,
    ENCODING_ERRORS,
    UnreadableTableError,
    csv_text,
    json_lines,
)
from stemma.domain.component import ValueSpec
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.ref import did_you_mean, suggest
from stemma.sdk.libraries import library
from stemma.store.formats.locate import TensorPlace, as_array, locate_tensors, read_array

Row = dict[str, Any]
Batch = dict[str, NDArray[Any]]
Value = TypeVar("Value")

FEATURES: Final = "features"
LABELS: Final = "labels"
LABEL: Final = "label"
_MATRIX: Final = 2
_ROWS_AT_ONCE: Final = 1024
_SHOWN_COLUMNS: Final = 10
_PAGES_BYTES: Final = 64 << 10
_ARRAYS: Final = frozenset({"npz", "npy"})
_FAULTS: Final = (csv.Error, UnreadableTableError, zipfile.BadZipFile, ValueError, EOFError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSource:
    """A file with rows.

    Attributes:
        name: Of the dataset.
        format: ``csv``, ``tsv``, ``json``, ``jsonl``, ``parquet``, ``npz`` or ``npy``.
        open: Opens it, anew each time.
        columns: Returns its schema.
        wanted: Columns to read; empty for all.
    """

    name: str
    format: str
    open: Callable[[], BinaryIO]
    columns: Callable[[], tuple[ValueSpec, ...]]
    wanted: tuple[str, ...] = ()


def iterate_rows(source: RowSource) -> Iterator[Row]:
    """Yield rows from the first to the last.

    Raises:
        InvalidInputError: If the format has no rows, the file is malformed (``not-a-table``), or
            a library is missing.
        IntegrityError: If what is stored is damaged.
    """
    try:
        if source.format in _ARRAYS:
            for batch in _array_batches(source, _ROWS_AT_ONCE):
                for values in zip(*batch.values(), strict=True):
                    yield dict(zip(batch, values, strict=True))
        else:
            for row in _records(source):
                yield chosen(source.name, row, source.wanted)
    except _FAULTS as error:
        raise _malformed(source, error) from error


def iterate_batches(source: RowSource, row_count: int) -> Iterator[Batch]:
    """Yield arrays of up to so many rows, by column; see ``iterate_rows`` for errors."""
    if row_count < 1:
        raise InvalidInputError(
            f"batches of {row_count} rows", code="bad-batch", hint="ask for one row or more"
        )
    try:
        if source.format in _ARRAYS:
            yield from _array_batches(source, row_count)
        else:
            records = (chosen(source.name, row, source.wanted) for row in _records(source))
            while rows := list(islice(records, row_count)):
                yield {name: _column([row.get(name) for row in rows]) for name in rows[0]}
    except _FAULTS as error:
        raise _malformed(source, error) from error


def chosen(name: str, row: dict[str, Value], wanted: Sequence[str]) -> dict[str, Value]:
    """Return some columns of a row or batch of the dataset of that name; all when none is named.

    Raises:
        NotFoundError: If there is no such column (``column-not-found``).
    """
    for column in wanted:
        if column not in row:
            near = suggest(column, row)
            raise NotFoundError(
                f"dataset {name} has no column {column}{did_you_mean(near)}",
                code="column-not-found",
                hint=f"it has {', '.join(islice(row, _SHOWN_COLUMNS))}",
            )
    return {column: row[column] for column in wanted} if wanted else row


def _malformed(source: RowSource, error: Exception) -> InvalidInputError:
    reason = " ".join(str(error).split())[:200]
    return InvalidInputError(
        f"dataset {source.name} cannot be read as {source.format}: {reason}",
        code="not-a-table",
        hint="read .open() with the library of your choice",
    )


def _records(source: RowSource) -> Iterator[Row]:
    with source.open() as stream:
        match source.format:
            case "csv" | "tsv":
                yield from _csv_rows(source, _text(stream))
            case "jsonl":
                yield from json_lines(_text(stream))
            case "json":
                yield from _json_rows(stream)
            case "parquet":
                parquet = library("pyarrow.parquet")
                # Page by page: a buffer ahead would hold the columns of all row groups.
                with parquet.ParquetFile(
                    stream, pre_buffer=False, buffer_size=_PAGES_BYTES
                ) as file:
                    names = dict.fromkeys(file.schema_arrow.names)
                    wanted = list(chosen(source.name, names, source.wanted))
                    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
                        yield from batch.to_pylist()
            case other:
                raise InvalidInputError(
                    f"dataset {source.name} is {other}: it has no rows to show as a table",
                    code="not-a-table",
                    hint="read .open() or .path() with the library of your choice",
                )


def _text(stream: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, ENCODING, errors=ENCODING_ERRORS, newline="")


def _json_rows(stream: BinaryIO) -> Iterator[Row]:
    value = json.load(_text(stream))
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UnreadableTableError("it is no list of objects")
    yield from value


def _csv_rows(source: RowSource, stream: io.TextIOWrapper) -> Iterator[Row]:
    text = csv_text(stream, "\t" if source.format == "tsv" else "")
    kinds = [spec.dtype for spec in source.columns()]
    reads = [_READS.get(kind, _as_text) for kind in kinds]
    width = len(text.names)
    if len(reads) != width:
        raise UnreadableTableError(f"{width} columns, {len(reads)} in the schema")
    for cells in text.rows:
        even = cells if len(cells) == width else [*cells, *[""] * width][:width]
        values = (read(cell) for read, cell in zip(reads, even, strict=True))
        yield dict(zip(text.names, values, strict=True))


def _as_text(cell: str) -> str | None:
    return None if cell in NULL_TEXTS else cell


def _as_float(cell: str) -> float | None:
    number = parse_number(cell)
    return None if number is None or math.isnan(number) else number


def _as_int(cell: str) -> int | None:
    return None if cell in NULL_TEXTS else int(cell)


_READS: Final[dict[str, Callable[[str], object]]] = {"int64": _as_int, "float64": _as_float}


def _column(values: list[Any]) -> NDArray[Any]:
    present = [value for value in values if value is not None]
    if len(present) == len(values):
        return np.array(values)
    if all(isinstance(value, int | float) for value in present):
        return np.array([math.nan if value is None else value for value in values], np.float64)
    return np.array(values, dtype=object)


# arrays -----------------------------------------------------------------------------------------


def by_column(arrays: Batch, columns: Sequence[ValueSpec]) -> Batch | None:
    """Return the named columns of recorded features; ``None`` when they have no names.

    Columns of several kinds were stored as text; the schema says what they were.
    """
    features = arrays.get(FEATURES)
    specs = [spec for spec in columns if spec.name not in {FEATURES, LABELS}]
    if features is None or not 1 <= features.ndim <= _MATRIX:
        return None
    table = features.reshape(len(features), -1 if features.size else len(specs))
    if len(specs) != table.shape[1]:
        return None
    found: Batch = {
        spec.name: _typed(table[:, number], spec.dtype) for number, spec in enumerate(specs)
    }
    if LABELS in arrays:
        found[LABEL] = arrays[LABELS]
    return found


def _typed(column: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype == "str":
        return column
    if column.dtype.kind == "U":
        if dtype == "bool":
            return np.asarray(column == "True")
        column = np.where(column == "", "nan", column).astype(np.float64)
    return column.astype(dtype)


def _array_batches(source: RowSource, row_count: int) -> Iterator[Batch]:
    columns = source.columns()
    with source.open() as stream:
        size_bytes = stream.seek(0, io.SEEK_END)
        places = locate_tensors(stream, size_bytes, name=f"data.{source.format}")
        if source.format == "npy":
            places = dict(zip([FEATURES], places.values(), strict=False))
        lengths = {place.shape[:1] for place in places.values()}
        if not places:
            raise UnreadableTableError("it holds no arrays")
        if len(lengths) != 1 or () in lengths:
            raise UnreadableTableError("its arrays are not of one length")
        blocks = [_blocks(stream, place, row_count) for place in places.values()]
        for values in zip(*blocks, strict=True):
            batch = dict(zip(places, values, strict=True))
            yield chosen(source.name, by_column(batch, columns) or batch, source.wanted)


def _blocks(stream: BinaryIO, place: TensorPlace, row_count: int) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array, some at a time, each block the caller's own."""
    total = place.shape[0]
    spans = [(start, min(start + row_count, total)) for start in range(0, total, row_count)]
    if place.strides is not None:
        whole = read_array(stream, place)
        for start, stop in spans:
            yield whole[start:stop].copy()
        return
    row_bytes = place.size_bytes // max(total, 1)
    if not place.member:
        for start, stop in spans:
            yield read_array(
                stream,
                replace(
                    place,
                    shape=(stop - start, *place.shape[1:]),
                    offset=place.offset + start * row_bytes,
                    size_bytes=(stop - start) * row_bytes,
                ),
            )
        return
    with zipfile.ZipFile(stream) as archive, archive.open(place.member) as member:
        member.seek(place.offset)
        for start, stop in spans:
            data = member.read((stop - start) * row_bytes)
            yield as_array(data, replace(place, shape=(stop - start, *place.shape[1:])))
