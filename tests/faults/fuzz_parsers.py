"""Every parser of foreign or stored bytes, fed with damaged files until one of them breaks.

By hand: ``python tests/faults/fuzz_parsers.py TARGET [--seconds 60] [--engine atheris]``; ``all``
takes one target after another.  The engine ``plain`` needs nothing: it mutates sound
files.  The engine ``atheris`` follows coverage and wants https://github.com/google/atheris.

A target fails when it raises anything but our own errors, takes more than 64 MiB beside what the
process had, takes more than ten seconds, or gives back other bytes than it was given.
The input that did it is written to the folder ``crashes`` under ``--keep``.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import numpy as np

from stemma.catalog.capture.artifact import capture_model_path
from stemma.catalog.capture.data import capture_dataset_path
from stemma.catalog.pointers import Pointer, encode_pointer, read_pointer
from stemma.domain.digest import Digest
from stemma.domain.errors import StemmaError
from stemma.domain.tree import EntryKind, Tree, TreeEntry, decode_tree, encode_tree
from stemma.store.backends.memory import MemoryBackend
from stemma.store.backends.packs.layout import TRAILER_BYTES, decode_sidecar, encode_sidecar
from stemma.store.backends.packs.reading import complaint_about, opened, read_pack, scan_pack
from stemma.store.backends.packs.writing import Blob, write_pack
from stemma.store.codecs.base import EncodedBlock, Method, Parent
from stemma.store.codecs.blocks import decode_block, encode_as
from stemma.store.formats.detect import detect_format
from stemma.store.formats.partition import partition
from stemma.store.frames import (
    Chunk,
    decode_frame,
    decode_header,
    encode_block_frame,
    encode_frame,
)
from stemma.store.hashing import blake3_raw, hash_bytes
from stemma.store.index import MemoryChunkIndex
from stemma.store.keys import record_key
from stemma.store.objects import ObjectStore
from stemma.store.recipes import Recipe, decode_recipe, encode_recipe
from stemma.store.remote_index import KIND, RemoteIndex

LIMIT_BYTES = 64 << 20
LIMIT_SECONDS = 10.0
NAMES = ("a.safetensors", "a.npy", "a.npz", "a.pt", "a.onnx", "a.gguf", "a.parquet", "a.skops", "a")
_MEASURED_EVERY = 10
_FOLLOWED = {"stemma", "zipfile", "tomllib", "csv", "json"}
_WEIGHT = np.arange(3000, dtype=np.float32)
_SCRATCH = Path(tempfile.mkdtemp(prefix="stemma-fuzz-"))


# sound bytes ------------------------------------------------------------------------------------


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _safetensors() -> bytes:
    entries = {
        name: {"dtype": "F32", "shape": [3000], "data_offsets": [at * 12_000, (at + 1) * 12_000]}
        for at, name in enumerate("vw")
    }
    header = json.dumps({"__metadata__": {"a": "b"}, **entries}).encode()
    return struct.pack("<Q", len(header)) + header + _WEIGHT.tobytes() * 2


def _gguf() -> bytes:
    pair = struct.pack("<Q1sIIQQ2s", 1, b"k", 9, 8, 1, 2, b"ab")
    info = struct.pack("<Q1sIQIQ", 1, b"w", 1, 3000, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + pair + info
    return head + bytes(-len(head) % 32) + _WEIGHT.tobytes()


def _field(number: int, data: bytes) -> bytes:
    size = len(data)
    length = b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def _onnx() -> bytes:
    tensor = b"\x08\xb8\x17\x10\x01" + _field(8, b"w") + _field(9, _WEIGHT.tobytes())
    return b"\x08\x08" + _field(7, _field(5, tensor))


_PICKLE = (
    b"\x80\x02}q\0X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storage"
    b"ctorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuM\xb8\x0btQK\0M\xb8\x0b\x85K\1\x85\x89NtRs."
)
_SKOPS = {
    "__class__": "dict",
    "__module__": "builtins",
    "__loader__": "DictNode",
    "content": {"a": {"__loader__": "NdArrayNode", "type": "numpy", "file": "1.npy", "__id__": 1}},
    "key_types": {},
    "protocol": 2,
}
_TORCH = {"a/data.pkl": _PICKLE, "a/data/0": _WEIGHT.tobytes(), "a/byteorder": b"little"}
_FILES = {
    "a.safetensors": _safetensors(),
    "a.npy": _npy(_WEIGHT.reshape(60, 50)),
    "a.npz": _zip(
        {"w.npy": _npy(_WEIGHT), "f.npy": _npy(np.asfortranarray(_WEIGHT.reshape(6, 500)))}
    ),
    "b.npz": _zip({"w.npy": _npy(_WEIGHT)}, zipfile.ZIP_DEFLATED),
    "a.pt": _zip(_TORCH),
    "a.gguf": _gguf(),
    "a.onnx": _onnx(),
    "a.parquet": b"PAR1" + bytes(99) + b"\x15\x02" + bytes(30) + struct.pack("<I", 32) + b"PAR1",
    "a.skops": _zip({"schema.json": json.dumps(_SKOPS).encode(), "1.npy": _npy(_WEIGHT)}),
}
_BODY = b"some bytes of a chunk " * 40
_CHUNK = Chunk(blake3_raw(_BODY), len(_BODY))
_DIGEST = hash_bytes(_BODY)
_BLOCK = _WEIGHT.tobytes()
_BLOCK_CHUNK = Chunk(blake3_raw(_BLOCK), len(_BLOCK))
_BEFORE = Parent(data=(_WEIGHT + 1).tobytes(), dtype="float32")


def _recipe() -> bytes:
    table = _CHUNK.digest + _CHUNK.size_bytes.to_bytes(4, "little")
    sha256 = Digest.sha256("0" * 64)
    return encode_recipe(Recipe(digest=_DIGEST, sha256=sha256, size_bytes=len(_BODY), table=table))


def _block_frames() -> list[bytes]:
    return [
        encode_block_frame(
            _BLOCK_CHUNK, encode_as(method, _BLOCK, "float32", None), "float32", None
        )
        for method in (Method.RAW, Method.ZSTD, Method.PLANES)
    ]


def _payloads() -> list[bytes]:
    methods = [method for method in Method if method is not Method.CAST]
    return [encode_as(method, _BLOCK, "float32", _BEFORE).payload for method in methods]


def _record() -> bytes:
    frame = encode_frame([_CHUNK], _BODY)
    header = frame[: decode_header(frame, "frames/x").body_offset]
    return (blake3_raw(frame) + header) * 3


def _tree() -> bytes:
    entries = [
        TreeEntry(path="a/b", kind=EntryKind.FILE, size_bytes=5, digest=_DIGEST),
        TreeEntry(path="c", kind=EntryKind.SYMLINK, size_bytes=0, target="a/b"),
    ]
    return encode_tree(Tree.of(entries))


def _pack() -> bytes:
    path = _SCRATCH / "pack"
    keys = [f"frames/ab/{number:062x}".encode() for number in range(5)]
    write_pack(path, [Blob(key, 7, _BODY[at:]) for at, key in enumerate(keys)])
    data = path.read_bytes()
    path.unlink()
    return data


# targets ----------------------------------------------------------------------------------------


def _name(data: bytes) -> str:
    """Choose a name by the bytes, so that an input alone says what happens."""
    return NAMES[data[len(data) // 2] % len(NAMES)] if data else "a"


def _partition(data: bytes) -> None:
    for name in {_name(data), "a"}:
        found = partition(io.BytesIO(data), len(data), name=name)
        assert b"".join(data[item.offset : item.end] for item in found.ranges) == data
        assert all(item.size_bytes for item in found.ranges)


def _store(data: bytes) -> None:
    path = _SCRATCH / _name(data)
    path.write_bytes(data)
    os.utime(path, (1, 1))
    store = ObjectStore(MemoryBackend(), MemoryChunkIndex())
    assert store.read_bytes(store.put_file(path).digest) == data
    path.unlink()


def _model(data: bytes) -> None:
    path = _SCRATCH / _name(data)
    path.write_bytes(data)
    detect_format(path)
    with contextlib.suppress(StemmaError):
        capture_model_path(path)
    path.unlink()


def _dataset(data: bytes) -> None:
    path = _SCRATCH / _name(data).replace("pt", "csv").replace("gguf", "json")
    path.write_bytes(data)
    with contextlib.suppress(StemmaError):
        capture_dataset_path("d", path)
    path.unlink()


def _frame(data: bytes) -> None:
    # With a digest of its own, since all else ends at the first check.
    for sealed in (data, data[:-32] + blake3_raw(data[:-32])):
        for read in (decode_header, decode_frame):
            with contextlib.suppress(StemmaError):
                read(sealed, "frames/x")


def _codec(data: bytes) -> None:
    for method in Method:
        for dtype in ("float32", "bfloat16", "uint8", "float64"):
            with contextlib.suppress(StemmaError):
                encoded = EncodedBlock(method=method, payload=data)
                assert len(decode_block(encoded, dtype, len(_BLOCK), _BEFORE)) == len(_BLOCK)


def _recipes(data: bytes) -> None:
    for sealed in (data, data[:-32] + blake3_raw(data[:-32])):
        with contextlib.suppress(StemmaError):
            decode_recipe(sealed, _DIGEST)


def _trees(data: bytes) -> None:
    with contextlib.suppress(StemmaError):
        decode_tree(data)


def _records(data: bytes) -> None:
    backend = MemoryBackend()
    digest = Digest.sha256(__import__("hashlib").sha256(data).hexdigest())
    backend.put(record_key(KIND, digest), data)
    RemoteIndex(backend).find([_CHUNK.digest, bytes(32)])


def _pointers(data: bytes) -> None:
    path = _SCRATCH / "a.csv.stemma"
    body = data.rpartition(b"checksum = ")[0]
    for text in (data, body + f'checksum = "{hash_bytes(body)}"\n'.encode()):
        path.write_bytes(text)
        with contextlib.suppress(StemmaError):
            read_pointer(path)


def _packs(data: bytes) -> None:
    # As it is, and with a trailer whose digest is right.
    trailer = data[-TRAILER_BYTES:-32]
    for sealed in (data, data[: -len(trailer) - 32] + trailer + blake3_raw(trailer)):
        path = _SCRATCH / sealed[-32:].hex().ljust(64, "0")
        path.write_bytes(sealed)
        for read in (read_pack, scan_pack):
            with contextlib.suppress(StemmaError), opened(path) as handle:
                pack = read(path)
                for number in range(len(pack.rows)):
                    pack.key(handle, number)
                    assert len(pack.body(handle, number, 0, None)) <= len(sealed)
        with contextlib.suppress(StemmaError):
            complaint_about(path)
        path.unlink()


def _sidecars(data: bytes) -> None:
    for sealed in (data, data[:-32] + blake3_raw(data[:-32])):
        decode_sidecar(sealed, bytes(32))


_POINTER = Pointer(kind="file", size_bytes=9, content=_DIGEST, sha256=Digest.sha256("0" * 64))
_SOUND_FILES = list(_FILES.values())
_TABLES = [b"a,b,label\n1,2,x\n3,4,y\n" * 9, b'[{"a": 1, "b": null}]', b'{"a": 1}\n{"a": [2]}\n']
TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "partition": (_partition, _SOUND_FILES),
    "store": (_store, _SOUND_FILES),
    "model": (_model, _SOUND_FILES),
    "dataset": (_dataset, [*_SOUND_FILES[1:4], *_TABLES]),
    "frame": (_frame, [encode_frame([_CHUNK], _BODY), *_block_frames()]),
    "codec": (_codec, _payloads()),
    "recipe": (_recipes, [_recipe()]),
    "tree": (_trees, [_tree()]),
    "record": (_records, [_record()]),
    "pack": (_packs, [_pack()]),
    "sidecar": (_sidecars, [encode_sidecar(bytes(32), {40: 7, 90: 8})]),
    "pointer": (_pointers, [encode_pointer(_POINTER)]),
}


# engines ----------------------------------------------------------------------------------------

_NUMBERS = [
    struct.pack("<Q", value) for value in (0, 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 64) - 1)
]


def mutated(sound: bytes, chance: random.Random) -> bytes:
    """Return sound bytes with one to six faults, near their ends more often than not."""
    data = bytearray(sound)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        if not data:
            break
        near = min(len(data), 400)
        at = chance.choice(
            (
                chance.randrange(near),
                len(data) - 1 - chance.randrange(near),
                chance.randrange(len(data)),
            )
        )
        match chance.randrange(7):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.choice((0, 255, 127, 128, 0x7B, 0x22, chance.randrange(256)))
            case 2:
                data[at : at + 8] = chance.choice(_NUMBERS)[: chance.choice((2, 4, 8))]
            case 3:
                del data[at : at + chance.choice((1, 4, 100))]
            case 4:
                piece = data[at : at + chance.choice((1, 8, 300))]
                data[at:at] = piece * chance.choice((1, 2, 50))
            case 5:
                data[at:at] = chance.randbytes(chance.choice((1, 4, 32)))
            case _:
                del data[at:]
    return bytes(data)


def tried(target: Callable[[bytes], None], data: bytes, *, is_measured: bool) -> str:
    """Run one input; return what is wrong with it, or nothing."""
    began = time.perf_counter()
    if is_measured:
        tracemalloc.start()
    try:
        target(data)
        peak_bytes = tracemalloc.get_traced_memory()[1] if is_measured else 0
    except Exception:  # noqa: BLE001 - the edge: anything at all is a finding
        return traceback.format_exc()
    finally:
        tracemalloc.stop()
    if peak_bytes > LIMIT_BYTES + len(data):
        return f"it takes {peak_bytes >> 20} MiB"
    seconds = time.perf_counter() - began
    return f"it takes {seconds:.1f} s" if seconds > LIMIT_SECONDS else ""


def run_plain(name: str, seconds: float, seed: int, keep: Path) -> tuple[int, int]:
    """Mutate sound bytes for so long; returns the numbers of inputs and of findings."""
    target, sounds = TARGETS[name]
    chance = random.Random(f"{name} {seed}")
    for sound in sounds:
        if complaint := tried(target, sound, is_measured=True):
            sys.exit(f"{name}: a sound input fails: {complaint}")
    end = time.monotonic() + seconds
    count = findings = 0
    known: set[str] = set()
    while time.monotonic() < end:
        data = mutated(chance.choice(sounds), chance)
        complaint = tried(target, data, is_measured=count % _MEASURED_EVERY == 0)
        count += 1
        if complaint:
            findings += 1
            if (last := complaint.rstrip().splitlines()[-1][:60]) in known:
                continue
            known.add(last)
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{name}-{findings}").write_bytes(data)
            print(f"{name}-{findings}: {complaint}", flush=True)  # noqa: T201 - its answer
    return count, findings


def _followed() -> list[FunctionType]:
    """Return the functions whose branches guide the search; all there are would take a minute."""
    return [
        item
        for item in gc.get_objects()
        if isinstance(item, FunctionType) and str(item.__module__).partition(".")[0] in _FOLLOWED
    ]


def run_atheris(name: str, seconds: float, seed: int, keep: Path) -> None:
    """Let libFuzzer search; it ends the process."""
    import atheris  # type: ignore[import-not-found]

    target, sounds = TARGETS[name]
    corpus = _SCRATCH / "corpus"
    corpus.mkdir()
    for number, sound in enumerate(sounds):
        (corpus / str(number)).write_bytes(sound)
    keep.mkdir(parents=True, exist_ok=True)
    for function in _followed():
        atheris.instrument_func(function)
    options = [
        f"-max_total_time={int(seconds)}",
        f"-seed={seed}",
        f"-timeout={int(LIMIT_SECONDS)}",
        "-max_len=65536",
        "-rss_limit_mb=1024",
        f"-artifact_prefix={keep}/{name}-",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


def main() -> int:
    """Read the command line and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--engine", choices=["plain", "atheris"], default="plain")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("crashes"))
    asked = parser.parse_args()
    if asked.engine == "atheris":
        run_atheris(asked.target, asked.seconds, asked.seed, asked.keep)
    found = 0
    for name in TARGETS if asked.target == "all" else [asked.target]:
        count, findings = run_plain(name, asked.seconds, asked.seed, asked.keep)
        found += findings
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"{name}: {count} inputs, {findings} findings, {peak_mib} MiB at most", flush=True)  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
