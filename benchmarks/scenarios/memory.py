"""How much memory storing and reading files of 4 GB takes: it must not grow with the file.

A model of 4 GB in float32 (256 tensors of normal numbers), a fine-tune of it, and the same
bytes taken as plain ones: each stored, and the fine-tune read back, by a process of its own that
says how much its memory grew at most.  The goal is 512 MiB.  It takes 14 GB of disk.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

_TENSORS = 256
_SIDE = 2048
_GOAL_MIB = 512

_WAY = """
import json, re, sys, time
from pathlib import Path
from stemma.domain.digest import Digest
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore

root, way = Path(sys.argv[1]), sys.argv[2]
backend, index = LocalBackend(root / "store"), MemoryChunkIndex()
store = ObjectStore(backend, index)
if way != "plain":
    store.rebuild_index()

def memory_kib(field):
    return int(re.search(field + r":\\\\s+(\\\\d+)", Path("/proc/self/status").read_text())[1])

before_kib, started, answer = memory_kib("VmRSS"), time.perf_counter(), ""
batch = Batch(backend, index)
if way == "plain":
    with (root / "tune").open("rb") as stream:
        batch.add_stream(stream)
    batch.flush()
elif way == "read":
    digest = Digest.parse(sys.argv[3])
    for _ in store.stream(digest):
        pass
else:
    parents = [Digest.parse(sys.argv[3])] if sys.argv[3:] else []
    answer = str(batch.add_path(root / way, parents=parents).digest)
    batch.flush()
print(json.dumps({
    "digest": answer,
    "peak_memory_mib": (memory_kib("VmHWM") - before_kib) >> 10,
    "seconds": round(time.perf_counter() - started, 1),
}))
""".replace("\\\\", "\\")


def run() -> dict[str, object]:
    """Make the files, then store and read them."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _make(root)
        size_bytes = (root / "base").stat().st_size
        base = _measure(root, "base")
        tune = _measure(root, "tune", base["digest"])
        read = _measure(root, "read", tune["digest"])
        subprocess.run(["rm", "-rf", str(root / "store")], check=True)
        plain = _measure(root, "plain")
        ways = {"model": base, "fine-tune": tune, "fine-tune read": read, "plain bytes": plain}
        figures: dict[str, object] = {"file_bytes": size_bytes, "goal_mib": _GOAL_MIB}
        for name, way in ways.items():
            figures[name] = {key: way[key] for key in ("peak_memory_mib", "seconds")}
        return figures


def _measure(root: Path, way: str, *arguments: str) -> dict[str, str]:
    answer = subprocess.run(
        [sys.executable, "-c", _WAY, str(root), way, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, str] = json.loads(answer.stdout)
    return figures


def _make(root: Path) -> None:
    """Write a model and a fine-tune, tensor by tensor."""
    tensor_bytes = _SIDE * _SIDE * 4
    header: dict[str, object] = {
        f"layer.{number}": {
            "dtype": "F32",
            "shape": [_SIDE, _SIDE],
            "data_offsets": [number * tensor_bytes, (number + 1) * tensor_bytes],
        }
        for number in range(_TENSORS)
    }
    text = json.dumps(header).encode()
    generator = np.random.default_rng(1)
    with (root / "base").open("wb") as base, (root / "tune").open("wb") as tune:
        for stream in (base, tune):
            stream.write(struct.pack("<Q", len(text)) + text)
        for _ in range(_TENSORS):
            weights = generator.standard_normal((_SIDE, _SIDE), dtype=np.float32)
            base.write(weights.data)
            words = weights.view(np.uint32)
            words += generator.integers(0, 256, words.shape, dtype=np.uint8)
            tune.write(weights.data)
    os.sync()
