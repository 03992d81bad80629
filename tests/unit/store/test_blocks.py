"""Tensor blocks in the store: found by their file's format, stored as differences, given back."""

import io
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stemma.domain.digest import Digest
from stemma.domain.errors import NotFoundError
from stemma.store.backends.memory import MemoryBackend
from stemma.store.cutting import Piece, block_bytes, cut_by
from stemma.store.formats.partition import FileRange
from stemma.store.frames import HEADER_LIMIT_BYTES, Header, decode_header
from stemma.store.gc import GcReport, collect
from stemma.store.hashing import hash_file
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.ranges import open_stored
from stemma.store.verify import verify

Tensors = Mapping[str, NDArray[np.generic]]
Save = Callable[[str, Tensors], Path]
Family = list[dict[str, NDArray[np.float32]]]


def _headers(store: ObjectStore) -> dict[str, Header]:
    """Return the headers of all blocks by key."""
    heads = {
        stat.key: decode_header(store.backend.get_range(stat.key, 0, HEADER_LIMIT_BYTES), stat.key)
        for stat in store.backend.list("frames/")
    }
    return {key: header for key, header in heads.items() if header.block is not None}


def _size(store: ObjectStore) -> int:
    return sum(stat.size_bytes for stat in store.backend.list())


def _fresh(store: ObjectStore) -> ObjectStore:
    return ObjectStore(store.backend, store.index)


def _put_family(store: ObjectStore, save: Save, family: Family) -> list[Digest]:
    """Store each member with all before it as parents, the newest first."""
    digests: list[Digest] = []
    for number, tensors in enumerate(family):
        path = save(f"{number}.safetensors", tensors)
        digests.append(store.put_file(path, parents=digests[::-1]).digest)
    return digests


