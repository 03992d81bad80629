"""Rows and columns as JSON or CSV: the bodies of ``/invocations`` and ``:predict``.

Invariants:
    * Rows may be lists in the signature's order, or objects by name; columns are objects by name.
    * An object that lacks a name, or has another one, is refused with its row.

MLflow's ``dataframe_split`` and ``dataframe_records`` are read without pandas.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from numpy.typing import NDArray

from stemma.delivery.runtime.contract import OPEN_NAME, Contract
from stemma.delivery.runtime.model import Inputs
from stemma.delivery.runtime.values import Wanted, convert, parse
from stemma.domain.component import ANY_SIZE
from stemma.domain.errors import InvalidInputError

Members = Mapping[str, msgspec.Raw]
"""Members of a JSON object, not parsed yet."""

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RECORDS: Final = msgspec.json.Decoder(list[dict[str, Any]])
_ROWS: Final = msgspec.json.Decoder(list[list[Any]])
_VALUES: Final = msgspec.json.Decoder(list[Any])
_MOST_DIMENSIONS: Final = 8
_MATRIX: Final = 2
_START_BYTES: Final = 64
_EMPTY_CELLS: Final = frozenset({"", "NA", "NaN", "nan", "null"})


class _Split(msgspec.Struct):
    """``dataframe_split``."""

    data: msgspec.Raw
    columns: list[str] | None = None
    index: msgspec.Raw = msgspec.Raw(b"")


_SPLIT: Final = msgspec.json.Decoder(_Split)


def members(body: bytes) -> Members:
    """Return the members of a JSON object.

    Raises:
        InvalidInputError: If the body is none.
    """
    found: Members = _decode(_MEMBERS, body, "the body")
    return found


def from_rows(raw: msgspec.Raw, contract: Contract, name: str) -> Inputs:
    """Read ``instances``: rows as lists, values or objects.

    Raises:
        InvalidInputError: If they do not fit the signature.
    """
    start = _start(raw)
    if start.startswith(b"[{"):
        return from_records(_decode(_RECORDS, raw, name), contract)
    if contract.is_open:
        return {OPEN_NAME: parse(raw, _open_wanted(raw))}
    if contract.only is not None and not contract.is_table:
        return {contract.only.name: parse(raw, contract.only)}
    if contract.only is not None and not start.startswith(b"[["):
        values = _decode(_VALUES, raw, name)
        return {contract.only.name: convert(values, contract.only)}
    return _from_lists(_decode(_ROWS, raw, name), list(contract.wanted), contract)


def from_columns(raw: msgspec.Raw, contract: Contract, name: str) -> Inputs:
    """Read ``inputs``: arrays by name, or the only array.

    Raises:
        InvalidInputError: If they do not fit the signature.
    """
    if not _start(raw).startswith(b"{"):
        return from_rows(raw, contract, name)
    found: dict[str, NDArray[Any]] = {}
    for key, value in _decode(_MEMBERS, raw, name).items():
        if contract.is_open:
            found[OPEN_NAME] = parse(value, _open_wanted(value))
        else:
            wanted = contract.find(key)
            found[wanted.name] = parse(value, wanted)
    return contract.gather(found)


def from_split(raw: msgspec.Raw, contract: Contract) -> Inputs:
    """Read ``dataframe_split``: column names and rows.

    Raises:
        InvalidInputError: If they do not fit the signature.
    """
    split = _decode(_SPLIT, raw, "dataframe_split")
    if contract.is_table and split.columns is not None:
        rows = _decode(_ROWS, split.data, "dataframe_split.data")
        return _from_lists(rows, split.columns, contract)
    return from_rows(split.data, contract, "dataframe_split.data")


def from_records(records: list[dict[str, Any]], contract: Contract) -> Inputs:
    """Read objects by name, one per row.

    Raises:
        InvalidInputError: If one lacks a name or has another one.
    """
    columns: dict[str, list[Any]] = {name: [] for name in contract.wanted}
    for number, record in enumerate(records):
        own = {contract.own_names.get(key, ""): value for key, value in record.items()}
        if "" in own:
            raise contract.unknown(next(key for key in record if key not in contract.own_names))
        contract.require(own, f"row {number}: ")
        for name, column in columns.items():
            # A place left out is a missing value in a column, and an error in an array.
            column.append(own.get(name))
    used = set().union(*records) if records else set()
    kept = {contract.own_names[key] for key in used} | (set(columns) - contract.optional)
    return contract.gather(
        {
            name: convert(column, contract.wanted[name])
            for name, column in columns.items()
            if name in kept
        }
    )


def from_csv(body: bytes, contract: Contract) -> Inputs:
    """Read CSV; the first row names the columns, as MLflow has it.

    Raises:
        InvalidInputError: If it is no table, or does not fit the signature.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(body.decode("utf-8-sig"))) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"the body is no CSV in UTF-8: {error}", code="bad-body", hint="send text/csv"
        ) from error
    if len(rows) < 2:  # noqa: PLR2004 - a header and a row
        raise InvalidInputError(
            f"the CSV has {len(rows)} rows; a header and at least one row are needed",
            code="no-rows",
            hint="the first row names the columns",
        )
    names, data = rows[0], rows[1:]
    uneven = next((i for i, row in enumerate(data) if len(row) != len(names)), None)
    if uneven is not None:
        raise InvalidInputError(
            f"row {uneven} of the CSV has {len(data[uneven])} cells, the header {len(names)}",
            code="ragged-rows",
            hint="send as many cells in each row",
        )
    if contract.is_table:
        columns = {name: contract.find(name) for name in names}
        typed = {
            wanted.name: [_cell(row[i], wanted, f"{name}[{n}]") for n, row in enumerate(data)]
            for i, (name, wanted) in enumerate(columns.items())
        }
        return contract.gather({k: convert(v, contract.wanted[k]) for k, v in typed.items()})
    wanted = contract.only or Wanted(name=OPEN_NAME, dtype="", shape=(ANY_SIZE, ANY_SIZE))
    if len(wanted.shape) != _MATRIX:
        raise InvalidInputError(
            f"a CSV is a table; {wanted.name} needs {wanted.text}",
            code="shape-mismatch",
            hint="send JSON",
        )
    cells = [[_cell(cell, wanted, names[i]) for i, cell in enumerate(row)] for row in data]
    return {wanted.name: convert(cells, wanted)}


