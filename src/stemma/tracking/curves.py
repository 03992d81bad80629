"""Packs the points of one learning curve into bytes, as a row of ``run_points`` holds them.

Invariants:
    * ``unpack(name, pack(points)) == points``, in order of step, then of logging.
    * Three little-endian columns after another: steps (int64), values (float64), moments
      (int64 microseconds since 1970, UTC).  24 bytes a point.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from stemma.domain.errors import IntegrityError
from stemma.domain.run import MetricPoint

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_POINT_SIZE_BYTES: Final = 24


def in_order(points: Iterable[MetricPoint]) -> list[MetricPoint]:
    """Return points by step; points of one step keep the order they were logged in."""
    return sorted(points, key=lambda point: point.step)


def pack(points: Sequence[MetricPoint]) -> bytes:
    """Return the bytes of a curve."""
    ordered = in_order(points)
    count = len(ordered)
    return struct.pack(
        f"<{count}q{count}d{count}q",
        *(point.step for point in ordered),
        *(point.value for point in ordered),
        *((point.logged_at - _EPOCH) // _MICROSECOND for point in ordered),
    )


def unpack(name: str, data: bytes) -> list[MetricPoint]:
    """Return the points of a curve.

    Raises:
        IntegrityError: If the bytes are not whole points.
    """
    count, rest = divmod(len(data), _POINT_SIZE_BYTES)
    if rest:
        raise IntegrityError(f"curve {name} has {len(data)} bytes, not whole points")
    numbers = struct.unpack(f"<{count}q{count}d{count}q", data)
    columns = zip(numbers[:count], numbers[count : 2 * count], numbers[2 * count :], strict=True)
    return [
        MetricPoint(name=name, value=value, step=step, logged_at=_EPOCH + moment * _MICROSECOND)
        for step, value, moment in columns
    ]