def _as_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    words = array.view(np.uint32)
    rounded: NDArray[np.uint16] = ((words + 0x7FFF + ((words >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def test_a_fine_tune_is_stored_as_the_difference_and_comes_back(
    store: ObjectStore, save_tensors: Save, family: Family, tmp_path: Path
) -> None:
    """A hundred versions of a model must not take a hundred times the room."""
    digests = _put_family(store, save_tensors, family)
    raw = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert _size(store) < 0.6 * raw
    for number, digest in enumerate(digests):
        path = tmp_path / f"{number}.safetensors"
        assert digest == hash_file(path)
        assert _fresh(store).read_bytes(digest) == path.read_bytes()
    assert verify(store) == []
    store.rebuild_index()
    assert verify(_fresh(store)) == []


def test_every_fine_tune_hangs_on_the_first_model(
    memory_store: ObjectStore, save_tensors: Save, family: Family
) -> None:
    """Reading the hundredth version must not read ninety-nine others."""
    _put_family(memory_store, save_tensors, family)
    headers = list(_headers(memory_store).values())
    assert sorted(header.depth for header in headers) == [0, 1, 1, 1]
    [root] = [header.chunks[0] for header in headers if header.parent is None]
    assert {header.parent.chunk for header in headers if header.parent is not None} == {root}


def test_a_copy_in_another_float_type_costs_about_nothing(
    memory_store: ObjectStore, save_tensors: Save, family: Family
) -> None:
    """Halving the precision for serving must not store the model a second time."""
    base = memory_store.put_file(save_tensors("base.safetensors", family[0]))
    before = _size(memory_store)
    half = {name: _as_bfloat16(array) for name, array in family[0].items()}
    path = save_tensors("half.safetensors", half)
    stored = memory_store.put_file(path, parents=[base.digest])
    assert _size(memory_store) - before < 0.02 * path.stat().st_size
    assert _fresh(memory_store).read_bytes(stored.digest) == path.read_bytes()
    tuned = {name: _as_bfloat16(array) for name, array in family[1].items()}
    path = save_tensors("tuned.safetensors", tuned)
    again = memory_store.put_file(path, parents=[stored.digest])
    assert _fresh(memory_store).read_bytes(again.digest) == path.read_bytes()
    assert max(header.depth for header in _headers(memory_store).values()) <= 2
    last = memory_store.put_file(
        save_tensors("last.safetensors", {name: array ^ 1 for name, array in tuned.items()}),
        parents=[again.digest],
    )
    assert max(header.depth for header in _headers(memory_store).values()) <= 2
    assert last.new_bytes > 0
    assert verify(_fresh(memory_store)) == []


def test_equal_tensors_are_stored_once_whatever_holds_them(
    memory_store: ObjectStore, save_tensors: Save, family: Family, tmp_path: Path
) -> None:
    """The same weights in two formats must not take twice the room."""
    memory_store.put_file(save_tensors("model.safetensors", family[0]))
    np.savez(tmp_path / "model.npz", **family[0])  # type: ignore[arg-type]
    stored = memory_store.put_file(tmp_path / "model.npz")
    assert stored.new_bytes < 3000
    assert _fresh(memory_store).read_bytes(stored.digest) == (tmp_path / "model.npz").read_bytes()


def test_tensors_larger_than_a_block_are_differences_block_by_block(
    memory_store: ObjectStore, save_tensors: Save
) -> None:
    """Large layers must gain as small ones do, in every type they are kept in."""
    generator = np.random.default_rng(3)
    first = generator.normal(0, 1, (1100, 1000)).astype(np.float32)
    second = first.copy()
    second[1090:] += np.float32(1e-4)
    base = memory_store.put_file(save_tensors("a", {"w": first}))
    tuned = memory_store.put_file(save_tensors("b", {"w": second}), parents=[base.digest])
    assert tuned.new_bytes < 500_000  # the last block, and the header
    half = save_tensors("c", {"w": _as_bfloat16(second)})
    before = _size(memory_store)
    stored = memory_store.put_file(half, parents=[base.digest, tuned.digest])
    assert _size(memory_store) - before < 100_000
    assert _fresh(memory_store).read_bytes(stored.digest) == half.read_bytes()


def test_parents_that_are_of_no_use_cost_nothing_but_room(
    memory_store: ObjectStore, save_tensors: Save, family: Family
) -> None:
    """A version must be recorded even when the one before it is lost."""
    other = memory_store.put_bytes(b"no tensors in here" * 9000)
    wrong = memory_store.put_file(
        save_tensors("wrong", {"layer.weight": np.ones((200, 300), np.float32)})
    )
    unknown = Digest.blake3("0" * 64)
    path = save_tensors("model", family[0])
    parents = [unknown, other.digest, wrong.digest]
    stored = memory_store.put_file(path, parents=parents)
    assert _fresh(memory_store).read_bytes(stored.digest) == path.read_bytes()
    assert {header.depth for header in _headers(memory_store).values()} == {0}


def test_a_file_that_only_looks_like_tensors_comes_back_with_a_warning(
    memory_store: ObjectStore, save_tensors: Save, family: Family
) -> None:
    """A truncated download must be kept as it is, and people must hear of it."""
    path = save_tensors("model.safetensors", family[0])
    os.truncate(path, path.stat().st_size - 1000)
    stored = memory_store.put_file(path)
    assert stored.warning
    assert memory_store.read_bytes(stored.digest) == path.read_bytes()


def test_one_tensor_is_read_without_the_rest(
    save_tensors: Save, family: Family, tmp_path: Path
) -> None:
    """Looking at one layer of a large model must not fetch the model."""
    store = ObjectStore(MemoryBackend(), MemoryChunkIndex())
    generator = np.random.default_rng(1)
    tensors = {f"{i}": generator.normal(0, 1, 30_000).astype(np.float32) for i in range(6)}
    path = save_tensors("model", tensors)
    stored = store.put_file(path)
    whole = path.read_bytes()
    asked: list[str] = []

    class Counting:
        """A backend that notes what is read."""

        def __getattr__(self, name: str) -> object:
            return getattr(store.backend, name)

        def get(self, key: str) -> bytes:
            """Read a blob."""
            asked.append(key)
            return store.backend.get(key)

    fresh = ObjectStore(Counting(), store.index)  # type: ignore[arg-type]
    start = whole.index(tensors["4"].tobytes())
    assert fresh.read_range(stored.digest, start, 120_000) == tensors["4"].tobytes()
    assert [key.partition("/")[0] for key in asked] == ["recipes", "frames"]
    assert fresh.read_range(stored.digest, len(whole) - 5, 100) == whole[-5:]
    assert fresh.read_range(stored.digest, len(whole), 100) == b""
    with open_stored(fresh.reader, stored.digest) as stream:
        assert stream.read(10) == whole[:10]
        assert stream.seek(-9, io.SEEK_END) == len(whole) - 9
        assert stream.read() == whole[-9:]
        assert stream.seek(start) == start
        stream.seek(8, io.SEEK_CUR)
        assert stream.read(4) == whole[start + 8 : start + 12]
        with pytest.raises(ValueError, match="before the first byte"):
            stream.seek(-1)
    with pytest.raises(NotFoundError):
        store.read_range(Digest.blake3("0" * 64), 0, 1)


def test_cutting_by_tensors_loses_nothing() -> None:
    """Whatever a parser says, the pieces must be the file."""
    data = np.random.default_rng(0).bytes(5_000_000)
    ranges = [
        FileRange(offset=0, size_bytes=10),
        FileRange(offset=10, size_bytes=100, name="tiny", dtype="float32", shape=(25,)),
        FileRange(offset=110, size_bytes=70_000, name="a", dtype="float32", shape=(17_500,)),
        FileRange(offset=70_110, size_bytes=4_500_000, name="b", dtype="bfloat16", shape=()),
        FileRange(offset=4_570_110, size_bytes=5000, name="c", dtype="float32", shape=()),
        FileRange(offset=4_575_110, size_bytes=424_890),
    ]
    pieces = list(cut_by(ranges, io.BytesIO(data)))
    assert b"".join(piece.data for piece in pieces) == data
    blocks = [piece for piece in pieces if piece.place is not None]
    assert [_place(piece) for piece in blocks] == [
        ("a", 0, 70_000),
        ("b", 0, 2 << 20),
        ("b", 2 << 20, 2 << 20),
        ("b", 4 << 20, 4_500_000 - (4 << 20)),
    ]
    assert list(cut_by(ranges, io.BytesIO(b""))) == []
    short = list(cut_by(ranges, io.BytesIO(data[:100_000])))
    assert b"".join(piece.data for piece in short) == data[:100_000]
    assert (block_bytes("float64"), block_bytes("int8")) == (4 << 20, 1 << 20)


def _place(piece: Piece) -> tuple[str, int, int]:
    assert piece.place is not None
    return piece.place.tensor.name, piece.place.offset, len(piece.data)


def _collect(store: ObjectStore, roots: list[Digest], now: datetime) -> GcReport:
    return collect(store, roots, now=now, grace_seconds=60, is_dry_run=False)


def test_collection_keeps_the_parents_of_what_it_keeps(
    store: ObjectStore, save_tensors: Save, family: Family, tmp_path: Path
) -> None:
    """Deleting an old base must not take the model in production with it."""
    digests = _put_family(store, save_tensors, family)
    later = datetime.now(UTC) + timedelta(hours=1)
    before = len(_headers(store))
    report = _collect(store, [digests[-1]], later)
    assert report.removed
    assert len(_headers(store)) == before - 2
    fresh = _fresh(store)
    assert fresh.read_bytes(digests[-1]) == (tmp_path / "3.safetensors").read_bytes()
    assert not fresh.has(digests[0])
    assert verify(fresh) == []
    _collect(store, [], later)
    assert list(store.backend.list()) == []


def test_collection_keeps_the_parents_of_what_is_young(save_tensors: Save, family: Family) -> None:
    """A training that is recording right now must not lose what it relies on."""
    now = datetime.now(UTC)
    clock = [now]
    backend = MemoryBackend(clock=lambda: clock[0])
    store = ObjectStore(backend, MemoryChunkIndex())
    base, tuned = _put_family(store, save_tensors, family[:2])
    [child] = [key for key, header in _headers(store).items() if header.parent is not None]
    # Only the child's frame is young, as if its recipe were about to be written.
    clock[0] = now + timedelta(hours=1)
    frame = backend.get(child)
    backend.delete(child)
    backend.put(child, frame)
    _collect(store, [], clock[0])
    assert child in _headers(store)
    assert len(_headers(store)) == 2
    assert not store.has(base)
    assert not store.has(tuned)
