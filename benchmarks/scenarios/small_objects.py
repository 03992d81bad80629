"""Small objects: how many become durable per second, and what one costs among a million.

First part: blobs of 5 KB in batches of 4,096, each batch durable when the call returns, beside
the same blobs as one fsynced file each, in turn.

Second part: blobs of 300 bytes in packs, 10,000 and then 1,000,000 of them: writing, finding in
a backend that was opened anew, listing.

Third part: files of 300 bytes through the whole store (chunks, rows in SQLite, recipes, one
tree), 10,000 and then 100,000 of them; looking files up that are stored, and that are not;
opening the store anew; marking for garbage collection.  Seconds per object are compared.

The CPU time of the process stands beside the time that passed, for other work on the machine
makes the latter longer.  The largest number of files may be given:
``python -m benchmarks.scenarios.small_objects 1000000``.
"""

from __future__ import annotations

import io
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import write_result
from stemma.db.chunk_index import SqlChunkIndex
from stemma.db.engine import Database
from stemma.domain.digest import Digest
from stemma.domain.tree import EntryKind, TreeEntry
from stemma.store.backends.local import LocalBackend
from stemma.store.gc import collect
from stemma.store.hashing import hash_bytes
from stemma.store.index import ChunkLocation
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore

_BLOB_BYTES = 5_000
_BATCH = 4_096
_ROUNDS = 3
_LOOSE = 400
_FILE_BYTES = 300
_FEW = 10_000
_MANY = 100_000
_MANY_BLOBS = 1_000_000
_LOOKUPS = 5_000


def run(many: int = _MANY) -> dict[str, object]:
    """Measure both parts."""
    packed = {f"{count}": _packed(count) for count in (_FEW, _MANY_BLOBS)}
    print(json.dumps(packed), flush=True)
    files = {f"{count}": _among(count) for count in (_FEW, many)}
    return {
        "durable blobs of 5 KB per second": _durable(),
        "blobs in packs, microseconds each": packed,
        "blobs, many to few": _compared(*packed.values()),
        "files, microseconds each": files,
        "files, many to few": _compared(*files.values()),
    }


def _compared(few: dict[str, float], many: dict[str, float]) -> dict[str, float]:
    return {name: round(many[name] / few[name], 2) for name in few if name.startswith("us ")}


