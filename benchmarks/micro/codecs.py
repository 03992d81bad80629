"""Speed and size of the codecs of tensor blocks on synthetic weights; run by hand.

Usage: ``python benchmarks/micro/codecs.py [--json FILE]``.  One thread.  Prints, for a base and for
fine-tunes of it (Gaussian updates, once of the same size everywhere and once in proportion to
each weight), the stored size over the raw size and MB/s of raw bytes in each direction, beside
zstd level 3 alone and after XOR with the parent.  Goals of the design, with a C accelerator:
1,400 MB/s encode and 3,000 MB/s decode of bf16 planes.

Blocks are as the store cuts them, 1 Mi elements.  A figure is the best of several interleaved
rounds; the blocks fit the processor's caches better than a file that is read from a disk.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from stemma.store.codecs.base import EncodedBlock, Method, Parent
from stemma.store.codecs.blocks import decode_block, encode_as, encode_block
from stemma.store.codecs.cast import predict

ELEMENTS = 1 << 20
ROUNDS = 7
SPREAD = 0.02
Floats = np.ndarray[Any, np.dtype[np.float32]]
Coder = tuple[Callable[[], bytes], Callable[[bytes], bytes]]


def bytes_of(values: Floats, dtype: str) -> bytes:
    """Return float32 values in an element type of 16 or 32 bits."""
    if dtype == "float32":
        return values.tobytes()
    return predict(values.view("<u4"), "float32", dtype).tobytes()


def xor(one: bytes, other: bytes) -> bytes:
    """Return the bitwise difference."""
    return np.bitwise_xor(np.frombuffer(one, "<u8"), np.frombuffer(other, "<u8")).tobytes()


def coders(block: bytes, dtype: str, parent: Parent | None) -> dict[str, Coder]:
    """Return what is compared on one block: ours by choice and by force, and plain zstd."""
    compress = zstandard.ZstdCompressor(level=3).compress
    decompress = zstandard.ZstdDecompressor().decompress
    found: dict[str, Coder] = {"zstd-3": (lambda: compress(block), decompress)}
    methods = [Method.PLANES]
    if parent is not None and parent.dtype == dtype:
        data = parent.data
        found["xor + zstd-3"] = (
            lambda: compress(xor(block, data)),
            lambda stored: xor(decompress(stored), data),
        )
        methods = [Method.SUBTRACT, Method.SUBTRACT_GROUPED]
    elif parent is not None:
        methods = [Method.CAST]
    for method in methods:
        found[method.name.lower()] = _ours(block, dtype, parent, method)
    chosen, _ = encode_block(block, dtype, [parent] if parent else [])
    forced = _ours(block, dtype, parent, chosen.method)
    found[f"chosen: {chosen.method.name.lower()}"] = (
        lambda: encode_block(block, dtype, [parent] if parent else [])[0].payload,
        forced[1],
    )
    return found


def _ours(block: bytes, dtype: str, parent: Parent | None, method: Method) -> Coder:
    return (
        lambda: encode_as(method, block, dtype, parent).payload,
        lambda stored: decode_block(
            EncodedBlock(method=method, payload=stored), dtype, len(block), parent
        ),
    )


def measure(block: bytes, dtype: str, parent: Parent | None) -> dict[str, dict[str, float]]:
    """Return ratio and MB/s of every coder, in interleaved rounds."""
    candidates = coders(block, dtype, parent)
    best = {name: [float("inf"), float("inf")] for name in candidates}
    stored: dict[str, bytes] = {}
    for _ in range(ROUNDS):
        for name, (encode, decode) in candidates.items():
            started = time.perf_counter()
            stored[name] = encode()
            middle = time.perf_counter()
            assert decode(stored[name]) == block
            ended = time.perf_counter()
            best[name] = [min(best[name][0], middle - started), min(best[name][1], ended - middle)]
    return {
        name: {
            "ratio": round(len(stored[name]) / len(block), 4),
            "encode_mb_per_second": round(len(block) / encode_seconds / 1e6),
            "decode_mb_per_second": round(len(block) / decode_seconds / 1e6),
        }
        for name, (encode_seconds, decode_seconds) in best.items()
    }


def cases() -> dict[str, tuple[bytes, str, Parent | None]]:
    """Return blocks with their types and parents."""
    generator = np.random.default_rng(4)
    noise = generator.standard_normal((2, ELEMENTS)).astype("<f4")
    base: Floats = noise[0] * np.float32(SPREAD)
    found: dict[str, tuple[bytes, str, Parent | None]] = {}
    for dtype in ("bfloat16", "float16", "float32"):
        parent = Parent(data=bytes_of(base, dtype), dtype=dtype)
        found[f"{dtype} base"] = (parent.data, dtype, None)
        for size in (1e-4, 1e-3):
            even = base + noise[1] * np.float32(size * SPREAD)
            found[f"{dtype} even {size:g}"] = (bytes_of(even, dtype), dtype, parent)
            relative = base * (1 + noise[1] * np.float32(size))
            found[f"{dtype} relative {size:g}"] = (bytes_of(relative, dtype), dtype, parent)
    whole = Parent(data=base.tobytes(), dtype="float32")
    for dtype in ("bfloat16", "float16"):
        found[f"{dtype} copy of float32"] = (bytes_of(base, dtype), dtype, whole)
        half = Parent(data=bytes_of(base, dtype), dtype=dtype)
        found[f"float32 after its {dtype} copy"] = (whole.data, "float32", half)
    return found


def main() -> None:
    """Measure every case and print, or also write, the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    results = {}
    for case, (block, dtype, parent) in cases().items():
        results[case] = measure(block, dtype, parent)
        print(f"{case} ({len(block) >> 20} MiB)")
        for name, row in results[case].items():
            speeds = f"{row['encode_mb_per_second']:6.0f} {row['decode_mb_per_second']:6.0f} MB/s"
            print(f"  {name:26} {row['ratio']:7.4f} {speeds}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
