"""Bringing back what was collected: all of it, sound, and found again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stemma.domain.digest import Digest
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.gc import collect
from stemma.store.index import ChunkRow, MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.trash import TrashHolding, empty, holding, restore
from stemma.store.verify import verify

LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """Return an empty store in a folder."""
    return ObjectStore(LocalBackend(tmp_path / "objects"), MemoryChunkIndex())


def _version(store: ObjectStore, folder: Path, text: str) -> Digest:
    folder.mkdir()
    (folder / "weights.bin").write_bytes(text.encode() * 9000)
    tree = store.put_tree(folder, ["weights.bin"])
    return store.put_record("manifest", json.dumps({"content": str(tree.digest)}).encode())


def _collect(store: ObjectStore, *roots: Digest, now: datetime = LATER) -> int:
    report = collect(store, roots, now=now, grace_seconds=60, is_dry_run=False)
    return len(report.removed)


def _weights(store: ObjectStore, manifest: Digest) -> bytes:
    content = json.loads(store.read_record("manifest", manifest))["content"]
    (entry,) = store.read_tree(Digest.parse(content)).entries
    assert entry.digest is not None
    return store.read_bytes(entry.digest)


def test_what_was_collected_by_mistake_comes_back_whole(store: ObjectStore, tmp_path: Path) -> None:
    """A run that somebody still needed would be gone."""
    lost = _version(store, tmp_path / "lost", "lost")
    count = _collect(store)
    assert holding(store).count == count > 0
    assert restore(store, since=None, is_dry_run=True).records == (("manifest", lost),)
    assert list(store.backend.list()) == []
    report = restore(store, since=None, is_dry_run=False)
    assert len(report.restored) == count
    assert report.damaged == ()
    assert _weights(store, lost) == b"lost" * 9000
    assert verify(store) == []
    assert store.put_bytes(b"lost" * 9000).new_bytes == 0
    assert holding(store) == TrashHolding()


def test_only_what_went_since_a_moment_comes_back(store: ObjectStore, tmp_path: Path) -> None:
    """A week of trash would come back for one mistake of today."""
    first = _version(store, tmp_path / "a", "a")
    _collect(store)
    second = _version(store, tmp_path / "b", "b")
    day = LATER + timedelta(days=1)
    _collect(store, now=day)
    restore(store, since=day, is_dry_run=False)
    assert store.list_records("manifest") == [second]
    assert _weights(store, second) == b"b" * 9000
    restore(store, since=None, is_dry_run=False)
    assert store.list_records("manifest") == sorted([first, second])


def test_what_rotted_in_the_trash_stays_there(store: ObjectStore, tmp_path: Path) -> None:
    """Damage would come back into the store unseen."""
    _version(store, tmp_path / "a", "a")
    _collect(store)
    frame = next((tmp_path / "objects" / "trash").glob("*/frames/*/*"))
    frame.chmod(0o644)
    frame.write_bytes(frame.read_bytes()[:-1] + b"?")
    report = restore(store, since=None, is_dry_run=False)
    assert [key.partition("/")[0] for key in report.damaged] == ["frames"]
    assert holding(store).count == 1


def test_a_damaged_object_gives_way_to_what_the_trash_holds(
    store: ObjectStore, tmp_path: Path
) -> None:
    """The copy that could mend it would be thrown away."""
    lost = _version(store, tmp_path / "a", "a")
    _collect(store)
    again = _version(store, tmp_path / "b", "a")
    assert again == lost
    for frame in (tmp_path / "objects" / "frames").glob("*/*"):
        frame.chmod(0o644)
        frame.write_bytes(b"damaged")
    restore(store, since=None, is_dry_run=False)
    assert verify(store) == []
    assert _weights(store, lost) == b"a" * 9000


class _MortalIndex(MemoryChunkIndex):
    """An index whose process dies at the verb that ``dies_at`` names."""

    dies_at = ""

    def add(
        self, frames: Mapping[bytes, Sequence[ChunkRow]], *, instead_of: Iterable[bytes] = ()
    ) -> None:
        """Die before rows are written, or write them."""
        self._die("add")
        super().add(frames, instead_of=instead_of)

    def drop_frames(self, frames: Iterable[bytes]) -> None:
        """Forget rows, and die after that."""
        super().drop_frames(frames)
        self._die("drop_frames")

    def add_aliases(self, aliases: Mapping[Digest, Digest]) -> None:
        """Die before aliases are written, or write them."""
        self._die("add_aliases")
        super().add_aliases(aliases)

    def _die(self, verb: str) -> None:
        if verb == self.dies_at:
            self.dies_at = ""
            raise KeyboardInterrupt


@pytest.mark.parametrize("verb", ["add", "add_aliases"])
def test_a_return_that_was_killed_is_repeated_and_whole(tmp_path: Path, verb: str) -> None:
    """After a power cut, doctor would find harm where nobody did any."""
    index = _MortalIndex()
    store = ObjectStore(LocalBackend(tmp_path / "objects"), index)
    lost = _version(store, tmp_path / "lost", "lost")
    _collect(store)
    index.dies_at = verb
    with pytest.raises(KeyboardInterrupt):
        restore(store, since=None, is_dry_run=False)
    assert verify(store) == []
    restore(store, since=None, is_dry_run=False)
    assert verify(store) == []
    assert _weights(store, lost) == b"lost" * 9000


def test_what_a_killed_collection_took_comes_back_whole(tmp_path: Path) -> None:
    """Frames that it left without rows would not be found by the files that need them."""
    index = _MortalIndex()
    store = ObjectStore(LocalBackend(tmp_path / "objects"), index)
    lost = _version(store, tmp_path / "lost", "lost")
    index.dies_at = "drop_frames"
    with pytest.raises(KeyboardInterrupt):
        _collect(store)
    assert verify(store) == []
    restore(store, since=None, is_dry_run=False)
    assert verify(store) == []
    assert _weights(store, lost) == b"lost" * 9000


def test_the_trash_is_emptied_of_what_is_old(store: ObjectStore, tmp_path: Path) -> None:
    """A disk would fill up with what nobody wants."""
    _version(store, tmp_path / "a", "a")
    old = _collect(store)
    _version(store, tmp_path / "b", "b")
    new = _collect(store, now=LATER + timedelta(days=5))
    planned = empty(store, before=LATER, is_dry_run=True)
    assert planned.count == old
    assert holding(store).count == old + new
    assert empty(store, before=LATER, is_dry_run=False) == planned
    assert holding(store).count == new
    assert empty(store, before=None, is_dry_run=False).count == new
    assert holding(store) == TrashHolding()


def test_a_store_without_trash_has_nothing_in_it() -> None:
    """A store in memory, or a remote, would end in a traceback."""
    store = ObjectStore(MemoryBackend(), MemoryChunkIndex())
    store.put_bytes(b"a")
    assert _collect(store) == 2
    assert holding(store) == empty(store, before=None, is_dry_run=False) == TrashHolding()
    assert restore(store, since=None, is_dry_run=False).restored == ()
