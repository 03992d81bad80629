"""Verification: every flipped bit, every renamed or foreign file."""

from dataclasses import replace
from pathlib import Path

import pytest

from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError, StemmaError
from stemma.domain.tree import EntryKind, Tree, TreeEntry, encode_tree
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.frames import Chunk, decode_header, encode_frame
from stemma.store.hashing import blake3_raw, hash_bytes
from stemma.store.index import ChunkRow, MemoryChunkIndex
from stemma.store.keys import frame_key, recipe_key, tree_key
from stemma.store.objects import ObjectStore
from stemma.store.recipes import Recipe, decode_recipe, encode_recipe
from stemma.store.verify import verify

CONTENT = {"a.txt": b"hello " * 50, "b.bin": bytes(range(200)), "empty": b""}


def _filled(backend: MemoryBackend | LocalBackend, folder: Path) -> tuple[ObjectStore, Digest]:
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    store = ObjectStore(backend, MemoryChunkIndex())
    tree = store.put_tree(folder, sorted(CONTENT))
    store.put_record("manifest", b'{"content":"%s"}' % str(tree.digest).encode())
    return store, tree.digest


def _read_everything(store: ObjectStore, tree: Digest) -> list[tuple[str, bytes]]:
    entries = store.read_tree(tree).entries
    return [
        (entry.path, store.read_bytes(entry.digest))
        for entry in entries
        if entry.digest is not None
    ]


@pytest.mark.slow
def test_every_flipped_bit_is_found_and_never_delivered(tmp_path: Path) -> None:
    """A flipped bit in a model must be an error, not a wrong prediction."""
    backend = MemoryBackend()
    store, tree = _filled(backend, tmp_path / "in")
    expected = _read_everything(store, tree)
    records = [store.read_record("manifest", d) for d in store.list_records("manifest")]
    for key, sound in list(backend.blobs.items()):
        for position in range(len(sound)):
            damaged = bytearray(sound)
            damaged[position] ^= 1 << (position % 8)
            backend.blobs[key] = bytes(damaged)
            fresh = ObjectStore(backend, store.index)
            assert verify(fresh), f"byte {position} of {key}"
            try:
                delivered = _read_everything(fresh, tree)
                manifests = [
                    fresh.read_record("manifest", d) for d in fresh.list_records("manifest")
                ]
            except StemmaError:
                continue
            # A flip in a frame's own header is not on the path of reading; the bytes are.
            assert (delivered, manifests) == (expected, records)
        backend.blobs[key] = sound
    assert verify(ObjectStore(backend, store.index)) == []


@pytest.mark.slow
def test_every_truncation_and_every_extra_byte_is_found(tmp_path: Path) -> None:
    """Half-copied stores are as common as flipped bits."""
    backend = MemoryBackend()
    store, _ = _filled(backend, tmp_path / "in")
    for key, sound in list(backend.blobs.items()):
        for damaged in (*(sound[:size] for size in range(len(sound))), sound + b"\0"):
            backend.blobs[key] = damaged
            assert verify(ObjectStore(backend, store.index)), key
        backend.blobs[key] = sound


def test_renamed_swapped_and_foreign_files_are_found(tmp_path: Path) -> None:
    """A restore by hand may put sound bytes under a wrong name."""
    store, _ = _filled(LocalBackend(tmp_path / "objects"), tmp_path / "in")
    blobs = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    blobs = [path for path in blobs if "tmp" not in path.parts[-3:]]
    for path in blobs:
        for name in (path.name[:-1] + "q", path.name.upper() + "X", "0" * 62, ".hidden"):
            moved = path.rename(path.with_name(name))
            assert verify(store), f"{path} as {name}"
            moved.rename(path)
    assert verify(store) == []
    (tmp_path / "objects" / "frames" / "note.txt").write_text("hi")
    (problem,) = verify(store)
    assert (problem.kind, problem.key) == ("unknown-key", "frames/note.txt")


def test_missing_objects_are_named(tmp_path: Path) -> None:
    """Somebody who deletes by hand must learn what is incomplete now."""
    backend = MemoryBackend()
    store, _ = _filled(backend, tmp_path / "in")
    for key, sound in list(backend.blobs.items()):
        del backend.blobs[key]
        kinds = {problem.kind for problem in verify(ObjectStore(backend, store.index))}
        family = key.partition("/")[0]
        assert (
            kinds
            == {
                "frames": {"missing-chunk"},
                "recipes": {"missing-file"},
                "trees": set(),
                "records": set(),
            }[family]
        )
        backend.blobs[key] = sound


