"""Pointer files and what stands in .gitignore."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stemma.catalog.pointer_files import find_pointers
from stemma.catalog.pointers import (
    Pointer,
    encode_pointer,
    ignore_in_git,
    read_pointer,
    write_pointer,
)
from stemma.domain.digest import Algorithm
from stemma.domain.errors import (
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)
from stemma.store.hashing import hash_bytes

FILE = Pointer(
    kind="file",
    size_bytes=3,
    content=hash_bytes(b"tree"),
    sha256=hash_bytes(b"abc", Algorithm.SHA256),
)


def test_a_pointer_comes_back_as_written(tmp_path: Path) -> None:
    """A tracked file could not be found again."""
    for pointer in (FILE, Pointer(kind="folder", size_bytes=0, content=hash_bytes(b""))):
        assert read_pointer(write_pointer(tmp_path / "d.csv", pointer)) == pointer
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv.stemma"]


@pytest.mark.slow
def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """A damaged pointer would restore other data, silently."""
    target = write_pointer(tmp_path / "d", FILE)
    data = target.read_bytes()
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        target.write_bytes(flipped)
        with pytest.raises(IntegrityError, match="stemma"):
            read_pointer(target)


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_truncated_pointer_is_found(tmp_path: Path, cut: int) -> None:
    """Half a pointer would be believed."""
    target = write_pointer(tmp_path / "d", FILE)
    target.write_bytes(target.read_bytes()[:cut])
    with pytest.raises(IntegrityError) as caught:
        read_pointer(target)
    assert "stemma add" in caught.value.hint


def test_line_ends_of_another_system_are_accepted(tmp_path: Path) -> None:
    """A clone with autocrlf would call every pointer damaged."""
    target = write_pointer(tmp_path / "d", FILE)
    target.write_bytes(target.read_bytes().replace(b"\n", b"\r\n"))
    assert read_pointer(target) == FILE


def test_a_newer_pointer_asks_for_an_upgrade(tmp_path: Path) -> None:
    """A colleague's newer file would be called damaged."""
    body = b'schema = "stemma.pointer/2"\n'
    target = tmp_path / "d.stemma"
    target.write_bytes(body + f'checksum = "{hash_bytes(body)}"\n'.encode())
    with pytest.raises(InvalidInputError, match="pointer/2") as caught:
        read_pointer(target)
    assert caught.value.hint == "upgrade stemma"


def test_a_pointer_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    """Every ``stemma add`` would touch files that git watches."""
    target = write_pointer(tmp_path / "d", FILE)
    before = target.stat()
    write_pointer(tmp_path / "d", FILE)
    after = target.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_missing_pointer_and_a_bad_place_are_named(tmp_path: Path) -> None:
    """The user would get a traceback."""
    with pytest.raises(NotFoundError, match="nope"):
        read_pointer(tmp_path / "nope.stemma")
    with pytest.raises(StemmaError, match="cannot write"):
        write_pointer(tmp_path / "no" / "folder", FILE)
    with pytest.raises(InvalidInputError, match="link"):
        Pointer(kind="link", size_bytes=0, content=hash_bytes(b""))


def test_pointers_are_found_but_not_stemmas_own_folder(tmp_path: Path) -> None:
    """``doctor`` would miss pointers, or read the store as pointers."""
    for name in ("b.stemma", "a/c.stemma", ".stemma/x.stemma", ".git/y.stemma", "a/.stemma"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_pointer(FILE))
    (tmp_path / "link.stemma").symlink_to("b.stemma")
    found = [path.relative_to(tmp_path).as_posix() for path in find_pointers(tmp_path)]
    assert found == ["a/c.stemma", "b.stemma"]


@pytest.mark.parametrize("name", ["d.csv", "a*[1]?.csv", "#x", "!x", "two words ", "back\\slash"])
def test_git_ignores_what_was_added_once(tmp_path: Path, name: str) -> None:
    """A large file would end up in git, or .gitignore would grow with every command."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("*.log", encoding="utf-8")
    path = tmp_path / "data" / name
    path.parent.mkdir()
    path.touch()
    assert ignore_in_git(path) == tmp_path / ".gitignore"
    assert ignore_in_git(path) is None
    assert (tmp_path / ".gitignore").read_bytes().count(b"\n") == 2
    asked = subprocess.run(
        ["git", "check-ignore", "-q", str(path)], cwd=tmp_path, check=False
    ).returncode
    assert asked == 0
    pointer = subprocess.run(
        ["git", "check-ignore", "-q", f"{path}.stemma"], cwd=tmp_path, check=False
    ).returncode
    assert pointer == 1


def test_outside_of_git_nothing_is_written(tmp_path: Path) -> None:
    """Folders without git would be littered."""
    assert ignore_in_git(tmp_path / "d") is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    """The user would look for a wrong path, and a script would not try again."""
    pointer = Pointer(kind="file", size_bytes=1, content=hash_bytes(b"x"))
    full = tmp_path / "dev"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "none", str(full)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        (full / "filler").write_bytes(b"x")
        with pytest.raises(UnavailableError) as caught:
            write_pointer(full / "data.csv", pointer)
        assert caught.value.code == "disk-full"
    finally:
        subprocess.run(["umount", "-l", str(full)], check=True)
