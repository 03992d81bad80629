"""Crashes: what was acknowledged is there, what was not is invisible, nothing to clean by hand."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stemma.domain.digest import Digest
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify

WRITER = """
import json, random, struct, sys
from pathlib import Path
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
store = ObjectStore(LocalBackend(Path(sys.argv[1])), MemoryChunkIndex())
folder = Path(sys.argv[2])
generator = random.Random(int(sys.argv[3]))
header = json.dumps({"w": {"dtype": "F32", "shape": [20000], "data_offsets": [0, 80000]}}).encode()
weights = [generator.randrange(1 << 24) for _ in range(20000)]
models = []
print("ready", flush=True)
for number in range(10_000):
    size = generator.choice([0, 10, 3000, 200_000, 3_000_000])
    print("file", store.put_bytes(generator.randbytes(size)).digest, flush=True)
    # A model trained on and on: each is stored as the difference to the first.
    weights = [word + generator.randrange(9) for word in weights]
    (folder / "m").write_bytes(
        struct.pack("<Q", len(header)) + header + struct.pack("<20000I", *weights)
    )
    models.append(store.put_file(folder / "m", parents=models[::-1]).digest)
    print("file", models[-1], flush=True)
    names = [f"{number}-{i}" for i in range(8)]
    for name in names:
        (folder / name).write_bytes(generator.randbytes(500))
    print("tree", store.put_tree(folder, names).digest, flush=True)
    print("record", store.put_record("manifest", b'{"n":%d}' % number), flush=True)
"""


def _run_and_kill(root: Path, seed: int, after_seconds: float) -> list[tuple[str, Digest]]:
    """Write until killed; return what was acknowledged."""
    (root / "in").mkdir(parents=True, exist_ok=True)
    arguments = [str(root / "objects"), str(root / "in"), str(seed)]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(after_seconds)
        process.kill()
        lines = process.stdout.read().splitlines(keepends=True)
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(kind, Digest.parse(text)) for kind, text in whole]


@pytest.mark.slow
def test_killed_writers_lose_nothing_acknowledged_and_show_nothing_half_made(
    tmp_path: Path,
) -> None:
    """Out-of-memory killers and impatient people kill training jobs all the time."""
    generator = random.Random(11)
    acknowledged: list[tuple[str, Digest]] = []
    for seed in range(12):
        acknowledged += _run_and_kill(tmp_path, seed, generator.uniform(0, 0.3))
        store = ObjectStore(LocalBackend(tmp_path / "objects"), MemoryChunkIndex())
        assert store.rebuild_index().skipped == ()
        assert verify(store) == []
        for kind, digest in acknowledged:
            match kind:
                case "file":
                    store.read_bytes(digest)
                case "tree":
                    store.read_tree(digest)
                case _:
                    store.read_record("manifest", digest)
    assert acknowledged


@pytest.mark.slow
def test_the_next_writer_removes_what_a_killed_one_left_behind(tmp_path: Path) -> None:
    """Temporary files of crashed jobs must not fill the disk, nor need a person."""
    for seed in range(3):
        _run_and_kill(tmp_path, seed, 0.05)
    backend = LocalBackend(tmp_path / "objects")
    backend.put("records/test/x", b"")
    assert len(list((tmp_path / "objects" / "tmp").glob("*.lock"))) == 1
    backend.close()
    assert list((tmp_path / "objects" / "tmp").iterdir()) == []


def test_a_living_writer_s_temporary_files_are_left_alone(tmp_path: Path) -> None:
    """Two trainings that write to one store must not clean up each other."""
    first, second = LocalBackend(tmp_path / "objects"), LocalBackend(tmp_path / "objects")
    first.put("a/1", b"1")
    second.put("a/2", b"2")
    assert len(list((tmp_path / "objects" / "tmp").glob("*.lock"))) == 2
    first.put("a/3", b"3")
    assert [stat.key for stat in second.list()] == ["a/1", "a/2", "a/3"]
    first.close()
    first.put("a/4", b"4")
    assert second.get("a/4") == b"4"
    first.close()
    second.close()
