"""Threads change how fast files are stored and read, and nothing else."""

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError, IntegrityError, UnavailableError
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore
from stemma.store.reading import Reader

Save = Callable[[str, dict[str, NDArray[np.generic]]], Path]


@pytest.fixture
def files(save_tensors: Save, tmp_path: Path) -> list[Path]:
    """A model of 12 MiB, a fine-tune of it, and 3 MiB of something else."""
    generator = np.random.default_rng(11)
    base = {
        f"layer.{number}": generator.normal(0, 0.05, (512, 768)).astype(np.float32)
        for number in range(8)
    }
    tune = {
        name: (array + generator.normal(0, 1e-5, array.shape)).astype(np.float32)
        for name, array in base.items()
    }
    other = tmp_path / "other"
    other.write_bytes(random.Random(5).randbytes(3 << 20))
    return [save_tensors("base", dict(base)), save_tensors("tune", dict(tune)), other]


_OTHERS = set[threading.Thread]()
"""Threads of objects that other tests of this process left to the collection of garbage."""


@pytest.fixture(autouse=True)
def _note_others() -> None:
    _OTHERS.clear()
    _OTHERS.update(threading.enumerate())


def _left() -> list[str]:
    own = set(threading.enumerate()) - _OTHERS
    return [thread.name for thread in own if "stemma" in thread.name]


def _stored(files: list[Path], threads: int) -> tuple[MemoryBackend, list[Digest]]:
    backend, index = MemoryBackend(), MemoryChunkIndex()
    digests: list[Digest] = []
    for path in files:
        batch = Batch(backend, index, threads=threads)
        digests.append(batch.add_path(path, parents=digests[::-1]).digest)
        batch.flush()
        assert not _left()
    reader = Reader(backend, index, threads=threads)
    for path, digest in zip(files, digests, strict=True):
        assert b"".join(reader.stream(digest)) == path.read_bytes()
        assert not _left()
    return backend, digests


@pytest.mark.slow
def test_the_same_bytes_are_stored_by_any_number_of_threads(files: list[Path]) -> None:
    """Two machines must make the same frames of the same files, or they would share nothing."""
    alone, digests = _stored(files, 0)
    keys = [stat.key for stat in alone.list()]
    for threads in (1, 5):
        together, again = _stored(files, threads)
        assert [stat.key for stat in together.list()] == keys
        assert again == digests


def test_no_thread_outlives_a_file_that_is_not_read_to_its_end(files: list[Path]) -> None:
    """A server that answers many partial downloads must not gather threads."""
    backend, index = MemoryBackend(), MemoryChunkIndex()
    batch = Batch(backend, index, threads=0)
    digest = batch.add_path(files[2]).digest
    batch.flush()
    stream: Iterator[bytes] = Reader(backend, index, threads=3).stream(digest)
    next(stream)
    assert _left()
    del stream
    assert not _left()


def test_a_damaged_frame_is_the_same_error_with_threads(files: list[Path]) -> None:
    """Reading ahead must not hide what is wrong, nor leave threads behind."""
    backend, index = MemoryBackend(), MemoryChunkIndex()
    batch = Batch(backend, index)
    digest = batch.add_path(files[2]).digest
    batch.flush()
    key = next(stat.key for stat in backend.list("frames/"))
    data = backend.get(key)
    backend.delete(key)
    backend.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="damaged"):
        list(Reader(backend, index, threads=3).stream(digest))
    assert not _left()


def test_a_file_that_changes_is_refused_and_leaves_no_thread(files: list[Path]) -> None:
    """An error in the middle of a file must not leave work going on behind it."""
    batch = Batch(MemoryBackend(), MemoryChunkIndex(), threads=3)

    def touch(_: int) -> None:
        os.utime(files[0], (1, 1))

    with pytest.raises(ConflictError):
        batch.add_path(files[0], touch)
    batch.flush()
    assert not _left()


def test_large_and_small_files_of_a_tree_are_exported_whole(
    files: list[Path], tmp_path: Path
) -> None:
    """A checkout that writes to the disk in the background must still end with every file."""
    for number in range(5):
        (tmp_path / f"small-{number}").write_bytes(b"%d" % number)
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    store = ObjectStore(MemoryBackend(), MemoryChunkIndex())
    store.export_tree(store.put_tree(tmp_path, names).digest, tmp_path / "out")
    assert not _left()
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()


class _FullBackend:
    """A backend that has no room for frames until somebody makes some."""

    def __init__(self) -> None:
        self.inner = MemoryBackend()
        self.is_full = True

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def put_many(self, blobs: Mapping[str, bytes]) -> frozenset[str]:
        if self.is_full:
            raise UnavailableError("no room", code="disk-full", hint="df -h")
        return self.inner.put_many(blobs)


def test_frames_that_did_not_fit_are_written_by_a_later_flush_or_nothing_is(
    files: list[Path],
) -> None:
    """A disk that was full must not lead to a recipe whose frames are missing."""
    full = _FullBackend()
    backend: BlobBackend = full  # type: ignore[assignment]
    index = MemoryChunkIndex()
    batch = Batch(backend, index, threads=3)
    digest = batch.add_path(files[0]).digest
    for _ in range(2):
        with pytest.raises(UnavailableError):
            batch.flush()
        assert not _left()
        assert not list(full.inner.list())
    full.is_full = False
    batch.flush()
    assert b"".join(Reader(backend, index).stream(digest)) == files[0].read_bytes()
