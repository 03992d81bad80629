"""Whether a parquet file is whole (https://parquet.apache.org/docs/file-format).

Its columns are compressed pages, so no tensor is looked for; but a file whose footer is missing
or lies was cut off or overwritten, and its owner wants to know that before training on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stemma.store.formats.bounded import BoundedSource
from stemma.store.formats.ranges import FileRange, MalformedError

_MAGICS: Final = (b"PAR1", b"PARE")
"""The second is of files with an encrypted footer."""
_MAGIC_BYTES: Final = 4
_LENGTH_BYTES: Final = 4
_VERSION_FIELD: Final = b"\x15"
"""Field 1 of the footer, a number of 32 bits, which no writer may leave out."""


def find_tensors(source: BoundedSource) -> Iterator[FileRange]:
    """Yield nothing.

    Raises:
        MalformedError: If the file does not begin and end as such files do.
    """
    magic = source.read(0, _MAGIC_BYTES)
    if magic not in _MAGICS:
        raise MalformedError("it does not begin like one")
    end = source.size_bytes - _MAGIC_BYTES - _LENGTH_BYTES
    tail = source.read(end, _LENGTH_BYTES + _MAGIC_BYTES)
    if tail[_LENGTH_BYTES:] != magic:
        raise MalformedError("it has no footer; it may be cut off")
    footer_bytes = int.from_bytes(tail[:_LENGTH_BYTES], "little")
    if not 0 < footer_bytes <= end - _MAGIC_BYTES:
        raise MalformedError(f"its footer claims {footer_bytes} bytes")
    if magic == _MAGICS[0] and source.read(end - footer_bytes, 1) != _VERSION_FIELD:
        raise MalformedError("its footer is not one")
    yield from ()
