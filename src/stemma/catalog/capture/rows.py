"""Rows as digests and columns as statistics, in bounded memory.

Invariants:
    * A row's digest covers its inputs only and does not depend on where the row came from:
      the same numbers in a CSV, a float32 or an int64 array give the same digest.
    * Memory does not grow with the values seen: distinct values are counted up to a limit.

This module reads no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stemma.domain.errors import InvalidInputError

ROW_DIGEST_BYTES: Final = 16
ROW_DIGEST_LIMIT: Final = 8_000_000
"""Beyond it (128 MiB of digests) row digests are given up: overlap cannot be checked."""

DISTINCT_LIMIT: Final = 1_000
"""Distinct values of a column are counted up to here."""

_BLOCK_ROWS: Final = 8_192
_EXACT_INTEGER: Final = 2**53


def canonical_numbers(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return little-endian float64 with one zero and one NaN."""
    numbers = np.ascontiguousarray(values, dtype="<f8") + 0.0
    numbers[np.isnan(numbers)] = np.nan
    return numbers


def digest_rows(features: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return (n, 16) uint8: the first 16 bytes of blake3 of each row's inputs.

    Raises:
        InvalidInputError: If ``features`` has no rows dimension.
    """
    if features.ndim == 0:
        raise InvalidInputError(
            "a dataset needs rows: got a single value",
            code="bad-dataset",
            hint="pass an array of shape (rows, columns)",
        )
    digests = np.empty((len(features), ROW_DIGEST_BYTES), dtype=np.uint8)
    for start in range(0, len(features), _BLOCK_ROWS):
        block = features[start : start + _BLOCK_ROWS]
        for offset, data in enumerate(_row_bytes(block.reshape(len(block), -1))):
            digests[start + offset] = _short_digest(data)
    return digests


def _row_bytes(block: NDArray[np.generic]) -> Sequence[bytes]:
    if block.dtype.kind in "biuf" and block.dtype.itemsize <= np.dtype("f8").itemsize:
        return [row.tobytes() for row in canonical_numbers(block)]
    if block.dtype.kind in "OUS":
        return [encode_cells(row) for row in block.tolist()]
    contiguous = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<"))
    return [row.tobytes() for row in contiguous]


def encode_cells(cells: Sequence[object]) -> bytes:
    """Return the bytes of one row of mixed cells; all-number rows read as a float64 row."""
    numbers = [_number(cell) for cell in cells]
    if all(number is not None for number in numbers):
        return canonical_numbers(np.array(numbers, dtype="<f8")).tobytes()
    parts = [b"mixed"]
    for cell, number in zip(cells, numbers, strict=True):
        if number is not None:
            data = b"f" + canonical_numbers(np.array([number])).tobytes()
        else:
            data = b"s" + _text(cell).encode("utf-8", errors="surrogateescape")
        parts.append(len(data).to_bytes(8, "little") + data)
    return b"".join(parts)


def digest_cells(cells: Sequence[object]) -> bytes:
    """Return the 16-byte digest of one row of mixed cells."""
    return blake3(encode_cells(cells)).digest(length=ROW_DIGEST_BYTES)


def digest_numbers(block: NDArray[np.float64]) -> list[bytes]:
    """Return the 16-byte digest of each row of a (n, k) block of numbers."""
    return [
        blake3(row.tobytes()).digest(length=ROW_DIGEST_BYTES) for row in canonical_numbers(block)
    ]


def _short_digest(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(blake3(data).digest(length=ROW_DIGEST_BYTES), dtype=np.uint8)


def _text(cell: object) -> str:
    return cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else str(cell)


def _number(cell: object) -> float | None:
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        return parse_number(cell)
    if isinstance(cell, int | float | np.number):
        return float(cell)
    return None


NULL_TEXTS: Final = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
"""Cells that stand for a missing value."""


def parse_number(text: str) -> float | None:
    """Return the number a cell says; NaN for a missing one, ``None`` for text."""
    if text in NULL_TEXTS:
        return math.nan
    if "_" in text:  # float() reads 1_000, which no data file means
        return None
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(slots=True)
class ColumnSummary:
    """Running statistics of one column.

    Attributes:
        name: The column's name.
        count: Values that are not missing.
        null_count: Missing values (NaN too).
        is_numeric: Every value so far was a number.
        is_integer: Every value so far was a whole number, written as one.
        distinct: Distinct values, up to ``DISTINCT_LIMIT`` + 1.
    """

    name: str
    count: int = 0
    null_count: int = 0
    is_numeric: bool = True
    is_integer: bool = True
    distinct: set[object] = field(default_factory=set)
    _minimum: float = math.inf
    _maximum: float = -math.inf
    _mean: float = 0.0
    _squares: float = 0.0
    _finite_count: int = 0
    _longest: int = 0

    def add_numbers(self, values: NDArray[np.generic]) -> None:
        """Take in a block of numbers; NaN counts as missing."""
        numbers = np.asarray(values, dtype=np.float64)
        present = numbers[~np.isnan(numbers)]
        self.null_count += numbers.size - present.size
        self.count += present.size
        if present.size and len(self.distinct) <= DISTINCT_LIMIT:
            self._add_distinct(np.unique(present)[: DISTINCT_LIMIT + 1].tolist())
        self._merge(present[np.isfinite(present)])

    def _merge(self, finite: NDArray[np.float64]) -> None:
        """Combine means and squares of two parts (Chan et al.), stable for long columns."""
        if not finite.size:
            return
        self._minimum = min(self._minimum, float(finite.min()))
        self._maximum = max(self._maximum, float(finite.max()))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(finite.mean())
            squares = float(((finite - mean) ** 2).sum())
        total = self._finite_count + finite.size
        delta = mean - self._mean
        self._mean += delta * finite.size / total
        self._squares += squares + delta * delta * self._finite_count * finite.size / total
        self._finite_count = total

    def add_texts(self, values: Sequence[str]) -> None:
        """Take in a block of texts; from now on the column is text."""
        self.is_numeric = self.is_integer = False
        present = [value for value in values if value not in NULL_TEXTS]
        self.null_count += len(values) - len(present)
        self.count += len(present)
        self._longest = max([self._longest, *map(len, present)])
        if len(self.distinct) <= DISTINCT_LIMIT:
            self._add_distinct(present)

    def _add_distinct(self, values: Sequence[object]) -> None:
        for value in values:
            self.distinct.add(value)
            if len(self.distinct) > DISTINCT_LIMIT:
                return

    @property
    def dtype(self) -> str:
        """``int64``, ``float64`` or ``str``."""
        if not self.is_numeric or not self.count:
            return "str" if self.count else "float64"
        is_exact = max(abs(self._minimum), abs(self._maximum)) < _EXACT_INTEGER
        return "int64" if self.is_integer and is_exact and not self.null_count else "float64"

    def as_json(self) -> dict[str, object]:
        """Return the statistics as JSON values; what overflowed is left out."""
        answer: dict[str, object] = {"count": self.count, "nulls": self.null_count}
        if len(self.distinct) <= DISTINCT_LIMIT:
            answer["distinct"] = len(self.distinct)
        else:
            answer["distinct_over"] = DISTINCT_LIMIT
        if not self.is_numeric:
            answer["longest"] = self._longest
        elif self._finite_count:
            deviation = math.sqrt(max(self._squares, 0.0) / self._finite_count)
            figures = {
                "min": self._minimum,
                "max": self._maximum,
                "mean": self._mean,
                "std": deviation,
            }
            answer |= {key: value for key, value in figures.items() if math.isfinite(value)}
        return answer
