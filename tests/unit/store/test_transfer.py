"""Copying contents between two stores, whatever is missing or damaged on the way."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import override

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.store.backends.memory import MemoryBackend
from stemma.store.fetching import Fetcher, fetch_chunks, fetch_files
from stemma.store.index import ChunkLocation, MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.ranges import OpenedFile
from stemma.store.reading import Reader
from stemma.store.remote_index import RemoteIndex
from stemma.store.sides import LocalFrames, Side
from stemma.store.transfer import Content, Transfer
from stemma.store.verify import verify


class Project:
    """A store with an index."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.index = MemoryChunkIndex()
        self.objects = ObjectStore(self.backend, self.index)

    @property
    def side(self) -> Side:
        return Side(
            name="this project",
            backend=self.backend,
            frames=LocalFrames(self.backend, self.index),
            reader=Reader(self.backend, self.index),
        )

    def put(self, folder: Path, **files: bytes) -> Digest:
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return self.objects.put_tree(folder, sorted(files)).digest


class Shared:
    """A remote."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()

    @property
    def side(self) -> Side:
        return Side(name="origin", backend=self.backend, frames=RemoteIndex(self.backend))


def _copy(source: Side, target: Side, contents: Sequence[Digest], *, repair: bool = False) -> int:
    transfer = Transfer(source, target, is_repair=repair)
    told: list[int] = []
    plan = transfer.plan([Content(digest, is_required=True) for digest in contents])
    written = transfer.copy(plan, told.append)
    assert sum(told) >= written
    return written


def _noise(seed: int, size_bytes: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


@pytest.fixture
def mine() -> Project:
    return Project()


@pytest.fixture
def theirs() -> Project:
    return Project()


@pytest.fixture
def shared() -> Shared:
    return Shared()


def test_contents_travel_whole_and_only_once(
    mine: Project, theirs: Project, shared: Shared, tmp_path: Path
) -> None:
    """A colleague would get another model, or wait for what is there."""
    tree = mine.put(tmp_path / "a", weights=_noise(1), empty=b"")
    assert _copy(mine.side, shared.side, [tree]) > 300_000
    assert _copy(mine.side, shared.side, [tree]) == 0
    assert _copy(shared.side, theirs.side, [tree]) > 300_000
    assert _copy(shared.side, theirs.side, [tree]) == 0
    for entry in theirs.objects.read_tree(tree).entries:
        assert entry.digest is not None
        assert theirs.objects.read_bytes(entry.digest) == (
            _noise(1) if entry.path == "weights" else b""
        )
    assert verify(theirs.objects) == []
    assert all(not key.startswith("records/") for key in theirs.backend.blobs)


def test_a_changed_file_sends_what_changed(mine: Project, shared: Shared, tmp_path: Path) -> None:
    """Each version would cost as much as the first."""
    first = mine.put(tmp_path / "a", weights=_noise(1, 3_000_000))
    _copy(mine.side, shared.side, [first])
    second = mine.put(tmp_path / "a", weights=_noise(1, 3_000_000) + b"tail")
    assert _copy(mine.side, shared.side, [second]) < 200_000


def test_files_that_are_here_are_not_looked_at_chunk_by_chunk(
    mine: Project, theirs: Project, shared: Shared, tmp_path: Path
) -> None:
    """One changed file among terabytes would take minutes, though nothing travels."""
    first = mine.put(tmp_path / "data", large=_noise(1, 3_000_000), small=_noise(2, 20_000))
    _copy(mine.side, shared.side, [first])
    _copy(shared.side, theirs.side, [first])
    second = mine.put(tmp_path / "data", small=_noise(3, 20_000), large=_noise(1, 3_000_000))
    _copy(mine.side, shared.side, [second])
    asked: list[int] = []

    class Counting(MemoryChunkIndex):
        @override
        def find(self, chunks: Collection[bytes]) -> dict[bytes, ChunkLocation]:
            asked.append(len(chunks))
            return theirs.index.find(chunks)

    frames = LocalFrames(theirs.backend, Counting())
    Transfer(shared.side, replace(theirs.side, frames=frames)).plan(
        [Content(second, is_required=True)]
    )
    assert 0 < sum(asked) < 20


def test_chunks_that_another_project_pushed_are_not_sent_again(
    mine: Project, theirs: Project, shared: Shared, tmp_path: Path
) -> None:
    """Two people with the same data set would store it twice."""
    shared_data, own_data = _noise(1, 3_000_000), _noise(2, 300_000)
    _copy(mine.side, shared.side, [mine.put(tmp_path / "a", x=shared_data)])
    tree = theirs.put(tmp_path / "b", a=own_data, x=shared_data)
    assert _copy(theirs.side, shared.side, [tree]) < 1_500_000


def test_frames_that_no_record_names_are_found_by_their_headers(
    mine: Project, theirs: Project, shared: Shared, tmp_path: Path
) -> None:
    """A push that was killed, or a lost index, would make a remote unreadable."""
    tree = mine.put(tmp_path / "a", weights=_noise(1))
    _copy(mine.side, shared.side, [tree])
    for key in [key for key in shared.backend.blobs if key.startswith("records/frame-index/")]:
        shared.backend.delete(key)
    _copy(shared.side, theirs.side, [tree])
    assert verify(theirs.objects) == []


@pytest.mark.parametrize("prefix", ["frames/", "recipes/", "trees/"])
def test_a_damaged_blob_is_refused_on_either_side_and_mended(
    mine: Project, theirs: Project, shared: Shared, tmp_path: Path, prefix: str
) -> None:
    """Nothing unverified may reach anybody."""
    tree = mine.put(tmp_path / "a", weights=_noise(1))
    _copy(mine.side, shared.side, [tree])
    key = next(key for key in shared.backend.blobs if key.startswith(prefix))
    whole = shared.backend.blobs[key]
    shared.backend.blobs[key] = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(IntegrityError) as caught:
        _copy(shared.side, theirs.side, [tree])
    assert key in caught.value.message
    assert key not in theirs.backend.blobs
    with pytest.raises(IntegrityError):
        _copy(shared.side, Shared().side, [tree])
    assert _copy(mine.side, shared.side, [tree], repair=True) == len(whole)
    assert shared.backend.blobs[key] == whole
    theirs.backend.put(key, whole[:-1])
    _copy(shared.side, theirs.side, [tree], repair=True)
    assert verify(theirs.objects) == []


def test_what_the_source_misses_is_named(mine: Project, shared: Shared, tmp_path: Path) -> None:
    """A version that is not whole would be pushed as if it were."""
    tree = mine.put(tmp_path / "a", weights=_noise(1))
    for prefix in ("frames/", "recipes/", "trees/"):
        lacking = Project()
        for key, data in mine.backend.blobs.items():
            if not key.startswith(prefix):
                lacking.backend.put(key, data)
        lacking.objects.rebuild_index()
        with pytest.raises(IntegrityError) as caught:
            _copy(lacking.side, shared.side, [tree])
        assert caught.value.code == "transfer-incomplete"
    assert not any(key.startswith("trees/") for key in shared.backend.blobs)


def test_what_is_no_content_is_passed_over(mine: Project, shared: Shared) -> None:
    """A digest that only identifies something would keep a version from being pushed."""
    plan = Transfer(mine.side, shared.side).plan(
        [Content(Digest.blake3("0" * 64), is_required=False)]
    )
    assert plan.is_empty


def test_a_reader_never_meets_an_object_before_what_it_names(
    mine: Project, shared: Shared, tmp_path: Path
) -> None:
    """Somebody who pulls during a push would get half a version."""
    tree = mine.put(tmp_path / "a", weights=_noise(1, 3_000_000), other=_noise(2))
    _copy(mine.side, shared.side, [tree])
    families = [key.split("/")[0] for key in shared.backend.blobs]
    assert families == sorted(families, key=["frames", "records", "recipes", "trees"].index)


Save = Callable[[str, Mapping[str, NDArray[np.generic]]], Path]
Family = list[dict[str, NDArray[np.float32]]]


def test_a_difference_brings_what_it_is_the_difference_to(
    mine: Project, theirs: Project, shared: Shared, save_tensors: Save, family: Family
) -> None:
    """A fine-tune alone could not be read by anybody who pulls it."""
    digests: list[Digest] = []
    for number, tensors in enumerate(family):
        path = save_tensors(f"{number}.safetensors", tensors)
        digests.append(mine.objects.put_file(path, parents=digests[::-1]).digest)
    _copy(mine.side, shared.side, digests[-1:])
    assert len(list(shared.backend.list("recipes/"))) == 1
    _copy(shared.side, theirs.side, digests[-1:])
    assert theirs.objects.read_bytes(digests[-1]) == mine.objects.read_bytes(digests[-1])
    assert verify(theirs.objects) == []
    _copy(mine.side, shared.side, digests)
    _copy(shared.side, theirs.side, digests)
    assert _copy(mine.side, shared.side, digests, repair=True) == 0
    for digest in digests:
        assert theirs.objects.read_bytes(digest) == mine.objects.read_bytes(digest)
    assert verify(theirs.objects) == []


def test_chains_that_two_projects_made_the_other_way_round_stay_short_enough(
    mine: Project, theirs: Project, shared: Shared, save_tensors: Save, family: Family
) -> None:
    """What one side stored as a difference may be the parent on the other: too long to read."""
    paths = [save_tensors(f"{n}.safetensors", tensors) for n, tensors in enumerate(family)]
    ways = [(mine, paths), (theirs, paths[::-1])]
    for project, order in ways:
        digests: list[Digest] = []
        for path in order:
            digests.append(project.objects.put_file(path, parents=digests[-1:]).digest)
        _copy(project.side, shared.side, digests)
    for project, _ in ways:
        _copy(shared.side, project.side, digests)
        _copy(project.side, shared.side, digests)
    fresh = Project()
    _copy(shared.side, fresh.side, digests)
    for project in (mine, theirs, fresh):
        assert verify(project.objects) == []


def test_a_part_of_a_file_brings_its_frames_alone(
    mine: Project, theirs: Project, shared: Shared, tmp_path: Path
) -> None:
    """Who reads one tensor of a large model would wait for all of it."""
    data = _noise(1, 12_000_000)
    tree = mine.put(tmp_path / "a", weights=data)
    _copy(mine.side, shared.side, [tree])
    (entry,) = mine.objects.read_tree(tree).entries
    assert entry.digest is not None
    fetcher = Fetcher(shared.side, theirs.side)
    recipe = fetcher.recipe(entry.digest)
    report = fetcher.chunks([recipe.chunks[0].digest])
    assert report.frame_count == 1
    assert 0 < report.copied_bytes < 5_000_000
    reader = Reader(theirs.backend, theirs.index)
    size_bytes = recipe.chunks[0].size_bytes
    assert b"".join(reader.pieces(recipe, 0, 1)) == data[:size_bytes]
    assert verify(theirs.objects) == []
    assert fetch_chunks(shared.side, theirs.side, [recipe.chunks[0].digest]).copied_bytes == 0
    whole = fetch_files(shared.side, theirs.side, [entry.digest])
    assert len(data) - report.copied_bytes < whole.copied_bytes < len(data)
    assert theirs.objects.read_bytes(entry.digest) == data
    assert verify(theirs.objects) == []


def test_a_part_that_was_collected_comes_again(
    mine: Project, theirs: Project, shared: Shared, tmp_path: Path
) -> None:
    """A training that reads part by part would end when the store is tidied beside it."""
    data = _noise(2, 6_000_000)
    tree = mine.put(tmp_path / "a", weights=data)
    _copy(mine.side, shared.side, [tree])
    (entry,) = mine.objects.read_tree(tree).entries
    assert entry.digest is not None
    fetcher = Fetcher(shared.side, theirs.side)
    reader = Reader(theirs.backend, theirs.index, cached_bytes=0)
    recipe = fetcher.recipe(entry.digest)
    opened = OpenedFile(reader, recipe, fetcher.chunks)
    assert opened.read_at(0, 10) == data[:10]
    assert opened.read_at(5_999_990, 10) == data[-10:]
    found = [stat.key for stat in theirs.backend.list("frames/")]
    assert len(found) > 1
    theirs.backend.delete_many(found)
    assert opened.read_at(0, 10) == data[:10]
    assert fetcher.chunks([recipe.chunks[-1].digest]).frame_count == 1


def test_a_part_of_a_difference_brings_what_it_is_the_difference_to(
    mine: Project, theirs: Project, shared: Shared, save_tensors: Save, family: Family
) -> None:
    """One tensor of a fine-tune could not be read."""
    digests: list[Digest] = []
    for number, tensors in enumerate(family):
        path = save_tensors(f"{number}.safetensors", tensors)
        digests.append(mine.objects.put_file(path, parents=digests[::-1]).digest)
    _copy(mine.side, shared.side, digests)
    fetcher = Fetcher(shared.side, theirs.side)
    recipe = fetcher.recipe(digests[-1])
    fetcher.chunks([chunk.digest for chunk in recipe.chunks])
    reader = Reader(theirs.backend, theirs.index)
    assert b"".join(reader.pieces(recipe, 0, recipe.chunk_count)) == mine.objects.read_bytes(
        digests[-1]
    )


def test_many_files_are_asked_for_by_listing(
    mine: Project, theirs: Project, shared: Shared, tmp_path: Path
) -> None:
    """A data set of thousands of small files would take a request for each."""
    files = {f"f{number:03}": _noise(number, 50) for number in range(100)}
    tree = mine.put(tmp_path / "a", **files)
    _copy(theirs.side, shared.side, [theirs.put(tmp_path / "b", **dict(list(files.items())[:40]))])
    counted = Counted(shared.backend)
    side = Side(name="origin", backend=counted, frames=RemoteIndex(counted))
    plan = Transfer(mine.side, side).plan([Content(tree, is_required=True)])
    assert len(plan.recipes) == 60
    assert counted.existed <= 2


class Counted(MemoryBackend):  # type: ignore[misc]  # final, and a test may count
    """Counts how often it is asked for one blob."""

    def __init__(self, other: MemoryBackend) -> None:
        super().__init__()
        self.blobs = other.blobs
        self.existed = 0

    @override
    def exists(self, key: str) -> bool:
        self.existed += 1
        return super().exists(key)
