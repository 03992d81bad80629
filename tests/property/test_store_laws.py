"""Laws of the store: whatever is put comes back, and equal content has equal identity."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.domain.errors import InvalidInputError
from stemma.domain.tree import check_link, check_paths
from stemma.store.backends.memory import MemoryBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify

BYTES = st.one_of(
    st.binary(max_size=300),
    st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 9000)).map(lambda x: x[0] * x[1]),
)
NAME = st.text("abcXYZ019-_. é", min_size=1, max_size=8)
FOLDERS = st.dictionaries(st.lists(NAME, min_size=1, max_size=3).map("/".join), BYTES, max_size=8)


def _store() -> ObjectStore:
    return ObjectStore(MemoryBackend(), MemoryChunkIndex())


@given(st.lists(BYTES, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_files_come_back_from_one_store(contents: list[bytes]) -> None:
    """Files that share chunks must not be mixed up."""
    store = _store()
    stored = [store.put_bytes(data) for data in contents]
    assert [store.read_bytes(file.digest) for file in stored] == contents
    assert [store.read_bytes(file.sha256) for file in stored] == contents
    assert verify(store) == []


@pytest.mark.slow
@given(FOLDERS)
@settings(max_examples=40, deadline=None)
def test_any_folder_comes_back_or_is_refused(files: dict[str, bytes]) -> None:
    """A folder that cannot come back everywhere must be refused before it is stored."""
    store = _store()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        try:
            check_paths(files)
        except InvalidInputError:
            return
        for path, data in files.items():
            place = root / "in" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        (root / "in").mkdir(exist_ok=True)
        tree = store.put_tree(root / "in", list(files))
        store.export_tree(tree.digest, root / "out")
        out = root / "out"
        found = {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file()
        }
        assert found == files
        assert store.put_tree(out, sorted(files, reverse=True)).digest == tree.digest


@given(st.text("a./", max_size=14), st.lists(st.just("d"), max_size=3))
@settings(max_examples=300, deadline=None)
def test_an_accepted_link_never_leaves_the_tree(target: str, folders: list[str]) -> None:
    """Whatever the spelling, a link must resolve inside."""
    path = "/".join([*folders, "link"])
    try:
        check_link(path, target)
    except InvalidInputError:
        return
    root = Path("/somewhere/tree")
    place = root
    for part in (*folders, *target.split("/")):
        place = place.parent if part == ".." else place / part
    assert place == root or root in place.parents
