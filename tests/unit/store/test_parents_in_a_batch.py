"""Files that are stored together: one may be another in a second type, or under other names."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stemma.store.backends.local import LocalBackend
from stemma.store.frames import HEADER_LIMIT_BYTES, Header, decode_header
from stemma.store.index import MemoryChunkIndex
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify

Tensors = Mapping[str, NDArray[np.generic]]
Save = Callable[[str, Tensors], Path]


@pytest.fixture
def weights() -> dict[str, NDArray[np.float32]]:
    """Six tensors of 1 MiB, and one that is small."""
    generator = np.random.default_rng(17)
    named = {f"layer.{i}": generator.normal(0, 0.05, (512, 512)) for i in range(6)}
    named["norm"] = generator.normal(0, 1, 64)
    return {name: array.astype(np.float32) for name, array in named.items()}


def _as_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    words = array.view(np.uint32)
    rounded: NDArray[np.uint16] = ((words + 0x7FFF + ((words >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def _headers(store: ObjectStore) -> list[Header]:
    found = (
        decode_header(store.backend.get_range(stat.key, 0, HEADER_LIMIT_BYTES), stat.key)
        for stat in store.backend.list("frames/")
    )
    return [header for header in found if header.block is not None]


def _tuned(weights: Tensors) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(18)
    return {
        name: (array + generator.normal(0, 1e-5, array.shape)).astype(np.float32)
        for name, array in weights.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, 2])
def test_a_copy_in_another_type_stored_together_costs_about_nothing(
    store: ObjectStore, save_tensors: Save, weights: dict[str, NDArray[np.float32]], threads: int
) -> None:
    """Who releases a model in two precisions at once must not pay for both."""
    full = save_tensors("full", weights)
    half = save_tensors("half", {name: _as_bfloat16(array) for name, array in weights.items()})
    batch = Batch(store.backend, store.index, threads=threads)
    kept = [batch.add_path(path) for path in (full, half)]
    batch.flush()
    headers = _headers(store)
    assert sorted(header.depth for header in headers) == [0] * 6 + [1] * 6
    stored_bytes = sum(stat.size_bytes for stat in store.backend.list("frames/"))
    assert stored_bytes < 0.95 * full.stat().st_size
    reader = ObjectStore(store.backend, store.index)
    for path, file in zip((full, half), kept, strict=True):
        assert reader.read_bytes(file.digest) == path.read_bytes()
    assert verify(reader) == []


@pytest.mark.slow
def test_a_copy_of_a_fine_tune_is_a_cast_of_it_and_not_of_its_base(
    memory_store: ObjectStore, save_tensors: Save, weights: dict[str, NDArray[np.float32]]
) -> None:
    """The copy is exactly the fine-tune, so anything else would be stored for nothing."""
    base = memory_store.put_file(save_tensors("base", weights)).digest
    tuned = _tuned(weights)
    batch = Batch(memory_store.backend, memory_store.index)
    batch.add_path(save_tensors("full", tuned), parents=[base])
    batch.flush()
    before = sum(stat.size_bytes for stat in memory_store.backend.list("frames/"))
    half = {name: _as_bfloat16(array) for name, array in tuned.items()}
    path = save_tensors("half", half)
    stored = batch.add_path(path, parents=[base])
    batch.flush()
    after = sum(stat.size_bytes for stat in memory_store.backend.list("frames/"))
    assert after - before < 0.01 * path.stat().st_size
    assert max(header.depth for header in _headers(memory_store)) == 2
    reader = ObjectStore(memory_store.backend, memory_store.index)
    assert reader.read_bytes(stored.digest) == path.read_bytes()


@pytest.mark.slow
def test_tensors_under_other_names_are_found_by_size_and_place(
    memory_store: ObjectStore, save_tensors: Save, weights: dict[str, NDArray[np.float32]]
) -> None:
    """Converters rename tensors; a fine-tune in the new names is as near as in the old ones."""
    base = memory_store.put_file(save_tensors("base", weights)).digest
    renamed = {f"blk.{number}": array for number, array in enumerate(_tuned(weights).values())}
    path = save_tensors("renamed", renamed)
    stored = memory_store.put_file(path, parents=[base])
    assert sorted(header.depth for header in _headers(memory_store)) == [0] * 6 + [1] * 6
    reader = ObjectStore(memory_store.backend, memory_store.index)
    assert reader.read_bytes(stored.digest) == path.read_bytes()
    fewer = {
        f"part.{number}": array for number, array in enumerate(list(_tuned(renamed).values())[:4])
    }
    memory_store.put_file(save_tensors("fewer", fewer), parents=[base])
    assert [header.depth for header in _headers(memory_store)].count(0) == 10


@pytest.mark.slow
def test_a_table_that_grew_is_the_difference_where_it_was(
    memory_store: ObjectStore, save_tensors: Save
) -> None:
    """New words in a vocabulary must not make the whole table of embeddings new."""
    generator = np.random.default_rng(19)
    table = generator.normal(0, 0.05, (3000, 768)).astype(np.float32)
    base = memory_store.put_file(save_tensors("base", {"words": table})).digest
    grown = np.concatenate([table + np.float32(1e-6), table[:5]])
    path = save_tensors("grown", {"words": grown})
    memory_store.put_file(path, parents=[base])
    assert sorted(header.depth for header in _headers(memory_store)) == [0, 0, 0, 0, 1, 1]


@pytest.mark.slow
def test_a_parent_is_indexed_before_its_child_is_written(
    tmp_path: Path, save_tensors: Save, weights: dict[str, NDArray[np.float32]]
) -> None:
    """A crash between the two would leave a block that nobody can read."""
    index = MemoryChunkIndex()
    written: list[str] = []

    class _Watched:
        def __init__(self) -> None:
            self._inner = LocalBackend(tmp_path / "objects")

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def put_many(self, blobs: Mapping[str, bytes]) -> object:
            for key, data in blobs.items():
                if key.startswith("frames/"):
                    parent = decode_header(data[:HEADER_LIMIT_BYTES], key).parent
                    assert parent is None or index.find([parent.chunk.digest])
                    written.append(key)
            return self._inner.put_many(blobs)

    batch = Batch(_Watched(), index)  # type: ignore[arg-type]
    batch.add_path(save_tensors("full", weights))
    batch.add_path(save_tensors("half", {key: _as_bfloat16(item) for key, item in weights.items()}))
    batch.add_path(save_tensors("tuned", _tuned(weights)))
    batch.flush()
    assert len(written) >= 18


def test_many_small_files_together_are_not_compared_with_each_other(
    memory_store: ObjectStore, save_tensors: Save
) -> None:
    """Each comparison makes the store write what is pending: thousands would take for ever."""
    generator = np.random.default_rng(20)
    base = generator.normal(0, 1, (200, 200)).astype(np.float32)
    batch = Batch(memory_store.backend, memory_store.index)
    for number in range(5):
        batch.add_path(save_tensors(str(number), {"array": base + np.float32(1e-6 * number)}))
    batch.flush()
    assert {header.depth for header in _headers(memory_store)} == {0}
