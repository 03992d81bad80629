"""Trees: which names a version may hold."""

import unicodedata

import pytest

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.tree import (
    EntryKind,
    Tree,
    TreeEntry,
    check_link,
    check_paths,
    decode_tree,
    encode_tree,
)

DIGEST = Digest.blake3("ab" * 32)


def _file(path: str) -> TreeEntry:
    return TreeEntry(path=path, kind=EntryKind.FILE, size_bytes=1, digest=DIGEST)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "a/../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\x85b",
        ".git",
        ".gitignore",
        "a/.GIT/config",
        "a/.Gitmodules",
        "a\udcffb",
        "é" * 200,
    ],
)
def test_a_name_that_is_unsafe_somewhere_is_refused_by_name(path: str) -> None:
    """Restoring such a version would write outside its folder or fail on another system."""
    with pytest.raises(InvalidInputError) as caught:
        check_paths(["fine", path])
    assert caught.value.code == "bad-path"
    assert repr(path) in caught.value.message


@pytest.mark.parametrize(
    "paths",
    [
        ["a", "A"],
        ["straße", "STRASSE"],
        ["Data/x", "data/y"],
        [unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")],
        ["a", "a/b"],
        ["a/b", "a"],
        ["a", "a"],
    ],
)
def test_names_that_collide_somewhere_are_refused(paths: list[str]) -> None:
    """On a Mac one of the two files would silently replace the other."""
    with pytest.raises(InvalidInputError) as caught:
        check_paths(paths)
    assert caught.value.code == "path-collision"


def test_ordinary_names_are_accepted() -> None:
    """Nobody should have to rename ordinary files."""
    check_paths(["a", "b/c.txt", "b/d e.txt", ".hidden", "..a", "日本/ü.bin", "b/c"])


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", "/etc/passwd"),
        ("a", ".."),
        ("a", "../x"),
        ("d/a", "../../x"),
        ("d/a", "b/../../x"),
        ("p/q/b", "a/../secret"),
    ],
)
def test_a_link_that_may_leave_the_tree_is_refused(path: str, target: str) -> None:
    """A restored version must not read or write somebody's other files."""
    with pytest.raises(InvalidInputError) as caught:
        check_link(path, target)
    assert caught.value.code == "link-leaves-tree"
    assert repr(path) in caught.value.message


def test_a_link_inside_the_tree_is_kept() -> None:
    """Hugging Face folders are made of such links."""
    for path, target in [("a", "b"), ("d/a", "../b"), ("d/e/a", "../../b/c"), ("a", "./b")]:
        check_link(path, target)
    with pytest.raises(InvalidInputError, match="control"):
        check_link("a", "b\n")


def test_equal_trees_have_equal_bytes_and_come_back() -> None:
    """Otherwise an unchanged folder would count as changed."""
    link = TreeEntry(path="l", kind=EntryKind.SYMLINK, size_bytes=0, target="a")
    tree = Tree.of([link, _file("b/c"), _file("a")])
    assert [entry.path for entry in tree.entries] == ["a", "b/c", "l"]
    assert tree.size_bytes == 2
    assert encode_tree(tree) == encode_tree(Tree.of(reversed(tree.entries)))
    assert decode_tree(encode_tree(tree)) == tree


def test_a_tree_s_bytes_are_fixed() -> None:
    """Another release of stemma would no longer find stored trees."""
    expected = (
        '{"entries":[{"digest":"blake3:%s","kind":"file","path":"a","size_bytes":1,"target":""}],'
        '"schema":"stemma.tree/1"}' % ("ab" * 32)
    )
    assert encode_tree(Tree.of([_file("a")])) == expected.encode()


def test_a_crafted_tree_is_refused_when_it_is_read() -> None:
    """A tree from elsewhere gets the same checks as one made here."""
    good = encode_tree(Tree.of([_file("a"), _file("b")])).decode()
    for bad in (
        good.replace('"path":"a"', '"path":"../a"'),
        good.replace('"path":"a"', '"path":"c"'),
        good.replace("tree/1", "tree/2"),
        good.replace('"kind":"file"', '"kind":"symlink"'),
        good.replace('"size_bytes":1', '"size_bytes":-1'),
        good.replace('"target":""', '"target":"x"'),
        good.replace("]", ""),
    ):
        with pytest.raises(InvalidInputError):
            decode_tree(bad.encode())