def _cell(text: str, wanted: Wanted, place: str) -> object:
    """Read one cell as the type its column has."""
    if wanted.dtype == "str":
        return text
    if wanted.dtype == "bool" and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        if wanted.dtype.startswith(("int", "uint")):
            return int(text)
        if wanted.dtype != "bool":
            return None if text in _EMPTY_CELLS else float(text)
    except ValueError:
        pass
    raise InvalidInputError(
        f"{place} is {text[:100]!r}, needs {wanted.text}",
        code="value-mismatch",
        hint="mind the decimal point and the column's name",
    )


def _from_lists(rows: list[list[Any]], names: Sequence[str], contract: Contract) -> Inputs:
    """Read rows as lists whose places have names."""
    specs = [contract.find(name) for name in names]
    uneven = next((i for i, row in enumerate(rows) if len(row) != len(specs)), None)
    if uneven is not None:
        raise InvalidInputError(
            f"row {uneven} has {len(rows[uneven])} values, needs {len(specs)}: "
            f"{', '.join(names[:20])}",
            code="ragged-rows",
            hint="send one value per input, in this order",
        )
    return contract.gather(
        {wanted.name: convert([row[i] for row in rows], wanted) for i, wanted in enumerate(specs)}
    )


def _start(raw: msgspec.Raw) -> bytes:
    """Return how a JSON value begins, without blanks."""
    return b"".join(bytes(memoryview(raw)[:_START_BYTES]).split())


def _open_wanted(raw: msgspec.Raw) -> Wanted:
    """Take as many dimensions as lists are open at the beginning."""
    text = _start(raw)
    rank = len(text) - len(text.lstrip(b"["))
    wanted = Wanted(name=OPEN_NAME, dtype="", shape=(ANY_SIZE,) * min(rank, _MOST_DIMENSIONS))
    return wanted if rank else Wanted(name=OPEN_NAME, dtype="", shape=(ANY_SIZE,))


def _decode(decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw, what: str) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidInputError(
            f"{what} cannot be read: {text}",
            code="bad-body",
            hint="NaN and Infinity are no JSON; send null for a missing number",
        ) from error
