"""CSV, TSV and JSON-lines files, read once from end to end in blocks of rows.

Invariants:
    * Memory is bounded by the block and by the row digests, not by the file.
    * The canonical digest covers cells, not their writing: delimiter, quotes, line
      ends and a byte-order mark do not count.
    * Bytes that are not UTF-8 are kept as they are, never replaced.

This module does not say which role a file plays; see ``stemma.catalog.capture.data``.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, TextIO

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stemma.catalog.capture.rows import (
    NULL_TEXTS,
    ROW_DIGEST_BYTES,
    ROW_DIGEST_LIMIT,
    ColumnSummary,
    digest_cells,
    digest_numbers,
    parse_number,
)
from stemma.domain.component import ANY_SIZE, ValueSpec

_BLOCK_ROWS: Final = 4_096
ENCODING: Final = "utf-8-sig"
ENCODING_ERRORS: Final = "surrogateescape"
_DELIMITERS: Final = ",;\t|"
_COLUMN_LIMIT: Final = 10_000
LABEL_NAMES: Final = frozenset({"label", "labels", "target", "targets", "class", "y"})
"""Columns of these names are taken for labels when none are named."""


class UnreadableTableError(ValueError):
    """The file is no table this module can read; the caller records it as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What one pass over a table found.

    Attributes:
        canonical_digest: blake3 hex over header and cells.
        row_count: Rows without the header.
        columns: Schema.
        statistics: By column name.
        row_digests: (n, 16) over inputs; ``None`` when there are too many rows.
    """

    canonical_digest: str
    row_count: int
    columns: tuple[ValueSpec, ...]
    statistics: dict[str, object]
    row_digests: NDArray[np.uint8] | None


class CsvText(NamedTuple):
    """A delimited file that is read row by row.

    Attributes:
        names: Of the columns; ``c0``, ``c1``, … where the file names none.
        has_header: Whether the first row has them.
        delimiter: What stands between cells.
        rows: Rows without the header, as they are read; empty lines are left out.
    """

    names: list[str]
    has_header: bool
    delimiter: str
    rows: Iterator[list[str]]


def csv_text(stream: TextIO, delimiter: str = "") -> CsvText:
    """Begin to read a delimited file; an empty ``delimiter`` is found out from the first line.

    Raises:
        csv.Error: If it is not one; also while rows are read.
    """
    first_line = stream.readline(1 << 20)
    stream.seek(0)
    chosen = delimiter or max(_DELIMITERS, key=first_line.count)
    rows: Iterator[list[str]] = (row for row in csv.reader(stream, delimiter=chosen) if row)
    first = next(rows, [])
    has_header = _is_header(first)
    names = first if has_header else [f"c{i}" for i in range(len(first))]
    if first and not has_header:
        rows = itertools.chain([first], rows)
    return CsvText(names, has_header, chosen, rows)


def read_csv(path: Path, label_columns: Sequence[str] = (), *, delimiter: str = "") -> Table:
    """Read a delimited file; an empty ``delimiter`` is found out from the first line.

    Raises:
        UnreadableTableError: If it is not one (a cell over 128 KiB, over 10,000 columns).
        OSError: If the file cannot be read.
    """
    with path.open(encoding=ENCODING, errors=ENCODING_ERRORS, newline="") as stream:
        return read_csv_stream(stream, label_columns, delimiter=delimiter)


def read_csv_stream(
    stream: TextIO, label_columns: Sequence[str] = (), *, delimiter: str = ""
) -> Table:
    """Read an open delimited file; see ``read_csv``."""
    try:
        text = csv_text(stream, delimiter)
        if len(text.names) > _COLUMN_LIMIT:
            raise UnreadableTableError(f"{len(text.names)} columns")
        reader = _Reader(names=text.names, labels=_label_columns(text.names, label_columns))
        reader.take(text.rows)
    except csv.Error as error:
        raise UnreadableTableError(str(error)) from error
    return reader.finish()


def read_jsonl(path: Path, label_columns: Sequence[str] = ()) -> Table:
    """Read one JSON object per line; the first line's keys are the columns.

    Raises:
        UnreadableTableError: If a line is not an object of the same keys.
        OSError: If the file cannot be read.
    """
    with path.open(encoding=ENCODING, errors=ENCODING_ERRORS) as stream:
        return read_records(json_lines(stream), label_columns)


def read_records(records: Iterable[dict[str, object]], label_columns: Sequence[str] = ()) -> Table:
    """Read dictionaries; the first one's keys are the columns.

    Raises:
        UnreadableTableError: If one of them has other keys.
    """
    iterator = iter(records)
    first = next(iterator, None)
    if first is None:
        return _Reader(names=[], labels=frozenset()).finish()
    names = sorted(first)

    def cells() -> Iterator[list[str]]:
        for number, record in enumerate(itertools.chain([first], iterator), start=1):
            if sorted(record) != names:
                raise UnreadableTableError(f"record {number} has other keys than the first")
            yield [_cell(record[name]) for name in names]

    reader = _Reader(names=names, labels=_label_columns(names, label_columns))
    reader.take(cells())
    return reader.finish()


def json_lines(lines: Iterable[str]) -> Iterator[dict[str, object]]:
    """Yield the object of each line; empty lines are left out.

    Raises:
        UnreadableTableError: If a line is no object.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UnreadableTableError(f"line {number}: {error}") from error
        if not isinstance(record, dict):
            raise UnreadableTableError(f"line {number} is not an object")
        yield record


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _is_header(row: Sequence[str]) -> bool:
    """A header names every column, once, and no name is a number."""
    named = [cell for cell in row if cell.strip()]
    return len(set(named)) == len(row) and all(parse_number(cell) is None for cell in row)