def _durable() -> dict[str, float]:
    """Return objects per second, the best of some rounds in turn."""
    generator = random.Random(1)
    best = {"packed": 0.0, "one file each": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(Path(folder) / "objects")
        for number in range(_ROUNDS):
            for way, count in (("packed", 4 * _BATCH), ("one file each", _LOOSE)):
                blobs = {
                    f"frames/{n % 256:02x}/{number}-{way.replace(' ', '-')}-{n}": (
                        generator.randbytes(_BLOB_BYTES)
                    )
                    for n in range(count)
                }
                started = time.perf_counter()
                if way == "packed":
                    keys = list(blobs)
                    for start in range(0, count, _BATCH):
                        backend.put_many({key: blobs[key] for key in keys[start : start + _BATCH]})
                else:
                    for key, data in blobs.items():
                        backend.put(key, data)
                best[way] = max(best[way], count / (time.perf_counter() - started))
    return {way: round(rate) for way, rate in best.items()}


def _packed(count: int) -> dict[str, float]:
    """Return microseconds per blob of what is done with ``count`` blobs in packs."""
    keys = [f"frames/{hash_bytes(b'%d' % number).hex}" for number in range(count)]
    generator = random.Random(4)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(Path(folder) / "objects")
        clock = _Clock()
        for start in range(0, count, _BATCH):
            batch = keys[start : start + _BATCH]
            backend.put_many({key: generator.randbytes(_FILE_BYTES) for key in batch})
        clock.note(figures, "put", count)
        opened = LocalBackend(Path(folder) / "objects")
        started = time.perf_counter()
        opened.get(keys[0])
        figures["first read, ms"] = round((time.perf_counter() - started) * 1e3, 1)
        wanted = random.Random(5).choices(keys, k=_LOOKUPS)
        clock = _Clock()
        for key in wanted:
            opened.get(key)
        clock.note(figures, "read", _LOOKUPS)
        for key in wanted:
            opened.exists(key[:-1] + "g")
        clock.note(figures, "lookup of what is not there", _LOOKUPS)
        listed = sum(1 for _ in opened.list())
        clock.note(figures, "listing", count)
        if listed != count:
            raise AssertionError(listed)
    return figures


class _Clock:
    """Time that passed, and that the process worked, since it was last asked."""

    def __init__(self) -> None:
        self._at = (time.perf_counter(), time.process_time())

    def note(self, figures: dict[str, float], name: str, count: int) -> None:
        """Note microseconds per object."""
        now = (time.perf_counter(), time.process_time())
        figures[f"us {name}"] = round((now[0] - self._at[0]) / count * 1e6, 1)
        figures[f"us of CPU {name}"] = round((now[1] - self._at[1]) / count * 1e6, 1)
        self._at = now


def _among(count: int) -> dict[str, float]:
    """Return microseconds per object of each thing that is done with ``count`` files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with closing(Database.open(f"sqlite:///{root / 'stemma.db'}", may_create=True)) as database:
            index = SqlChunkIndex(database, ChunkLocation)
            store = ObjectStore(LocalBackend(root / "objects"), index)
            figures, tree, digests = _put(store, count)
            opened = ObjectStore(LocalBackend(root / "objects"), index)
            started = time.perf_counter()
            opened.has(digests[0])
            figures["first lookup, ms"] = round((time.perf_counter() - started) * 1e3, 1)
            figures |= _look_up(opened, digests)
            clock = _Clock()
            report = collect(
                opened, [tree], now=datetime.now(UTC), grace_seconds=0, is_dry_run=True
            )
            clock.note(figures, "marking for collection", count)
            if report.removed:
                raise AssertionError(report.removed[:3])
    figures["peak memory so far, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return figures


def _put(store: ObjectStore, count: int) -> tuple[dict[str, float], Digest, list[Digest]]:
    entries: list[TreeEntry] = []
    figures: dict[str, float] = {}
    clock = _Clock()
    batch = Batch(store.backend, store.index)
    for number, data in enumerate(_files(count)):
        stored = batch.add_stream(io.BytesIO(data))
        entries.append(
            TreeEntry(
                path=f"{number // 1000:04d}/{number:07d}",
                kind=EntryKind.FILE,
                size_bytes=stored.size_bytes,
                digest=stored.digest,
                target="",
            )
        )
    batch.flush()
    clock.note(figures, "put", count)
    tree = store.put_tree_from(entries)
    digests = [entry.digest for entry in entries if entry.digest is not None]
    return figures, tree.digest, random.Random(2).sample(digests, min(_LOOKUPS, count))


def _look_up(store: ObjectStore, digests: list[Digest]) -> dict[str, float]:
    absent = [hash_bytes(f"absent {number}".encode()) for number in range(len(digests))]
    figures: dict[str, float] = {}
    clock = _Clock()
    found = sum(store.has(digest) for digest in digests)
    clock.note(figures, "lookup", len(digests))
    found += sum(store.has(digest) for digest in absent)
    clock.note(figures, "lookup of what is not there", len(absent))
    for digest in digests[:1000]:
        store.read_bytes(digest)
    clock.note(figures, "read", len(digests[:1000]))
    if found != len(digests):
        raise AssertionError(found)
    return figures


def _files(count: int) -> Iterator[bytes]:
    generator = random.Random(3)
    return (generator.randbytes(_FILE_BYTES) for _ in range(count))


if __name__ == "__main__":
    found = run(int(sys.argv[1]) if len(sys.argv) > 1 else _MANY)
    print(json.dumps(found, indent=2), write_result("small_objects", found))
