"""Stretches of stored files, and files that are stored from an open handle."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from stemma.domain.errors import IntegrityError
from stemma.store.backends.memory import MemoryBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore
from stemma.store.ranges import stream_range

DATA = random.Random(7).randbytes(300_000)


@pytest.fixture
def objects() -> ObjectStore:
    """Return an empty store."""
    return ObjectStore(MemoryBackend(), MemoryChunkIndex())


@pytest.mark.parametrize(
    ("offset", "size_bytes"),
    [(0, 300_000), (0, 1), (299_999, 1), (299_999, 9), (300_000, 5), (70_000, 150_001), (5, 0)],
)
def test_a_stretch_is_what_a_slice_is(objects: ObjectStore, offset: int, size_bytes: int) -> None:
    """A resumed download would be put together wrongly."""
    file = objects.put_bytes(DATA).digest
    pieces = list(stream_range(objects.reader, file, offset, size_bytes))
    assert b"".join(pieces) == DATA[offset : offset + size_bytes]
    assert all(pieces)


def test_a_stretch_of_nothing_is_nothing(objects: ObjectStore) -> None:
    """Asking for the start of an empty file would fail."""
    file = objects.put_bytes(b"").digest
    assert list(stream_range(objects.reader, file, 0, 10)) == []


def test_a_damaged_chunk_is_never_sent(objects: ObjectStore) -> None:
    """A download would hold bytes that nobody uploaded."""
    file = objects.put_bytes(DATA).digest
    backend = objects.backend
    assert isinstance(backend, MemoryBackend)
    for stat in list(backend.list("frames/")):
        data = bytearray(backend.get(stat.key))
        data[-1] ^= 1
        backend.delete(stat.key)
        backend.put(stat.key, bytes(data))
    fresh = ObjectStore(backend, objects.index)
    with pytest.raises(IntegrityError):
        list(stream_range(fresh.reader, file, 299_000, 10))


def test_an_open_file_is_stored_as_its_path_would_be(objects: ObjectStore, tmp_path: Path) -> None:
    """An uploaded model would share nothing with the same one recorded by a run."""
    values = np.random.default_rng(1).normal(size=(64, 2048)).astype(np.float32)
    data = save({"weight": values})
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    by_path = objects.put_file(path)
    batch = Batch(objects.backend, objects.index)
    with io.FileIO(path) as stream:
        opened = batch.add_open(stream, len(data), name="model.safetensors")
    batch.flush()
    assert opened.digest == by_path.digest
    assert opened.new_bytes == 0
    assert objects.read_bytes(opened.digest) == data
