"""The head snapshot is believed only when it is whole and fresh."""

from __future__ import annotations

import os
from pathlib import Path

from stemma.catalog.snapshot import (
    HEAD_NAME,
    FileStamp,
    Head,
    changed_files,
    digest_file,
    read_head,
    stamp_database,
    stamp_file,
    write_head,
)

EMPTY = Head(models={}, tracked={"data": {"data/a": FileStamp(1, 2, "ff")}})


def _state(folder: Path) -> Path:
    (folder / "stemma.db").write_bytes(b"rows")
    return folder


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """`status` would open the database each time."""
    state = _state(tmp_path)
    write_head(state, EMPTY, stamp_database(state))
    head = read_head(state)
    assert head is not None
    assert head["tracked"]["data"]["data/a"] == [1, 2, "ff"]
    assert os.listdir(state / "cache") == ["head.json"]  # noqa: PTH208 - names only


def test_a_missing_snapshot_is_no_snapshot(tmp_path: Path) -> None:
    """The first `status` would fail."""
    assert read_head(_state(tmp_path)) is None


def test_a_flipped_bit_is_never_believed(tmp_path: Path) -> None:
    """`status` would say `same` about a file that changed."""
    state = _state(tmp_path)
    write_head(state, EMPTY, stamp_database(state))
    data = bytearray((state / HEAD_NAME).read_bytes())
    for index in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[index] ^= 0x10
        (state / HEAD_NAME).write_bytes(flipped)
        assert read_head(state) is None


def test_a_commit_since_then_makes_it_stale(tmp_path: Path) -> None:
    """`status` would not know the newest release."""
    state = _state(tmp_path)
    write_head(state, EMPTY, stamp_database(state))
    (state / "stemma.db-wal").write_bytes(b"new")
    assert read_head(state) is None


def test_without_a_database_it_is_not_believed(tmp_path: Path) -> None:
    """A project on another database would show old heads for ever."""
    write_head(tmp_path, EMPTY, [])
    assert read_head(tmp_path) is None


def test_files_that_changed_or_are_missing_are_named(tmp_path: Path) -> None:
    """A changed script would be released as what was trained."""
    for name in ("same", "touched", "edited"):
        (tmp_path / name).write_text(name)
    files = {
        name: stamp_file(tmp_path / name, len(name), digest_file(tmp_path / name))
        for name in ("same", "touched", "edited")
    }
    files["gone"] = FileStamp(1, 1, "00")
    os.utime(tmp_path / "touched", ns=(1, 1))
    (tmp_path / "edited").write_text("EDITED")
    os.utime(tmp_path / "edited", ns=(1, 1))
    assert list(changed_files(tmp_path, files)) == [("edited", "changed"), ("gone", "missing")]


def test_a_file_that_differs_when_it_is_stamped_is_read_again(tmp_path: Path) -> None:
    """An edit made before the first `status` would never be seen."""
    (tmp_path / "a").write_text("new")
    stamp = stamp_file(tmp_path / "a", 3, "00")
    assert stamp.modified_ns == 0
    assert list(changed_files(tmp_path, {"a": stamp})) == [("a", "changed")]
