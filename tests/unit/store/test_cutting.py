"""Where chunks end depends on the bytes, not on how they were read."""

import io
import random

import pytest
from pyfastcdc import FastCDC
from typing_extensions import override

from stemma.store.cutting import cut


class _Dribbling(io.BytesIO):
    """A stream that gives other amounts than it is asked for."""

    @override
    def read(self, size_bytes: int | None = -1, /) -> bytes:
        return super().read(min(size_bytes or 0, 1000 + self.tell() % 70_001))


@pytest.mark.parametrize("size_bytes", [0, 1, 65_536, 65_537, 327_680, 3_000_000])
@pytest.mark.parametrize("kind", [io.BytesIO, _Dribbling])
def test_chunks_are_those_of_the_whole_file(kind: type[io.BytesIO], size_bytes: int) -> None:
    """A file that was read in other steps must share its chunks with the one stored before."""
    half = random.Random(size_bytes).randbytes(size_bytes // 2)
    data = half + bytes(size_bytes - len(half))
    pieces = [piece.data for piece in cut(kind(data))]
    whole = FastCDC(avg_size=16 << 10, min_size=4 << 10, max_size=64 << 10)
    assert pieces == [bytes(chunk.data) for chunk in whole.cut_buf(data)]
