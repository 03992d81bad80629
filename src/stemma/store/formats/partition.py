"""A file as an ordered partition into tensor and opaque ranges.

Types only so far; ``partition`` is the one verb.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """One stretch of a file.

    Attributes:
        offset: Where it begins, in bytes.
        size_bytes: How long it is; never 0.
        name: Name of the tensor; empty for an opaque range.
        dtype: numpy's name of the element type, or ``bfloat16``, ``float8_e4m3fn``,
            ``float8_e5m2``; empty for an opaque range.
        shape: Sizes per dimension; empty for an opaque range and for a scalar.
    """

    offset: int
    size_bytes: int
    name: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()

    @property
    def is_tensor(self) -> bool:
        """Whether a parser knows what is in it."""
        return bool(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A file's ranges in order: they cover it without gap or overlap.

    Attributes:
        ranges: From the first byte to the last; empty for an empty file.
        warning: Why a file that looked like a known format was taken as opaque; empty when
            nothing was wrong.
    """

    ranges: tuple[FileRange, ...]
    warning: str = ""
