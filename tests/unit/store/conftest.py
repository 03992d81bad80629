"""Stores to test with."""

from pathlib import Path

import pytest

from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store, in memory and in a folder."""
    if request.param == "memory":
        return ObjectStore(MemoryBackend(), MemoryChunkIndex())
    return ObjectStore(LocalBackend(tmp_path / "objects"), MemoryChunkIndex())


@pytest.fixture
def memory_store() -> ObjectStore:
    """An empty store in memory."""
    return ObjectStore(MemoryBackend(), MemoryChunkIndex())
