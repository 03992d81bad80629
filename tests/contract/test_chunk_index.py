"""The chunk index on both engines, side by side with the one in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stemma.db.chunk_index import SqlChunkIndex
from stemma.domain.digest import Digest
from stemma.store.backends.local import LocalBackend
from stemma.store.index import ChunkIndex, ChunkLocation, ChunkRow, MemoryChunkIndex
from stemma.store.objects import ObjectStore

Project = Any


def key(number: int) -> bytes:
    """Return a raw digest."""
    return number.to_bytes(32, "big")


def test_it_answers_as_the_one_in_memory_does(project: Project) -> None:
    """A store on a database would find other chunks than one without."""
    indexes: list[ChunkIndex] = [
        SqlChunkIndex(project.database, ChunkLocation),
        MemoryChunkIndex(),
    ]
    many = [ChunkRow(key(number), number * 10, 10) for number in range(2000)]
    blake, sha, md5 = (
        Digest.blake3("a" * 64),
        Digest.sha256("b" * 64),
        Digest.parse("md5:" + "c" * 32),
    )
    answers: list[list[object]] = []
    for index in indexes:
        index.add({key(1 << 200): many})
        index.add({key(1 << 201): [ChunkRow(key(7), 0, 99), ChunkRow(key(5000), 1, 2)]})
        index.add({})
        index.add_aliases({sha: blake, md5: blake})
        answer: list[object] = [
            index.find([key(7), key(5000), key(9999), key(7)]),
            index.find(key(number) for number in range(2500)),
            index.find([]),
            index.find_alias(sha),
            index.find_alias(Digest.sha256("d" * 64)),
        ]
        index.add_aliases({sha: Digest.blake3("e" * 64)})
        answer.append(index.find_alias(sha))
        rows = [ChunkRow(key(7), 5, 50)]
        index.add({key(1 << 202): rows}, instead_of=[key(1 << 201), key(3)])
        answer.append(index.find([key(7), key(5000)]))
        index.add({key(1 << 203): [*rows, ChunkRow(key(5000), 6, 60)]}, instead_of=[key(1 << 200)])
        answer.append(index.find([key(7), key(5000)]))
        index.drop_frames([key(1 << 203), key(3)])
        answer.append(index.find([key(7), key(5000)]))
        index.drop_aliases([blake])
        answer += [index.find_alias(md5), index.find_alias(sha)]
        index.clear()
        answer += [index.find([key(5000)]), index.find_alias(sha)]
        answers.append(answer)
    assert answers[0] == answers[1]


def test_a_store_on_it_gives_files_back(project: Project, tmp_path: Path) -> None:
    """A file would be stored and never found again."""
    store = ObjectStore(
        LocalBackend(tmp_path / "more"), SqlChunkIndex(project.database, ChunkLocation)
    )
    data = bytes(range(256)) * 2000
    stored = store.put_bytes(data)
    assert store.read_bytes(stored.digest) == data
    assert store.read_bytes(stored.sha256) == data
    store.rebuild_index()
    assert store.read_bytes(stored.sha256) == data
