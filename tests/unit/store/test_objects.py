"""ObjectStore: what is put comes back, once, verified, or not at all."""

import io
import os
import random
import threading
from pathlib import Path

import pytest

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from stemma.domain.tree import EntryKind, TreeEntry
from stemma.store.backends.memory import MemoryBackend
from stemma.store.hashing import hash_bytes, hash_file
from stemma.store.index import MemoryChunkIndex
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify

RANDOM = random.Random(1).randbytes(3 << 20)


def _folder(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    (root / "data" / "big.bin").write_bytes(RANDOM)
    (root / "data" / "copy.bin").write_bytes(RANDOM)
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "empty").write_bytes(b"")
    (root / "link").symlink_to("data/big.bin")
    return root


PATHS = ["run.sh", "data/big.bin", "data/copy.bin", "empty", "link"]


@pytest.mark.parametrize("data", [b"", b"x", b"text " * 100_000, RANDOM], ids=len)
def test_bytes_come_back_by_every_digest(store: ObjectStore, data: bytes) -> None:
    """A model must come back bit for bit, by blake3 and by the sha256 that git-lfs uses."""
    stored = store.put_bytes(data)
    assert stored.digest == hash_bytes(data)
    assert stored.sha256 == hash_bytes(data, Algorithm.SHA256)
    assert stored.new_bytes <= stored.size_bytes == store.size(stored.digest) == len(data)
    assert store.read_bytes(stored.digest) == store.read_bytes(stored.sha256) == data
    assert store.has(stored.digest)
    assert store.has(stored.sha256)
    assert store.sha256(stored.digest) == stored.sha256
    assert verify(store) == []


def test_what_is_not_stored_is_not_found(store: ObjectStore) -> None:
    """A wrong digest must give an error, not empty bytes."""
    for digest in (hash_bytes(b"x"), hash_bytes(b"x", Algorithm.SHA256)):
        assert not store.has(digest)
        with pytest.raises(NotFoundError) as caught:
            store.read_bytes(digest)
        assert caught.value.code == "file-not-stored"
        with pytest.raises(NotFoundError):
            store.size(digest)
    with pytest.raises(NotFoundError, match="no tree"):
        store.read_tree(hash_bytes(b"x"))
    assert not store.has_tree(hash_bytes(b"x"))


def test_storing_again_costs_nothing(store: ObjectStore) -> None:
    """Every run captures the same data; the store must not grow."""
    store.put_bytes(RANDOM)
    before = [stat.key for stat in store.backend.list()]
    assert store.put_bytes(RANDOM).new_bytes == 0
    assert [stat.key for stat in store.backend.list()] == before


def test_appending_and_inserting_store_little_more(store: ObjectStore) -> None:
    """A growing data set must not be stored whole each time."""
    store.put_bytes(RANDOM)
    assert store.put_bytes(RANDOM + b"one more row\n").new_bytes < 150_000
    middle = len(RANDOM) // 2
    assert store.put_bytes(RANDOM[:middle] + b"!" + RANDOM[middle:]).new_bytes < 200_000


def test_equal_files_in_one_tree_are_stored_once(store: ObjectStore, tmp_path: Path) -> None:
    """Checkpoints repeat the tokenizer in every folder."""
    stored = store.put_tree(_folder(tmp_path / "in"), PATHS)
    assert stored.new_bytes == len(RANDOM) + len(b"#!/bin/sh\n")
    assert stored.size_bytes == 2 * len(RANDOM) + len(b"#!/bin/sh\n")
    assert stored.file_count == len(PATHS)
    assert set(stored.files) == set(PATHS) - {"link"}


