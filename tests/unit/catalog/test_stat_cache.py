"""Tracked files are read when they may have changed, and only then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from stemma.catalog import stat_cache
from stemma.domain.digest import Digest
from stemma.store.backends.local import LocalBackend
from stemma.store.hashing import hash_file
from stemma.store.index import MemoryChunkIndex
from stemma.store.keys import recipe_key, tree_key
from stemma.store.objects import ObjectStore

LATER_NS = 10_000_000_000
Add = Callable[..., tuple[Digest, int]]


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    """Make an empty store."""
    return ObjectStore(LocalBackend(tmp_path / "objects"), MemoryChunkIndex())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a folder with three files, one of which runs, and a link."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(f"content of {name}\n")
    (folder / "b").chmod(0o755)
    (folder / "link").symlink_to("a")
    return folder


@pytest.fixture
def add(objects: ObjectStore, data: Path, tmp_path: Path) -> Add:
    """Return what stores the folder: its digest, and how many bytes were read."""

    def run(later_ns: int = LATER_NS) -> tuple[Digest, int]:
        read: list[int] = []
        names = [path.name for path in data.iterdir()]
        seen = stat_cache.survey(tmp_path, data, names, now_ns=time.time_ns() + later_ns)
        unread_bytes = seen.unread_bytes
        stored = stat_cache.store(objects, seen, read.append)
        assert stored.digest == objects.put_tree(data, names).digest
        assert stored.size_bytes == sum(
            path.lstat().st_size for path in data.iterdir() if not path.is_symlink()
        )
        assert unread_bytes in {sum(read), 0}
        return stored.digest, sum(read)

    return run


def test_unchanged_files_are_not_read(add: Add) -> None:
    """`stemma add` of a terabyte would read a terabyte to say that nothing changed."""
    first, read = add()
    assert read == 36 + 3
    assert add() == (first, 0)


def test_only_what_changed_is_read(add: Add, data: Path) -> None:
    """One new image would cost reading all the others."""
    add()
    (data / "b").write_text("other\n")
    (data / "d").write_text("more\n")
    (data / "c").unlink()
    digest, read = add()
    assert read == len("other\n") + len("more\n")
    assert add() == (digest, 0)


def test_a_file_as_old_as_the_look_is_read_again(add: Add) -> None:
    """An edit in the same tick as the last one would never be stored."""
    first, read = add(0)
    assert read
    assert add(0) == (first, read)


@pytest.mark.parametrize("change", ["mode", "touched", "replaced"])
def test_what_may_have_changed_is_read(add: Add, data: Path, change: str) -> None:
    """A file put back with its old time would keep its old content in the store."""
    add()
    before = (data / "a").stat()
    match change:
        case "mode":
            (data / "a").chmod(0o755)
        case "touched":
            os.utime(data / "a", ns=(1, 1))
        case "replaced":
            (data / "new").write_text("CONTENT OF A\n"[: before.st_size])
            (data / "new").replace(data / "a")
            os.utime(data / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert add()[1] == (data / "a").stat().st_size


def test_what_was_collected_since_is_stored_again(
    add: Add, objects: ObjectStore, data: Path
) -> None:
    """A pointer would name content that garbage collection has removed."""
    digest, _ = add()
    for entry in objects.read_tree(digest).entries:
        if entry.digest is not None:
            objects.backend.delete_many([recipe_key(entry.digest)])
    objects.backend.delete_many([tree_key(digest)])
    assert add()[0] == digest
    assert objects.read_bytes(objects.read_tree(digest).entries[0].digest or digest)
    assert add() == (digest, 0)


def test_a_damaged_cache_is_no_cache(add: Add, tmp_path: Path) -> None:
    """A flipped bit in a cache would become the content of a version."""
    first, read = add()
    (file,) = (tmp_path / "cache" / "files").iterdir()
    sound = file.read_bytes()
    for damaged in (b"", b"\xff", b"nothing", sound[:-1], sound.replace(b'"a"', b'"c"', 1)):
        file.write_bytes(damaged)
        assert add() == (first, read)
    stat_cache.forget(tmp_path)
    assert add() == (first, read)


def test_without_a_place_for_the_cache_files_are_stored_all_the_same(
    add: Add, tmp_path: Path
) -> None:
    """A full disk for caches would stop `stemma add`."""
    (tmp_path / "cache").write_text("in the way")
    first, read = add()
    assert add() == (first, read)


def _stored_bytes(objects: ObjectStore) -> int:
    return sum(stat.size_bytes for stat in objects.backend.list("frames/"))


@pytest.mark.slow
def test_a_model_that_changed_is_stored_as_the_difference_to_what_it_was(
    objects: ObjectStore, data: Path, add: Add
) -> None:
    """Somebody who tracks a folder of weights must not pay for each training whole."""
    generator = np.random.default_rng(23)
    weights = generator.normal(0, 0.05, (1200, 1024)).astype(np.float32)
    np.save(data / "weights.npy", weights)
    add()
    first = _stored_bytes(objects)
    np.save(data / "weights.npy", weights + np.float32(1e-6))
    add()
    changed = _stored_bytes(objects) - first
    np.save(data / "beside.npy", weights + np.float32(2e-6))
    add()
    beside = _stored_bytes(objects) - first - changed
    assert changed < 0.5 * first
    assert beside < 0.5 * first


@pytest.mark.slow
def test_changed_weights_beside_a_model_that_did_not_change_are_a_difference(
    objects: ObjectStore, data: Path, add: Add
) -> None:
    """A training changes the weights only: the model must be asked what they are all the same."""
    generator = np.random.default_rng(24)
    weights = generator.normal(0, 0.05, (600, 512)).astype(np.float32)
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=weights.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    (data / "m.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    (data / "w.bin").write_bytes(weights.tobytes())
    add()
    first = _stored_bytes(objects)
    (data / "w.bin").write_bytes((weights + np.float32(1e-6)).tobytes())
    add()
    assert _stored_bytes(objects) - first < 0.6 * first


def test_what_was_found_the_same_is_not_read_again(data: Path, tmp_path: Path) -> None:
    """A pull that replaced one file would read all the others the next time too."""
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file())
    later = time.time_ns() + 10_000_000_000
    seen = stat_cache.survey(tmp_path, data, names, now_ns=later)
    digest = hash_file(data / names[0])
    stat_cache.note(seen, {names[0]: digest})
    again = stat_cache.survey(tmp_path, data, names, now_ns=later)
    assert again.known == {names[0]: digest}