def _label_columns(names: Sequence[str], given: Sequence[str]) -> frozenset[int]:
    wanted = frozenset(given) or LABEL_NAMES
    found = {i for i, name in enumerate(names) if name in wanted}
    return frozenset(found if len(found) < len(names) else ())


@dataclass(slots=True)
class _Reader:
    """Takes rows in blocks and keeps what a ``Table`` needs."""

    names: list[str]
    labels: frozenset[int]
    summaries: list[ColumnSummary] = field(init=False)
    row_count: int = 0
    digests: bytearray | None = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.summaries = [ColumnSummary(name=name) for name in self.names]
        self._hasher = blake3()
        self._hasher.update(_canonical_row(self.names))

    _hasher: blake3 = field(init=False)

    def take(self, rows: Iterable[Sequence[str]]) -> None:
        """Read every row."""
        iterator = iter(rows)
        while block := list(itertools.islice(iterator, _BLOCK_ROWS)):
            self._take_block(block)

    def _take_block(self, block: list[Sequence[str]]) -> None:
        self._hasher.update(b"".join(map(_canonical_row, block)))
        self.row_count += len(block)
        width = len(self.names)
        is_even = all(len(row) == width for row in block)
        padded = block if is_even else [[*row, *[""] * width][:width] for row in block]
        numbers = [
            self._summarise(summary, cells)
            for summary, cells in zip(self.summaries, zip(*padded, strict=True), strict=True)
        ]
        self._digest_block(block, numbers if is_even else [None])

    @staticmethod
    def _summarise(summary: ColumnSummary, cells: Sequence[str]) -> NDArray[np.float64] | None:
        """Feed one column's block; its numbers, or ``None`` when one of them is text."""
        parsed = [parse_number(cell) for cell in cells]
        if any(number is None for number in parsed):
            summary.add_texts(cells)
            return None
        values = np.array(parsed, dtype=np.float64)
        if not summary.is_numeric:
            summary.add_texts(cells)
            return values
        if summary.is_integer:
            summary.is_integer = all(
                cell.lstrip("+-").isdigit() for cell in cells if cell not in NULL_TEXTS
            )
        summary.add_numbers(values)
        return values

    def _digest_block(
        self, block: list[Sequence[str]], numbers: Sequence[NDArray[np.float64] | None]
    ) -> None:
        if self.digests is None or self.row_count > ROW_DIGEST_LIMIT:
            self.digests = None
            return
        inputs = [column for i, column in enumerate(numbers) if i not in self.labels]
        known = [column for column in inputs if column is not None]
        if known and len(known) == len(inputs):
            self.digests += b"".join(digest_numbers(np.column_stack(known)))
        else:
            kept = ([cell for i, cell in enumerate(row) if i not in self.labels] for row in block)
            self.digests += b"".join(map(digest_cells, kept))

    def finish(self) -> Table:
        """Return what was found."""
        digests = self.digests
        return Table(
            canonical_digest=self._hasher.hexdigest(),
            row_count=self.row_count,
            columns=tuple(
                ValueSpec(name=summary.name, dtype=summary.dtype, shape=(ANY_SIZE,))
                for summary in self.summaries
            ),
            statistics={summary.name: summary.as_json() for summary in self.summaries},
            row_digests=None
            if digests is None
            else np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, ROW_DIGEST_BYTES),
        )


def _canonical_row(row: Sequence[str]) -> bytes:
    """Return bytes that no other row has: separators that also occur in a cell force JSON."""
    joined = "\x1f".join(row)
    if joined.count("\x1f") != max(len(row) - 1, 0) or "\x1e" in joined or "\x1d" in joined:
        joined = "\x1d" + json.dumps(list(row), ensure_ascii=True)
    return (joined + "\x1e").encode("utf-8", errors="surrogateescape")
