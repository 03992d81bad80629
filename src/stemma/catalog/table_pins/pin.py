"""``NAME.table.json``: one snapshot of a table that lives elsewhere, as text for git.

Invariants (normative text: ``docs/formats/table-pin.md``):
    * One value has one text.
    * What the snapshot's own format never rewrites is named by sha256 (its *anchors*); data
      files, which anchors name, by path and size.
    * A pin holds no credentials.

It reads no table; see the module of each format beside it.

Example:
    >>> is_pin("data/sales.table.json")
    True
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.store.hashing import hash_bytes

PIN_SCHEMA: Final = "stemma.table/1"
SUFFIX: Final = ".table.json"
_LIMIT_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the table.

    Attributes:
        name: Its name.
        type: Its type as Arrow writes it (``int64``, ``list<item: float>``).
    """

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A file that the format writes once and that names the rest of the snapshot.

    Attributes:
        path: Below the table's folder, or an address.
        sha256: ``sha256:`` and the digest of its bytes.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file with rows.

    Attributes:
        path: Below the table's folder, or an address.
        size_bytes: Its size.
    """

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePin:
    """One snapshot of a table.

    Attributes:
        schema: ``stemma.table/1``.
        format: ``iceberg``, ``lance`` or ``delta``.
        location: The table's folder, below the project or absolute, or its address.
        table: The id that the format gave the table; empty where it gives none.
        snapshot: The snapshot's id or version, in decimal.
        row_count: Rows in it; -1 when the format does not say.
        columns: In order.
        anchors: Sorted by path.
        files: Sorted by path.
    """

    schema: str = PIN_SCHEMA
    format: str
    location: str
    table: str
    snapshot: str
    row_count: int
    columns: tuple[Column, ...]
    anchors: tuple[Anchor, ...]
    files: tuple[DataFile, ...]

    @property
    def canonical_digest(self) -> str:
        """blake3 (hex) of what the snapshot is, wherever the table lies."""
        facts = [self.format, self.table, self.snapshot]
        facts += [anchor.sha256 for anchor in self.anchors]
        return hash_bytes(json.dumps(facts).encode()).hex


def is_pin(path: str | Path) -> bool:
    """Whether a file's name says that it is a pin."""
    return Path(path).name.endswith(SUFFIX)


def encode_pin(pin: TablePin) -> bytes:
    """Return the text of a pin."""
    return (json.dumps(asdict(pin), indent=2, ensure_ascii=False) + "\n").encode()


def decode_pin(data: bytes, name: str) -> TablePin:
    """Read the text of a pin.

    Raises:
        InvalidInputError: If it is none (``bad-table-pin``).
    """
    try:
        pin = msgspec.json.decode(data, type=TablePin)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _bad(name, str(error)) from error
    if pin.schema != PIN_SCHEMA:
        raise _bad(name, f"its schema is {pin.schema!r}, not {PIN_SCHEMA!r}")
    return pin


def read_pin(path: Path) -> TablePin:
    """Read a pin from its file.

    Raises:
        NotFoundError: If there is none (``file-not-found``).
        InvalidInputError: If it is no pin (``bad-table-pin``).
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no {path}", code="file-not-found", hint="stemma add --table FOLDER"
        ) from error
    except OSError as error:
        raise _bad(str(path), error.strerror or str(error)) from error
    if len(data) > _LIMIT_BYTES:
        raise _bad(str(path), f"more than {_LIMIT_BYTES} bytes")
    return decode_pin(data, str(path))


def sorted_anchors(anchors: Sequence[Anchor]) -> tuple[Anchor, ...]:
    """Return anchors in the order of the format."""
    return tuple(sorted(anchors, key=lambda anchor: anchor.path))


def sorted_files(files: Sequence[DataFile]) -> tuple[DataFile, ...]:
    """Return data files in the order of the format."""
    return tuple(sorted(files, key=lambda file: file.path))


def _bad(name: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{name} pins no table: {reason}", code="bad-table-pin", hint="stemma add --table FOLDER"
    )
