"""The ``Range`` header (RFC 9110 §14): one stretch of a file, or all of it.

Invariants:
    * What is not understood, and several ranges at once, mean the whole file, as HTTP allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from stemma.domain.errors import StemmaError

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A stretch of a file.

    Attributes:
        start: First byte.
        size_bytes: How many; at least one.
    """

    start: int
    size_bytes: int

    def said_of(self, total_bytes: int) -> str:
        """Return the ``Content-Range`` of it."""
        return f"bytes {self.start}-{self.start + self.size_bytes - 1}/{total_bytes}"


class UnsatisfiableRangeError(StemmaError):
    """A range begins behind the end of the file."""

    default_code = "range-not-satisfiable"


def parse_range(text: str, total_bytes: int) -> ByteRange | None:
    """Return the stretch that a header asks for; nothing when it means the whole file.

    Raises:
        UnsatisfiableRangeError: If it begins behind the end.
    """
    match = _RANGE.fullmatch(text.strip().replace(" ", ""))
    if match is None or match[1] + match[2] == "":
        return None
    if match[1] == "":
        start, end = max(total_bytes - int(match[2]), 0), total_bytes - 1
    else:
        start = int(match[1])
        end = min(int(match[2]), total_bytes - 1) if match[2] else total_bytes - 1
        if match[2] and int(match[2]) < start:
            return None
    if start >= total_bytes or end < start:
        raise UnsatisfiableRangeError(
            f"the file has {total_bytes} bytes; {text[:80]!r} is not there"
        )
    return ByteRange(start, end - start + 1)
