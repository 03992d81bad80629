"""Files that share their room on the disk: only ever with the right bytes.

Where the file system of the tests shares nothing, half of this shows that nothing is lost by it;
``pytest --basetemp`` on a btrfs or XFS shows the rest.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from stemma.store.hashing import hash_bytes
from stemma.store.objects import ObjectStore
from stemma.store.reflink import clone_file

DATA = random.Random(1).randbytes(1 << 20)


def test_a_clone_is_its_own_file(tmp_path: Path) -> None:
    """A write to one version's file would change another's."""
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(DATA)
    if not clone_file(source, target, hash_bytes(DATA), 0o666):
        assert not target.exists()
        pytest.skip("this file system shares nothing")
    source.write_bytes(b"changed")
    assert target.read_bytes() == DATA


def test_what_is_not_as_it_was_is_no_twin(tmp_path: Path) -> None:
    """A file that rotted in one version would rot in every version made after it."""
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(DATA[:-1] + b"x")
    assert not clone_file(source, target, hash_bytes(DATA), 0o666)
    assert not clone_file(tmp_path / "gone", target, hash_bytes(DATA), 0o666)
    assert not target.exists()


def test_a_tree_is_written_whatever_its_twins_are(store: ObjectStore, tmp_path: Path) -> None:
    """A version could not be made ready, or would be made from what is damaged."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("good", "rotten", "gone"):
        (folder / name).write_bytes(name.encode() + DATA)
    tree = store.put_tree(folder, ["good", "rotten", "gone"])
    twins = {file.digest: folder / name for name, file in tree.files.items()}
    (folder / "rotten").write_bytes(b"other")
    (folder / "gone").unlink()
    store.export_tree(tree.digest, tmp_path / "out", twins)
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {name: name.encode() + DATA for name in ("good", "rotten", "gone")}