def test_a_tree_comes_back_with_links_and_modes(store: ObjectStore, tmp_path: Path) -> None:
    """A restored script must still run."""
    source = _folder(tmp_path / "in")
    stored = store.put_tree(source, PATHS)
    assert store.has_tree(stored.digest)
    assert store.read_tree(stored.digest).entries == stored.entries
    target = tmp_path / "out" / "deep"
    store.export_tree(stored.digest, target)
    found = sorted(str(p.relative_to(target)) for p in target.rglob("*") if not p.is_dir())
    assert found == sorted(PATHS)
    assert (target / "link").readlink() == Path("data/big.bin")
    assert os.access(target / "run.sh", os.X_OK)
    assert not (target / "empty").stat().st_mode & 0o111
    for path in PATHS:
        assert (target / path).read_bytes() == (source / path).read_bytes()
    assert store.put_tree(target, PATHS).digest == stored.digest
    assert os.listdir(target.parent) == ["deep"]  # noqa: PTH208


def test_a_tree_never_replaces_a_folder_that_holds_something(
    store: ObjectStore, tmp_path: Path
) -> None:
    """A checkout must not eat somebody's work."""
    stored = store.put_tree(_folder(tmp_path / "in"), PATHS)
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("work")
    with pytest.raises(ConflictError) as caught:
        store.export_tree(stored.digest, target)
    assert caught.value.code == "target-exists"
    assert (target / "mine").read_text() == "work"


def test_a_tree_of_stored_files_can_be_composed(store: ObjectStore) -> None:
    """Components are assembled from files that were stored one by one."""
    stored = store.put_bytes(b"abc")
    entry = TreeEntry(path="x", kind=EntryKind.FILE, size_bytes=3, digest=stored.digest)
    assert store.put_tree_from([entry]).entries == (entry,)
    missing = TreeEntry(path="y", kind=EntryKind.FILE, size_bytes=3, digest=hash_bytes(b"?"))
    with pytest.raises(NotFoundError):
        store.put_tree_from([entry, missing])
    wrong = TreeEntry(path="x", kind=EntryKind.FILE, size_bytes=4, digest=stored.digest)
    with pytest.raises(InvalidInputError, match="4 bytes"):
        store.put_tree_from([wrong])


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside", "data/../../outside"])
def test_a_link_that_leaves_the_tree_is_refused(
    store: ObjectStore, tmp_path: Path, target: str
) -> None:
    """Capturing it would copy somebody's other files into a version."""
    (tmp_path / "out").symlink_to(target)
    with pytest.raises(InvalidInputError, match="'out'") as caught:
        store.put_tree(tmp_path, ["out"])
    assert caught.value.code == "link-leaves-tree"
    assert list(store.backend.list()) == []


def test_a_file_behind_a_linked_folder_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    """A linked folder is a way out of the tree as well."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("s")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "door").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidInputError, match="door"):
        store.put_tree(tmp_path / "in", ["door/secret"])


def test_what_is_not_a_file_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    """A named pipe would hang the capture."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(InvalidInputError, match=name):
            store.put_file(tmp_path / name)
        with pytest.raises(InvalidInputError, match=name):
            store.put_tree(tmp_path, [name])
    with pytest.raises(NotFoundError, match="missing"):
        store.put_file(tmp_path / "missing")
    with pytest.raises(NotFoundError, match="missing"):
        store.put_tree(tmp_path, ["missing"])


def test_a_file_that_is_written_while_it_is_captured_is_refused(
    memory_store: ObjectStore, tmp_path: Path
) -> None:
    """Half of one checkpoint and half of the next is no model."""
    path = tmp_path / "model.bin"
    path.write_bytes(RANDOM)

    def overwrite(_: int) -> None:
        with path.open("r+b") as stream:
            stream.write(b"!")

    with pytest.raises(ConflictError) as caught:
        memory_store.put_file(path, progress=overwrite)
    assert caught.value.code == "file-changed"
    assert str(path) in caught.value.message
    assert not memory_store.has(hash_file(path))


