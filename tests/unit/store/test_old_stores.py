"""Stores that earlier releases wrote: they open unchanged and grow on."""

import shutil
from pathlib import Path

import pytest

from stemma.domain.digest import Digest
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify

OLD = Path(__file__).parents[2] / "old_repositories" / "store-1"
TREE = Digest.parse("blake3:4bb6ec1c4e36e43480b39b1b090b3b7aeef4c38abb6d67d7a65cc4b521d0fd47")
MODEL = Digest.parse("blake3:226c73fa73a4be96f8decaf7d70d1725341c16c8cb6870d10076d9c641260818")


@pytest.fixture
def old(tmp_path: Path) -> ObjectStore:
    """A store from before tensor blocks, with its index lost."""
    shutil.copytree(OLD, tmp_path / "store")
    store = ObjectStore(LocalBackend(tmp_path / "store" / "objects"), MemoryChunkIndex())
    assert store.rebuild_index().skipped == ()
    return store


def test_a_store_from_before_tensor_blocks_opens_unchanged(old: ObjectStore) -> None:
    """An upgrade must not cost a version, nor rewrite what is there."""
    before = [(stat.key, stat.size_bytes) for stat in old.backend.list()]
    assert verify(old) == []
    contents = {
        entry.path: old.read_bytes(entry.digest)
        for entry in old.read_tree(TREE).entries
        if entry.digest is not None
    }
    assert contents["notes.txt"] == b"a note\n" * 400
    assert contents["empty"] == b""
    assert len(contents["model.safetensors"]) == 70_080
    assert len(old.list_records("manifest")) == 1
    assert [(stat.key, stat.size_bytes) for stat in old.backend.list()] == before


def test_new_versions_grow_beside_old_ones(old: ObjectStore, tmp_path: Path) -> None:
    """Old chunks are no blocks: a new version must neither need nor break them."""
    data = bytearray(old.read_bytes(MODEL))
    data[-4:] = b"\0\0\x80?"
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    stored = old.put_file(path, parents=[MODEL])
    assert old.read_bytes(stored.digest) == bytes(data)
    assert verify(old) == []
