"""Whatever relatives are stored together, each file comes back, with chains of two at most."""

from __future__ import annotations

import io
import zipfile
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemma.store.backends.memory import MemoryBackend
from stemma.store.frames import DEPTH_LIMIT, HEADER_LIMIT_BYTES, decode_header
from stemma.store.index import MemoryChunkIndex
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify

_GENERATOR = np.random.default_rng(31)
_BASE = [_GENERATOR.normal(0, 0.05, (620, 600)).astype(np.float32) for _ in range(3)]
_NOISE = [_GENERATOR.normal(0, 1e-5, array.shape).astype(np.float32) for array in _BASE]

_MEMBERS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["float32", "float16", "float64"]),
        "noise": st.integers(0, 3),
        "prefix": st.sampled_from(["layer", "blk"]),
        "rows": st.sampled_from([500, 620]),
        "tensors": st.integers(2, 3),
        "is_turned": st.booleans(),
    }
)


def _array(member: dict[str, object], number: int) -> NDArray[np.generic]:
    noise, rows = member["noise"], member["rows"]
    assert isinstance(noise, int)
    assert isinstance(rows, int)
    array = (_BASE[number] + np.float32(noise) * _NOISE[number])[:rows]
    turned = np.ascontiguousarray(array.T) if member["is_turned"] else array
    return turned.astype(str(member["dtype"]))


def _file(member: dict[str, object], path: Path) -> Path:
    tensors = member["tensors"]
    assert isinstance(tensors, int)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(tensors):
            stream = io.BytesIO()
            np.save(stream, _array(member, number))
            archive.writestr(f"{member['prefix']}.{number}.npy", stream.getvalue())
    return path


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(_MEMBERS, min_size=1, max_size=3), min_size=1, max_size=2))
def test_relatives_in_any_batches_come_back(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[dict[str, object]]]
) -> None:
    """A wrong guess of who resembles whom may cost room, never a byte."""
    folder, numbers = tmp_path_factory.mktemp("relatives"), count()
    store = ObjectStore(MemoryBackend(), MemoryChunkIndex())
    kept = []
    for members in batches:
        batch = Batch(store.backend, store.index)
        for member in members:
            path = _file(member, folder / f"{next(numbers)}.npz")
            parents = [digest for _, digest in reversed(kept)]
            kept.append((path, batch.add_path(path, parents=parents).digest))
        batch.flush()
    store.rebuild_index()
    for path, digest in kept:
        assert store.read_bytes(digest) == path.read_bytes()
    assert verify(store) == []
    for stat in store.backend.list("frames/"):
        head = store.backend.get_range(stat.key, 0, HEADER_LIMIT_BYTES)
        assert decode_header(head, stat.key).depth <= DEPTH_LIMIT
