"""Garbage collection: what roots reach stays, whatever happens on the way."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import IntegrityError, UnavailableError
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.backends.trash import Trash, TrashedBlob
from stemma.store.gc import GcReport, collect, reachable
from stemma.store.hashing import hash_bytes
from stemma.store.index import MemoryChunkIndex
from stemma.store.keys import recipe_key
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify

LATER = datetime.now(UTC) + timedelta(days=30)


def _version(
    store: ObjectStore, folder: Path, text: str, *, parent: Digest | None = None
) -> Digest:
    """Store a manifest with a tree of two files and a blob that it names by sha256."""
    folder.mkdir()
    (folder / "weights.bin").write_bytes(text.encode() * 9000)
    (folder / "shared.txt").write_bytes(b"shared by all versions")
    tree = store.put_tree(folder, ["weights.bin", "shared.txt"])
    blob = store.put_bytes(f"labels of {text}".encode())
    manifest = {
        "content": str(tree.digest),
        "labels": {"blob": [str(blob.sha256)]},
        "identity": str(hash_bytes(b"not stored")),
        "parents": [str(parent)] if parent else [],
    }
    return store.put_record("manifest", json.dumps(manifest).encode())


def _collect(store: ObjectStore, roots: Iterable[Digest], *, is_dry_run: bool = False) -> GcReport:
    return collect(store, roots, now=LATER, grace_seconds=60, is_dry_run=is_dry_run)


def _weights(store: ObjectStore, manifest: Digest) -> bytes:
    content = json.loads(store.read_record("manifest", manifest))["content"]
    (_, entry) = store.read_tree(Digest.parse(content)).entries
    assert entry.digest is not None
    return store.read_bytes(entry.digest)


def test_what_a_root_reaches_stays_and_the_rest_goes(store: ObjectStore, tmp_path: Path) -> None:
    """A released model that is collected cannot be rolled back to."""
    kept = _version(store, tmp_path / "kept", "kept")
    lost = _version(store, tmp_path / "lost", "lost")
    planned = _collect(store, [kept], is_dry_run=True)
    assert store.list_records("manifest") == sorted([kept, lost])
    report = _collect(store, [kept])
    assert report == planned
    assert {removal.key.partition("/")[0] for removal in report.removed} >= {
        "records",
        "trees",
        "recipes",
    }
    assert report.freed_bytes == sum(removal.size_bytes for removal in report.removed) > 0
    assert report.kept == len(list(store.backend.list()))
    assert store.list_records("manifest") == [kept]
    assert _weights(store, kept) == b"kept" * 9000
    labels = store.put_bytes(b"labels of kept")
    assert labels.new_bytes == 0
    assert verify(store) == []
    assert _collect(store, [kept]).removed == ()


def test_without_roots_everything_goes(store: ObjectStore, tmp_path: Path) -> None:
    """Frames that nothing uses are what fills the disk."""
    _version(store, tmp_path / "a", "a")
    _collect(store, [])
    assert list(store.backend.list()) == []
    assert store.put_bytes(b"a" * 9000).new_bytes == 9000
    assert verify(store) == []


def test_ancestors_stay(store: ObjectStore, tmp_path: Path) -> None:
    """A fine-tune is worth little without the model it came from."""
    parent = _version(store, tmp_path / "a", "parent")
    child = _version(store, tmp_path / "b", "child", parent=parent)
    _collect(store, [child])
    assert _weights(store, parent) == b"parent" * 9000


def test_trees_and_files_can_be_roots(memory_store: ObjectStore, tmp_path: Path) -> None:
    """Leases hold single files, checkouts hold trees."""
    manifest = _version(memory_store, tmp_path / "a", "a")
    tree = Digest.parse(json.loads(memory_store.read_record("manifest", manifest))["content"])
    file = memory_store.put_bytes(b"lonely")
    live = reachable(memory_store, [tree, file.sha256])
    assert {key.family.value for key in live.keys} == {"trees", "recipes"}
    _collect(memory_store, [tree, file.digest])
    assert memory_store.read_bytes(file.digest) == b"lonely"
    assert memory_store.read_tree(tree)
    assert memory_store.list_records("manifest") == []


def test_what_is_young_stays_with_all_it_needs(memory_store: ObjectStore, tmp_path: Path) -> None:
    """A writer may be about to name what it has just stored."""
    manifest = _version(memory_store, tmp_path / "a", "a")
    report = collect(memory_store, [], now=datetime.now(UTC), grace_seconds=3600, is_dry_run=False)
    assert report.removed == ()
    assert _weights(memory_store, manifest) == b"a" * 9000


def test_a_root_that_is_not_stored_stops_the_collection(
    memory_store: ObjectStore, tmp_path: Path
) -> None:
    """A damaged store must not be made worse."""
    _version(memory_store, tmp_path / "a", "a")
    with pytest.raises(IntegrityError) as caught:
        _collect(memory_store, [hash_bytes(b"?")])
    assert caught.value.code == "root-missing"
    assert verify(memory_store) == []


@pytest.mark.parametrize("family", ["records", "trees", "recipes"])
def test_damage_on_the_way_stops_the_collection(
    memory_store: ObjectStore, tmp_path: Path, family: str
) -> None:
    """Whatever a damaged object names would be taken for garbage."""
    backend = memory_store.backend
    assert isinstance(backend, MemoryBackend)
    root = _version(memory_store, tmp_path / "a", "a")
    _version(memory_store, tmp_path / "b", "b")
    live = reachable(memory_store, [root]).keys
    hexes = {key.hex for key in live if key.family.value == family}
    before = dict(backend.blobs)
    for damaged in [key for key in before if key.replace("/", "")[-64:] in hexes]:
        backend.blobs[damaged] = before[damaged][:-1] + b"\xff"
        found = dict(backend.blobs)
        with pytest.raises(IntegrityError):
            _collect(memory_store, [root])
        assert backend.blobs == found
        backend.blobs[damaged] = before[damaged]
    assert _collect(memory_store, [root]).removed


def test_a_frame_with_an_unreadable_header_and_foreign_files_stay(
    memory_store: ObjectStore,
) -> None:
    """Nobody knows what is in them; doctor reports them."""
    backend = memory_store.backend
    assert isinstance(backend, MemoryBackend)
    memory_store.put_bytes(b"x" * 100)
    (frame,) = [key for key in backend.blobs if key.startswith("frames/")]
    backend.blobs[frame] = b"damaged"
    backend.put("frames/notes", b"mine")
    _collect(memory_store, [])
    assert set(backend.blobs) == {frame, "frames/notes"}


def test_a_frame_with_one_live_chunk_stays(memory_store: ObjectStore, tmp_path: Path) -> None:
    """Small files of several versions share a frame."""
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    tree = memory_store.put_tree(tmp_path, ["a", "b"])
    keep = tree.files["a"].digest
    _collect(memory_store, [keep])
    assert memory_store.read_bytes(keep) == b"a"
    assert not memory_store.has(tree.files["b"].digest)
    assert memory_store.put_bytes(b"b").new_bytes == 0


class _DyingBackend(LocalBackend):  # type: ignore[misc]  # final for users; here it must die
    """A folder whose process dies after so many deletions."""

    def __init__(self, root: Path, deletions: int) -> None:
        super().__init__(root)
        self.deletions = deletions

    @override
    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            if self.deletions == 0:
                raise UnavailableError("the power went out")
            self.deletions -= 1
            super().delete_many([key])


class _DyingTrash:
    """The trash of a folder whose process dies after so many blobs went there."""

    def __init__(self, trash: Trash, count: int) -> None:
        self._trash = trash
        self._left = count

    def take(self, keys: Iterable[str], at: datetime) -> None:
        for key in keys:
            if self._left == 0:
                raise UnavailableError("the power went out")
            self._left -= 1
            self._trash.take([key], at)

    def list(self) -> Iterator[TrashedBlob]:
        return self._trash.list()

    def read(self, blob: TrashedBlob) -> bytes:
        return self._trash.read(blob)

    def give_back(self, blobs: Iterable[TrashedBlob]) -> None:
        self._trash.give_back(blobs)

    def remove(self, blobs: Iterable[TrashedBlob]) -> None:
        self._trash.remove(blobs)


@pytest.mark.slow
@pytest.mark.parametrize("is_final", [False, True], ids=["to the trash", "for good"])
def test_a_crash_at_any_point_of_a_collection_loses_nothing(
    tmp_path: Path, *, is_final: bool
) -> None:
    """A power cut during gc must leave every kept version whole and every write sound."""
    for count in range(20):
        root = tmp_path / str(count)
        root.mkdir()
        index = MemoryChunkIndex()
        backend = _DyingBackend(root / "objects", count)
        backend.trash = _DyingTrash(backend.trash, count)  # type: ignore[assignment]  # it dies
        store = ObjectStore(backend, index)
        kept = _version(store, root / "kept", "kept")
        _version(store, root / "lost", "lost")
        try:
            collect(store, [kept], now=LATER, grace_seconds=60, is_dry_run=False, is_final=is_final)
        except UnavailableError:
            pass
        else:
            assert count > 5
            break
        after = ObjectStore(LocalBackend(root / "objects"), index)
        assert _weights(after, kept) == b"kept" * 9000
        assert verify(after) == []
        again = _version(after, root / "again", "lost")
        assert _weights(after, again) == b"lost" * 9000
        _collect(after, [kept, again])
        assert verify(after) == []
    else:
        pytest.fail("the collection never ended")


def test_an_md5_names_a_file_and_bare_records_name_nothing(memory_store: ObjectStore) -> None:
    """DVC pointers know a file by md5 alone; a record need not be JSON."""
    file = memory_store.put_bytes(b"by md5")
    md5 = hash_bytes(b"by md5", Algorithm.MD5)
    memory_store.index.add_aliases({md5: file.digest})
    record = memory_store.put_record("note", b"not JSON")
    _collect(memory_store, [md5, record])
    assert memory_store.read_bytes(md5) == b"by md5"
    assert memory_store.read_record("note", record) == b"not JSON"
    with pytest.raises(IntegrityError):
        reachable(memory_store, [hash_bytes(b"?", Algorithm.MD5)])


def test_a_tree_without_one_of_its_files_stops_the_collection(
    memory_store: ObjectStore, tmp_path: Path
) -> None:
    """A store with holes must be looked at before it is thinned out."""
    root = _version(memory_store, tmp_path / "a", "a")
    weights = hash_bytes(b"a" * 9000)
    assert memory_store.backend.delete(recipe_key(weights))
    with pytest.raises(IntegrityError) as caught:
        _collect(memory_store, [root])
    assert str(weights) in caught.value.message
