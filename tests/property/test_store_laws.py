"""Laws of the store: whatever is put comes back, and equal content has equal identity."""

import json
import struct
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.domain.digest import Digest
from stemma.domain.errors import InvalidInputError
from stemma.domain.tree import check_link, check_paths
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.gc import collect
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.trash import holding, restore
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


class Member(NamedTuple):
    """A file of a family of models: how it differs from the first, and in what it is kept."""

    seed: int
    strength: float
    dtype: str
    parents: list[int]
    layers: int


MEMBER = st.builds(
    Member,
    seed=st.integers(0, 3),
    strength=st.sampled_from([0.0, 1e-6, 1e-3, 1.0]),
    dtype=st.sampled_from(["F32", "F32", "BF16", "F16", "U8"]),
    parents=st.lists(st.integers(0, 5), max_size=3),
    layers=st.integers(1, 2),
)


def _model_file(member: Member) -> bytes:
    """Return a safetensors file with layers of 17,000 numbers and a small bias."""
    header: dict[str, object] = {}
    body = bytearray()
    for name, size in [*((f"w{i}", 17_000) for i in range(member.layers)), ("b", 9)]:
        base = np.random.default_rng(len(name)).normal(0, 0.05, size)
        noise = np.random.default_rng(member.seed).normal(0, 1, size)
        values = (base + member.strength * noise).astype("<f4")
        match member.dtype:
            case "F32":
                data = values.tobytes()
            case "F16":
                data = values.astype("<f2").tobytes()
            case "BF16":
                data = (values.view("<u4") >> 16).astype("<u2").tobytes()
            case _:
                data = (values.view("<u4") >> 8).astype("<u1").tobytes() * 4
        shape = [len(data)] if member.dtype == "U8" else [size]
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": member.dtype, "shape": shape, "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.slow
@given(
    members=st.lists(MEMBER, min_size=1, max_size=6),
    kept=st.sets(st.integers(0, 5)),
    is_rebuilt=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_family_of_models_comes_back_after_any_of_it_is_collected(
    members: list[Member], kept: set[int], *, is_rebuilt: bool
) -> None:
    """Deleting versions must never touch the ones that stay, whatever was stored as what."""
    store = _store()
    files = [_model_file(member) for member in members]
    digests = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (member, data) in enumerate(zip(members, files, strict=True)):
            path = Path(folder) / f"{number}.safetensors"
            path.write_bytes(data)
            parents = [digests[place] for place in member.parents if place < number]
            digests.append(store.put_file(path, parents=parents).digest)
    if is_rebuilt:
        store.rebuild_index()
    assert [_again(store).read_bytes(digest) for digest in digests] == files
    roots = [digest for number, digest in enumerate(digests) if number in kept]
    later = datetime.now(UTC) + timedelta(hours=1)
    collect(store, roots, now=later, grace_seconds=60, is_dry_run=False)
    for digest, data in zip(digests, files, strict=True):
        assert store.has(digest) is (digest in roots)
        if digest in roots:
            assert _again(store).read_bytes(digest) == data
    assert verify(_again(store)) == []
    store.rebuild_index()
    assert verify(_again(store)) == []


@pytest.mark.slow
@given(
    members=st.lists(MEMBER, min_size=1, max_size=5),
    kept=st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=3),
    added=st.sets(st.integers(0, 4)),
)
@settings(max_examples=25, deadline=None)
def test_whatever_was_collected_comes_back_and_twice_is_once(
    members: list[Member], kept: list[set[int]], added: set[int]
) -> None:
    """What a person asks back from the trash would come in part, or read otherwise."""
    files = [_model_file(member) for member in members]
    with tempfile.TemporaryDirectory() as folder:
        store = ObjectStore(LocalBackend(Path(folder) / "objects"), MemoryChunkIndex())
        digests: dict[int, Digest] = {}

        def put(number: int) -> Digest:
            path = Path(folder) / f"{number}.safetensors"
            path.write_bytes(files[number])
            parents = [digests[place] for place in members[number].parents if place < number]
            return store.put_file(path, parents=parents).digest

        for number in range(len(members)):
            digests[number] = put(number)
        later = datetime.now(UTC) + timedelta(hours=1)
        for numbers in kept:
            roots = {digests[number] for number in numbers if number < len(digests)}
            # What an earlier collection took is no root any more.
            alive = [digest for digest in roots if store.has(digest)]
            collect(store, alive, now=later, grace_seconds=60, is_dry_run=False)
            later += timedelta(hours=1)
        for number in sorted(added & set(range(len(members)))):
            put(number)  # while the same may rest in the trash
        taken = holding(store)
        first = restore(store, since=None, is_dry_run=False)
        assert (len(first.restored), first.damaged) == (taken.count, ())
        before = sorted(stat.key for stat in store.backend.list())
        assert [_again(store).read_bytes(digests[number]) for number in range(len(files))] == files
        assert verify(_again(store)) == []
        assert restore(store, since=None, is_dry_run=False).restored == ()
        assert sorted(stat.key for stat in store.backend.list()) == before
        store.rebuild_index()
        assert verify(_again(store)) == []


def _again(store: ObjectStore) -> ObjectStore:
    """Return the store as another process sees it, with nothing in its memory."""
    return ObjectStore(store.backend, store.index)