@pytest.mark.parametrize("change", ["grow", "shrink", "replace", "remove"])
def test_every_way_of_changing_a_file_is_noticed(
    memory_store: ObjectStore, tmp_path: Path, change: str
) -> None:
    """Training scripts append, truncate, rename over and delete."""
    path = tmp_path / "model.bin"
    path.write_bytes(RANDOM)
    seen = threading.Event()

    def meddle(_: int) -> None:
        if seen.is_set():
            return
        seen.set()
        match change:
            case "grow":
                with path.open("ab") as stream:
                    stream.write(b"!")
            case "shrink":
                os.truncate(path, 10)
            case "replace":
                (tmp_path / "new").write_bytes(RANDOM)
                (tmp_path / "new").replace(path)
            case _:
                path.unlink()

    with pytest.raises(ConflictError) as caught:
        memory_store.put_file(path, progress=meddle)
    assert caught.value.code == "file-changed"


def test_a_file_is_read_once_and_progress_adds_up(
    memory_store: ObjectStore, tmp_path: Path
) -> None:
    """The progress bar must end at the size of the file."""
    path = tmp_path / "model.bin"
    path.write_bytes(RANDOM)
    steps: list[int] = []
    memory_store.put_file(path, progress=steps.append)
    assert sum(steps) == len(RANDOM)


