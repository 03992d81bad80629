"""Memory and fsyncs stay bounded, however large or many the files."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

BIG = """
import resource, sys
from pathlib import Path
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
store = ObjectStore(LocalBackend(Path(sys.argv[1]) / "objects"), MemoryChunkIndex())
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
stored = store.put_file(Path(sys.argv[1]) / "big")
store.export_file(stored.digest, Path(sys.argv[1]) / "out")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


@pytest.mark.slow
def test_a_file_larger_than_the_bound_is_stored_within_it(tmp_path: Path) -> None:
    """A 100 GB checkpoint must not need 100 GB of memory."""
    size_bytes = 200 << 20
    with (tmp_path / "big").open("wb") as stream:
        generator = random.Random(3)
        for _ in range(size_bytes >> 22):
            stream.write(generator.randbytes(4 << 20))
    answer = subprocess.run(
        [sys.executable, "-c", BIG, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) < 150
    assert (tmp_path / "out").stat().st_size == size_bytes


def test_many_small_files_are_written_in_a_few_batches(tmp_path: Path) -> None:
    """A thousand small files must not wait for three thousand fsyncs one after another."""
    for number in range(1000):
        (tmp_path / f"{number}").write_bytes(b"%d" % number * 50)
    calls: list[int] = []

    class Counting:
        """A backend that counts its batches."""

        def __init__(self) -> None:
            self._inner = MemoryBackend()

        def __getattr__(self, name: str) -> object:
            if name.startswith("put"):
                calls.append(1)
            return getattr(self._inner, name)

    store = ObjectStore(Counting(), MemoryChunkIndex())  # type: ignore[arg-type]
    store.put_tree(tmp_path, [str(number) for number in range(1000)])
    assert len(calls) == 3  # frames, recipes, the tree


def test_a_store_can_be_opened_and_read_without_writing(tmp_path: Path) -> None:
    """Looking at a store must not create one."""
    store = ObjectStore(LocalBackend(tmp_path / "objects"), MemoryChunkIndex())
    assert list(store.backend.list()) == []
    assert store.list_records("manifest") == []
    assert list(tmp_path.iterdir()) == []
