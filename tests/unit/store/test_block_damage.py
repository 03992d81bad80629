"""Damaged and missing parents: what they harm is named, and nothing relies on it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, StemmaError
from stemma.store.backends.memory import MemoryBackend
from stemma.store.codecs.base import EncodedBlock, Method, Parent
from stemma.store.codecs.blocks import encode_as
from stemma.store.frames import Chunk, Link, decode_header, encode_block_frame
from stemma.store.gc import collect
from stemma.store.hashing import blake3_raw, hash_bytes
from stemma.store.index import MemoryChunkIndex, rows_of
from stemma.store.keys import frame_key, recipe_key
from stemma.store.objects import ObjectStore
from stemma.store.recipes import Recipe, encode_recipe
from stemma.store.verify import verify

Save = Callable[[str, Mapping[str, NDArray[np.generic]]], Path]
Family = list[dict[str, NDArray[np.float32]]]


class Pair(NamedTuple):
    """A store that holds a base and a fine-tune of it."""

    backend: MemoryBackend
    store: ObjectStore
    paths: tuple[Path, Path]
    digests: tuple[Digest, Digest]
    parent: str
    child: str

    def fresh(self) -> ObjectStore:
        """Return the store as another process sees it."""
        return ObjectStore(self.backend, self.store.index)

    def damage(self, key: str) -> None:
        """Flip a bit in the middle of a blob."""
        data = bytearray(self.backend.blobs[key])
        data[len(data) // 2] ^= 4
        self.backend.blobs[key] = bytes(data)


@pytest.fixture
def pair(save_tensors: Save, family: Family) -> Pair:
    """Store a base and a fine-tune."""
    backend = MemoryBackend()
    store = ObjectStore(backend, MemoryChunkIndex())
    paths = save_tensors("base", family[0]), save_tensors("tuned", family[1])
    base = store.put_file(paths[0]).digest
    tuned = store.put_file(paths[1], parents=[base]).digest
    blocks = {
        header.depth: key
        for key in backend.blobs
        if key.startswith("frames/")
        for header in [decode_header(backend.blobs[key], key)]
        if header.block is not None
    }
    return Pair(backend, store, paths, (base, tuned), blocks[0], blocks[1])


@pytest.mark.parametrize("is_missing", [False, True])
def test_a_block_without_its_parent_is_an_error_that_names_both(
    pair: Pair, *, is_missing: bool
) -> None:
    """People must learn which frame to restore, and which files wait for it."""
    if is_missing:
        pair.backend.delete(pair.parent)
    else:
        pair.damage(pair.parent)
    with pytest.raises(IntegrityError) as caught:
        pair.fresh().read_bytes(pair.digests[1])
    assert caught.value.code == "parent-unreadable"
    assert pair.child in caught.value.message
    assert pair.parent in caught.value.message
    problems = {(problem.kind, problem.key) for problem in verify(pair.fresh())}
    assert ("parent-unreadable", recipe_key(pair.digests[1])) in problems
    assert {key for _, key in problems} >= {recipe_key(digest) for digest in pair.digests}
    assert (("frame-damaged", pair.parent) in problems) is not is_missing


@pytest.mark.parametrize("is_missing", [False, True])
def test_a_block_whose_parent_is_damaged_is_stored_anew(pair: Pair, *, is_missing: bool) -> None:
    """A training that ends in a damaged store must still be given back."""
    if is_missing:
        pair.backend.delete(pair.parent)
    else:
        pair.damage(pair.parent)
    stored = pair.fresh().put_file(pair.paths[1], parents=[pair.digests[0]])
    assert stored.new_bytes > 200_000
    assert pair.fresh().read_bytes(stored.digest) == pair.paths[1].read_bytes()


@pytest.mark.parametrize("is_missing", [False, True])
def test_storing_the_parent_again_mends_its_children(pair: Pair, *, is_missing: bool) -> None:
    """Whoever still has the base model can repair every fine-tune with it."""
    if is_missing:
        pair.backend.delete(pair.parent)
    else:
        pair.damage(pair.parent)
    pair.fresh().put_file(pair.paths[0], parents=[pair.digests[1]])
    for path, digest in zip(pair.paths, pair.digests, strict=True):
        assert pair.fresh().read_bytes(digest) == path.read_bytes()
    assert verify(pair.fresh()) == []
    pair.store.rebuild_index()
    assert verify(pair.fresh()) == []


def test_a_damaged_version_is_no_parent(pair: Pair, save_tensors: Save, family: Family) -> None:
    """One rotten base must not pull the next training down with it."""
    pair.damage(pair.parent)
    path = save_tensors("next", family[2])
    stored = pair.fresh().put_file(path, parents=pair.digests[::-1])
    assert pair.fresh().read_bytes(stored.digest) == path.read_bytes()


def test_a_parent_that_rots_after_it_was_read_is_not_relied_on(
    pair: Pair, save_tensors: Save, family: Family
) -> None:
    """A server that runs for weeks must not trust what it saw weeks ago."""
    pair.store.read_bytes(pair.digests[1])
    pair.damage(pair.parent)
    path = save_tensors("next", family[2])
    stored = pair.store.put_file(path, parents=pair.digests)
    again = pair.store.put_file(pair.paths[1], parents=pair.digests)
    assert pair.fresh().read_bytes(stored.digest) == path.read_bytes()
    assert pair.fresh().read_bytes(again.digest) == pair.paths[1].read_bytes()
    assert {problem.kind for problem in verify(pair.store)} >= {"frame-damaged"}


def test_what_a_crash_left_without_its_parent_is_no_problem(pair: Pair) -> None:
    """An alarm about leftovers would hide the alarms that matter."""
    for key in (pair.parent, *(recipe_key(digest) for digest in pair.digests)):
        pair.backend.delete(key)
    pair.store.index.drop_frames([bytes.fromhex(pair.parent[7:].replace("/", ""))])
    assert verify(pair.fresh()) == []
    pair.store.rebuild_index()
    assert verify(pair.fresh()) == []
    stored = pair.fresh().put_file(pair.paths[1])
    assert pair.fresh().read_bytes(stored.digest) == pair.paths[1].read_bytes()


def test_nothing_is_collected_while_a_live_block_s_parent_is_unknown(pair: Pair) -> None:
    """A repair of the child would come too late for a parent that is deleted."""
    data = bytearray(pair.backend.blobs[pair.child])
    sound = bytes(data)
    data[60] ^= 1  # in the header, where the parent is named
    pair.backend.blobs[pair.child] = bytes(data)
    later = datetime.now(UTC) + timedelta(hours=1)
    collect(pair.fresh(), [pair.digests[1]], now=later, grace_seconds=60, is_dry_run=False)
    pair.backend.blobs[pair.child] = sound
    assert pair.fresh().read_bytes(pair.digests[1]) == pair.paths[1].read_bytes()
    # One that nothing live needs is kept, and in nobody's way.
    pair.backend.blobs[pair.child] = bytes(data)
    collect(pair.fresh(), [], now=later, grace_seconds=60, is_dry_run=False)
    assert set(pair.backend.blobs) == {pair.child}


@pytest.mark.slow
def test_every_flip_in_a_frame_of_a_block_is_found(pair: Pair) -> None:
    """A flipped bit in a base model must not reach a single fine-tune."""
    expected = [path.read_bytes() for path in pair.paths]
    for key in (pair.parent, pair.child):
        sound = pair.backend.blobs[key]
        places = [*range(130), *range(130, len(sound), max(1, len(sound) // 60))]
        for position in places:
            data = bytearray(sound)
            data[position] ^= 1 << (position % 8)
            pair.backend.blobs[key] = bytes(data)
            assert any(problem.key == key for problem in verify(pair.fresh())), position
            for digest, whole in zip(pair.digests, expected, strict=True):
                try:
                    assert pair.fresh().read_bytes(digest) == whole
                except StemmaError:
                    continue
        pair.backend.blobs[key] = sound
    assert verify(pair.fresh()) == []


BLOCKS = [np.full(20_000, number, np.float32).tobytes() for number in range(4)]
CHUNKS = [Chunk(blake3_raw(data), len(data)) for data in BLOCKS]


def _raw(number: int) -> bytes:
    encoded = EncodedBlock(method=Method.RAW, payload=BLOCKS[number])
    return encode_block_frame(CHUNKS[number], encoded, "float32", None)


def _difference(number: int, parent: int, depth: int) -> bytes:
    encoded = encode_as(
        Method.SUBTRACT, BLOCKS[number], "float32", Parent(data=BLOCKS[parent], dtype="float32")
    )
    link = Link(CHUNKS[parent], "float32", depth - 1)
    return encode_block_frame(CHUNKS[number], encoded, "float32", link)


def _crafted(frames: list[bytes]) -> ObjectStore:
    """Return a store of these frames, indexed in this order, with a file of each block."""
    store = ObjectStore(MemoryBackend(), MemoryChunkIndex())
    for frame in frames:
        key = frame_key(blake3_raw(frame))
        store.backend.put(key, frame)
        store.index.add({blake3_raw(frame): rows_of(decode_header(frame, key).chunks)})
    for data, chunk in zip(BLOCKS, CHUNKS, strict=True):
        recipe = Recipe(
            digest=hash_bytes(data),
            sha256=hash_bytes(data),
            size_bytes=len(data),
            table=chunk.digest + len(data).to_bytes(4, "little"),
        )
        store.backend.put(recipe_key(recipe.digest), encode_recipe(recipe))
    return store


def test_a_circle_of_parents_ends_in_an_error_and_the_index_can_be_made_without() -> None:
    """A crafted or unlucky store must not hang the reader."""
    store = _crafted([_difference(0, 1, 1), _difference(1, 0, 1), _raw(0), _raw(1)])
    with pytest.raises(IntegrityError) as caught:
        store.read_bytes(hash_bytes(BLOCKS[0]))
    assert caught.value.code == "parent-unreadable"
    assert "parents away" in caught.value.message
    store.rebuild_index()
    fresh = ObjectStore(store.backend, store.index)
    assert fresh.read_bytes(hash_bytes(BLOCKS[0])) == BLOCKS[0]
    assert fresh.read_bytes(hash_bytes(BLOCKS[1])) == BLOCKS[1]


def test_two_steps_are_followed_and_a_third_is_refused_in_any_order_of_reading() -> None:
    """What is read must not depend on what was read before."""
    frames = [_raw(0), _difference(1, 0, 1), _difference(2, 1, 2), _difference(3, 2, 2)]
    for order in ([3, 2, 1, 0], [0, 1, 2, 3], [2, 3, 2, 3]):
        store = _crafted(frames)
        for number in order:
            if number == 3:
                with pytest.raises(IntegrityError, match="parents away"):
                    store.read_bytes(hash_bytes(BLOCKS[number]))
            else:
                assert store.read_bytes(hash_bytes(BLOCKS[number])) == BLOCKS[number]