def test_nothing_stands_at_the_target_unless_it_was_verified(
    memory_store: ObjectStore, tmp_path: Path
) -> None:
    """A damaged model must not reach a server half."""
    backend = memory_store.backend
    assert isinstance(backend, MemoryBackend)
    stored = memory_store.put_bytes(RANDOM)
    memory_store.export_file(stored.digest, tmp_path / "good")
    assert (tmp_path / "good").read_bytes() == RANDOM
    fresh = ObjectStore(backend, memory_store.index)
    for key in [key for key in backend.blobs if key.startswith("frames/")][-1:]:
        damaged = bytearray(backend.blobs[key])
        damaged[-1] ^= 1
        backend.blobs[key] = bytes(damaged)
    (tmp_path / "old").write_bytes(b"old")
    for name in ("new", "old"):
        with pytest.raises(IntegrityError):
            fresh.export_file(stored.digest, tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good", "old"]
    assert (tmp_path / "old").read_bytes() == b"old"


def test_a_lost_index_is_named_and_can_be_rebuilt(store: ObjectStore) -> None:
    """Losing the database must never lose a model, nor look like it."""
    stored = store.put_bytes(RANDOM)
    bare = ObjectStore(store.backend, MemoryChunkIndex())
    with pytest.raises(IntegrityError) as caught:
        bare.read_bytes(stored.digest)
    assert caught.value.hint == "stemma doctor --rebuild"
    assert {problem.kind for problem in verify(bare)} == {"index-missing"}
    report = bare.rebuild_index()
    assert report.skipped == ()
    assert report.file_count == 1
    assert bare.read_bytes(stored.sha256) == RANDOM
    assert verify(bare) == []


def test_a_chunk_whose_frame_was_removed_is_stored_again(memory_store: ObjectStore) -> None:
    """An index that remembers too much must not make a write vanish."""
    stored = memory_store.put_bytes(RANDOM)
    for stat in list(memory_store.backend.list("frames/")):
        memory_store.backend.delete(stat.key)
    fresh = ObjectStore(memory_store.backend, memory_store.index)
    with pytest.raises(IntegrityError) as caught:
        fresh.read_bytes(stored.digest)
    assert caught.value.code == "frame-missing"
    assert fresh.put_bytes(RANDOM).new_bytes == len(RANDOM)
    assert fresh.read_bytes(stored.digest) == RANDOM


def _damage(store: ObjectStore, family: str) -> None:
    """Flip the last bit of every blob of a family."""
    for stat in list(store.backend.list(f"{family}/")):
        data = bytearray(store.backend.get(stat.key))
        data[-1] ^= 1
        store.backend.delete(stat.key)
        store.backend.put(stat.key, bytes(data))


@pytest.mark.parametrize("added", [RANDOM, RANDOM + b"more", RANDOM[: len(RANDOM) // 2]])
def test_what_rests_in_a_damaged_frame_is_stored_again(store: ObjectStore, added: bytes) -> None:
    """`stemma add` would acknowledge data that the store can never give back."""
    store.put_bytes(RANDOM)
    _damage(store, "frames")
    stored = store.put_bytes(added)
    assert stored.new_bytes > 0
    assert ObjectStore(store.backend, store.index).read_bytes(stored.digest) == added


def test_the_same_content_again_mends_a_damaged_frame(store: ObjectStore) -> None:
    """Everything else in that frame would stay lost although its bytes are at hand."""
    stored = store.put_bytes(RANDOM)
    _damage(store, "frames")
    assert verify(store) != []
    store.put_bytes(RANDOM)
    assert verify(store) == []
    assert ObjectStore(store.backend, store.index).read_bytes(stored.digest) == RANDOM


def test_what_a_damaged_frame_still_holds_stays_readable(store: ObjectStore) -> None:
    """Storing one file anew would take the sound chunks of its neighbours away."""
    first, second = RANDOM[:300_000], RANDOM[300_000:600_000]
    batch = Batch(store.backend, store.index)
    kept = batch.add_stream(io.BytesIO(first))
    batch.add_stream(io.BytesIO(second))
    batch.flush()
    _damage(store, "frames")
    assert store.put_bytes(second + b"more").new_bytes > 0
    assert ObjectStore(store.backend, store.index).read_bytes(kept.digest) == first


def test_records_are_kept_by_kind_and_verified(store: ObjectStore) -> None:
    """Manifests are the truth that the catalog is rebuilt from."""
    first = store.put_record("manifest", b'{"a":1}')
    second = store.put_record("manifest", b'{"a":2}')
    other = store.put_record("channel-move", b"{}")
    assert first == hash_bytes(b'{"a":1}', Algorithm.SHA256)
    assert store.put_record("manifest", b'{"a":1}') == first
    assert store.list_records("manifest") == sorted([first, second])
    assert store.list_records("channel-move") == [other]
    assert store.list_records("release") == []
    assert store.read_record("manifest", second) == b'{"a":2}'
    with pytest.raises(NotFoundError):
        store.read_record("release", first)
    for kind in ("", "../x", "Manifest", "a/b", "-a"):
        with pytest.raises(InvalidInputError):
            store.put_record(kind, b"")
    with pytest.raises(InvalidInputError):
        store.read_record("manifest", Digest.blake3("0" * 64))


def test_a_damaged_object_is_not_acknowledged_again(memory_store: ObjectStore) -> None:
    """Storing the same content again must not bless damaged bytes."""
    backend = memory_store.backend
    assert isinstance(backend, MemoryBackend)
    memory_store.put_record("manifest", b"{}")
    memory_store.put_bytes(b"hello")
    for key in backend.blobs:
        backend.blobs[key] = backend.blobs[key][:-1] + b"\xff"
    with pytest.raises(IntegrityError):
        memory_store.put_record("manifest", b"{}")
    with pytest.raises(IntegrityError):
        memory_store.put_bytes(b"hello")
    with pytest.raises(IntegrityError):
        ObjectStore(backend, MemoryChunkIndex()).put_bytes(b"hello")


def test_a_wrong_alias_never_delivers_another_file(store: ObjectStore) -> None:
    """A rotten database row must not hand out the wrong model under the right name."""
    asked = {hash_bytes(b"asked", algorithm) for algorithm in (Algorithm.SHA256, Algorithm.MD5)}
    store.put_bytes(b"asked")
    other = store.put_bytes(b"other")
    store.index.add_aliases(dict.fromkeys(asked, other.digest))
    for digest in asked:
        with pytest.raises(IntegrityError) as caught:
            store.read_bytes(digest)
        assert caught.value.code == "alias-wrong"
        assert caught.value.hint == "stemma doctor --rebuild"
    store.rebuild_index()
    assert store.read_bytes(hash_bytes(b"asked", Algorithm.SHA256)) == b"asked"
