"""Put and read throughput of the store on a local folder; run by hand.

Usage: ``python benchmarks/micro/store.py [FOLDER]``.  Prints MB/s of one 200 MB file and of
5,000 files of 20 KB, both random (nothing compresses, everything is new), and the time that
``verify`` takes for both.
"""

import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.verify import verify

MEGABYTE = 1_000_000


def timed(action: Callable[[], object], size_bytes: int) -> str:
    """Run an action and return its throughput."""
    started = time.perf_counter()
    action()
    seconds = time.perf_counter() - started
    return f"{size_bytes / MEGABYTE / seconds:6.0f} MB/s ({seconds:.2f} s)"


def measure(folder: Path) -> None:
    """Measure one large file and many small ones."""
    generator = random.Random(1)
    store = ObjectStore(LocalBackend(folder / "objects"), MemoryChunkIndex())

    large = folder / "large"
    with large.open("wb") as stream:
        for _ in range(200):
            stream.write(generator.randbytes(MEGABYTE))
    size_bytes = large.stat().st_size
    print("200 MB  put       ", timed(lambda: store.put_file(large), size_bytes))
    digest = store.put_file(large).digest
    print("200 MB  put again ", timed(lambda: store.put_file(large), size_bytes))
    print("200 MB  read      ", timed(lambda: sum(map(len, store.stream(digest))), size_bytes))
    target = folder / "out"
    print("200 MB  export    ", timed(lambda: store.export_file(digest, target), size_bytes))

    small = folder / "small"
    small.mkdir()
    names = [f"{number:04}" for number in range(5000)]
    for name in names:
        (small / name).write_bytes(generator.randbytes(20_000))
    size_bytes = 20_000 * len(names)
    print("5,000 × 20 KB put      ", timed(lambda: store.put_tree(small, names), size_bytes))
    tree = store.put_tree(small, names)
    print("5,000 × 20 KB put again", timed(lambda: store.put_tree(small, names), size_bytes))

    def read_all() -> None:
        for file in tree.files.values():
            store.read_bytes(file.digest)

    print("5,000 × 20 KB read     ", timed(read_all, size_bytes))
    target = folder / "out-tree"
    print(
        "5,000 × 20 KB export   ", timed(lambda: store.export_tree(tree.digest, target), size_bytes)
    )
    stored_bytes = sum(stat.size_bytes for stat in store.backend.list())
    print("verify                 ", timed(lambda: verify(store), stored_bytes))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(f"peak memory             {peak_bytes / MEGABYTE:.0f} MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        measure(Path(name))
