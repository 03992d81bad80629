"""The trash of a folder: what is in it is not in the store, and comes back as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.trash import TrashingBackend

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    """Return a store of three blobs."""
    backend = LocalBackend(tmp_path / "objects")
    for key, data in {
        "frames/aa/one": b"1",
        "frames/ab/two": b"22",
        "trees/aa/three": b"333",
    }.items():
        backend.put(key, data)
    return backend


def _keys(backend: LocalBackend) -> list[str]:
    return [stat.key for stat in backend.list()]


def test_what_is_in_the_trash_is_not_in_the_store(backend: LocalBackend) -> None:
    """A version that was collected would still be found half."""
    assert isinstance(backend, TrashingBackend)
    backend.trash.take(["frames/aa/one", "trees/aa/three", "frames/00/missing"], NOW)
    assert _keys(backend) == ["frames/ab/two"]
    assert not backend.exists("frames/aa/one")
    trashed = [(blob.key, blob.size_bytes, blob.trashed_at) for blob in backend.trash.list()]
    assert trashed == [("frames/aa/one", 1, NOW), ("trees/aa/three", 3, NOW)]


def test_it_comes_back_as_it_was_and_young(backend: LocalBackend) -> None:
    """The next collection would take away again what was just brought back."""
    backend.trash.take(["frames/aa/one"], NOW)
    (blob,) = backend.trash.list()
    before = datetime.now(UTC) - timedelta(seconds=5)
    backend.trash.give_back([blob])
    assert backend.get("frames/aa/one") == b"1"
    stat = next(backend.list("frames/aa/"))
    assert stat.modified_at > before
    assert list(backend.trash.list()) == []
    assert list((backend.root / "trash").iterdir()) == []


def test_the_same_blob_may_go_again(backend: LocalBackend) -> None:
    """Folders that were made before would be believed to be there still."""
    for _ in range(2):
        backend.trash.take(["frames/aa/one"], NOW)
        backend.trash.give_back(backend.trash.list())
    assert len(_keys(backend)) == 3


def test_what_was_written_meanwhile_stays(backend: LocalBackend) -> None:
    """A key is written once; the trash must not replace what a writer relies on."""
    backend.trash.take(["frames/aa/one"], NOW)
    backend.put("frames/aa/one", b"new")
    backend.trash.give_back(backend.trash.list())
    assert backend.get("frames/aa/one") == b"new"
    assert list(backend.trash.list()) == []


def test_removing_frees_and_leaves_the_rest(backend: LocalBackend) -> None:
    """Emptying the trash would free nothing, or too much."""
    backend.trash.take(["frames/aa/one"], NOW)
    backend.trash.take(["frames/ab/two"], NOW + timedelta(days=1))
    older, newer = backend.trash.list()
    assert backend.trash.read(newer) == b"22"
    backend.trash.remove([older])
    assert list(backend.trash.list()) == [newer]
    with pytest.raises(NotFoundError):
        backend.trash.read(older)
    assert _keys(backend) == ["trees/aa/three"]


def test_foreign_names_in_the_trash_are_left_alone(backend: LocalBackend) -> None:
    """Somebody's own files would be deleted."""
    note = backend.root / "trash" / "mine" / "note.txt"
    note.parent.mkdir(parents=True)
    note.write_text("keep")
    backend.trash.take(["frames/aa/one"], NOW)
    backend.trash.remove(backend.trash.list())
    assert note.read_text() == "keep"
    assert len(_keys(backend)) == 2


def test_no_blob_is_written_into_the_trash(backend: LocalBackend) -> None:
    """It would be in no listing, and nobody would ever find it."""
    with pytest.raises(InvalidInputError):
        backend.put("trash/aa/one", b"1")