def test_progress_counts_every_stored_byte(tmp_path: Path) -> None:
    """The progress bar of doctor must reach its end."""
    backend = MemoryBackend()
    store, _ = _filled(backend, tmp_path / "in")
    steps: list[int] = []
    assert verify(store, steps.append) == []
    assert sum(steps) == sum(map(len, backend.blobs.values()))


def _with_recipe(store: ObjectStore, backend: MemoryBackend, recipe: Recipe) -> set[str]:
    """Put a well-formed but untrue recipe in place of a sound one; return what is found."""
    key = recipe_key(recipe.digest)
    sound, backend.blobs[key] = backend.blobs[key], encode_recipe(recipe)
    kinds = {problem.kind for problem in verify(ObjectStore(backend, store.index))}
    backend.blobs[key] = sound
    return kinds


def test_an_untrue_recipe_with_a_right_checksum_is_found(tmp_path: Path) -> None:
    """Tampering is not a flipped bit; the file's own digest tells."""
    backend = MemoryBackend()
    store, _ = _filled(backend, tmp_path / "in")
    digest = hash_bytes(CONTENT["a.txt"])
    other = decode_recipe(
        backend.blobs[recipe_key(hash_bytes(CONTENT["b.bin"]))], hash_bytes(CONTENT["b.bin"])
    )
    sound = decode_recipe(backend.blobs[recipe_key(digest)], digest)
    swapped = replace(sound, table=other.table, size_bytes=other.size_bytes)
    assert "recipe-damaged" in _with_recipe(store, backend, swapped)
    key = recipe_key(digest)
    backend.blobs[key] = encode_recipe(swapped)
    with pytest.raises(IntegrityError, match="makes another file"):
        ObjectStore(backend, store.index).read_bytes(digest)
    backend.blobs[key] = encode_recipe(sound)
    assert "recipe-damaged" in _with_recipe(store, backend, replace(sound, sha256=other.sha256))
    assert verify(store) == []


def test_a_tree_that_names_a_wrong_size_is_found(tmp_path: Path) -> None:
    """A listing that shows wrong sizes misleads people."""
    backend = MemoryBackend()
    store, _ = _filled(backend, tmp_path / "in")
    entry = TreeEntry(
        path="x", kind=EntryKind.FILE, size_bytes=1, digest=hash_bytes(CONTENT["a.txt"])
    )
    data = encode_tree(Tree.of([entry]))
    backend.put(tree_key(hash_bytes(data)), data)
    assert [problem.kind for problem in verify(store)] == ["tree-damaged"]


def test_wrong_index_rows_are_found(tmp_path: Path) -> None:
    """Rows of the database can rot as well as files."""
    backend = MemoryBackend()
    _, tree = _filled(backend, tmp_path / "in")
    wrong = MemoryChunkIndex()
    for stat in backend.list("frames/"):
        frame = bytes.fromhex(stat.key.removeprefix("frames/").replace("/", ""))
        chunks = decode_header(backend.get(stat.key), stat.key).chunks
        wrong.add({frame: [ChunkRow(digest, 1, size) for digest, size in chunks]})
    broken = ObjectStore(backend, wrong)
    kinds = {problem.kind for problem in verify(broken)}
    assert kinds == {"index-wrong", "chunk-damaged", "index-missing"}
    with pytest.raises(IntegrityError):
        _read_everything(ObjectStore(backend, wrong), tree)


def test_a_frame_that_lies_about_its_chunks_is_found() -> None:
    """A crafted frame must not pass because its own name is right."""
    backend = MemoryBackend()
    frame = encode_frame([Chunk(b"\0" * 32, 5)], b"hello")
    backend.put(frame_key(blake3_raw(frame)), frame)
    store = ObjectStore(backend, MemoryChunkIndex())
    assert {problem.kind for problem in verify(store)} == {"frame-damaged"}
    backend.put(frame_key(blake3_raw(b"no frame")), b"no frame")
    report = store.rebuild_index()
    assert report.frame_count == 1
    assert report.skipped == (frame_key(blake3_raw(b"no frame")),)
