"""Ranges of files that lie: one opaque range, a reason, and neither memory nor time."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Iterable

import numpy as np
import pytest

from stemma.store.formats.partition import partition

MIB = 1 << 20
ENTRY = {"dtype": "F32", "shape": [2000], "data_offsets": [0, 8000]}


def _warning(data: bytes, name: str = "") -> str:
    """Return the warning of a file that must be one opaque range."""
    found = partition(io.BytesIO(data), len(data), name=name)
    assert [(item.offset, item.size_bytes, item.dtype) for item in found.ranges] == [
        (0, len(data), "")
    ]
    return found.warning


def _safetensors(header: object, data: bytes = bytes(8000)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _npy(shape: str = "(2000,)", descr: str = "'<f4'", data: bytes = bytes(8000)) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def _zip(members: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return buffer.getvalue()


def _torch(pickle: bytes, storage: bytes = bytes(8000)) -> bytes:
    return _zip([("a/data.pkl", pickle), ("a/data/0", storage)])


def _storage_call(count: bytes = b"M\xd0\x07") -> bytes:
    return (
        b"\x80\x02((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"
        + count
        + b"tQ"
    )


def _gguf(
    *, tensors: int = 1, keys: int = 0, body: bytes = b"", version: int = 3, data: bytes = b""
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body
    return head + bytes(-len(head) % 32) + data


def _gguf_tensor(name: bytes = b"w", sizes: tuple[int, ...] = (2000,), offset: int = 0) -> bytes:
    packed = struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, 0, offset)
    return struct.pack("<Q", len(name)) + name + packed


def _field(number: int, data: bytes) -> bytes:
    size, length = len(data), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def _onnx(*tensors: bytes) -> bytes:
    return b"\x08\x08" + _field(7, b"".join(_field(5, tensor) for tensor in tensors))


def _onnx_tensor(name: bytes = b"w", size: int = 2000, data: bytes = bytes(8000)) -> bytes:
    return _field(1, _varint(size)) + b"\x10\x01" + _field(8, name) + _field(9, data)


def _varint(number: int) -> bytes:
    answer = b""
    number &= (1 << 64) - 1
    while number > 127:
        answer += bytes([number & 127 | 128])
        number >>= 7
    return answer + bytes([number])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"w": ENTRY | {"data_offsets": [0, 8004], "shape": [2001]}}, "outside the file"),
        ({"w": ENTRY | {"data_offsets": [-4, 7996]}}, "outside the file"),
        ({"w": ENTRY | {"data_offsets": [8000, 0]}}, "outside the file"),
        ({"w": ENTRY | {"data_offsets": [0, 1 << 63]}}, "outside the file"),
        ({"w": ENTRY | {"data_offsets": [0, 1 << 70]}}, "outside the file"),
        ({"w": ENTRY, "v": ENTRY | {"data_offsets": [0, 8000]}}, "overlaps"),
        ({"w": ENTRY, "v": ENTRY | {"shape": [1], "data_offsets": [4, 8]}}, "overlaps"),
        ({"w": ENTRY | {"shape": [1999]}}, "does not fit its shape"),
        ({"w": ENTRY | {"shape": [-2000]}}, "negative dimension"),
        ({"w": ENTRY | {"shape": [1] * 100}}, "64 dimensions"),
        ({"w": ENTRY | {"shape": [1] * 10_000}}, "30054 bytes"),
        ({"w": ENTRY | {"dtype": "F33"}}, "not one we know"),
        ({"w": ENTRY | {"shape": [float("nan")]}}, "is wrong"),
        ({"w": {"dtype": "F32"}}, "is wrong"),
        ({"w": 5}, "cannot be read"),
        ([], "not a JSON object"),
        (b"{", "cannot be read"),
        (b"{}x", "something follows"),
        (b'{"\xff":{}}', "name in its header"),
        (b'{"__metadata__":{},"__metadata__":{}}', "two entries __metadata__"),
        (b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "cannot be read"),
    ],
)
def test_safetensors_that_lie_are_opaque(header: object, reason: str) -> None:
    """A hostile header would break the import, or cut the file wrongly."""
    assert reason in _warning(_safetensors(header), "model.safetensors")


def test_names_and_keys_that_come_twice_are_seen() -> None:
    """The second tensor would silently stand for the first."""
    entry = json.dumps(ENTRY).encode()
    other = json.dumps(ENTRY | {"data_offsets": [8000, 16_000]}).encode()
    twice = b'{"w":' + entry + b',"\\u0077":' + other + b"}"
    assert "two tensors are named 'w'" in _warning(_safetensors(twice, bytes(16_000)))
    twice_within = b'{"w":' + entry[:-1] + b',"dtype":"F32"}}'
    assert "not one we know" in _warning(_safetensors(twice_within))


def test_a_lying_header_length_costs_nothing() -> None:
    """A file of some bytes would ask for terabytes."""
    assert _warning(struct.pack("<Q", 1 << 60) + b"{" + bytes(100), "m.safetensors")
    assert _warning(b"\xff" * 100, "m.safetensors")
    assert "16 MiB" in _warning(struct.pack("<Q", 17 * MIB) + b"{" * (18 * MIB))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_npy("(2001,)"), "does not fit"),
        (_npy("(-2000,)"), "header we do not read"),
        (_npy(f"({10**30},)"), "does not fit"),
        (_npy(f"({'9' * 5000},)"), "header we do not read"),
        (_npy(descr="'<f3'"), "header we do not read"),
        (_npy()[:9] + b"\xff" + _npy()[10:], "header that is too long"),
        (_npy()[:20], "header that is too long"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100), "header that is too long"),
        (_zip([("w.npy", b"no array" * 1000)]), "has no header"),
        (_zip([("w.npy", _npy("(3,)"))]), "does not fit"),
        (_zip([("w.npy", _npy())])[:-30], "no directory"),
        (_zip([("w.npy", _npy())])[:-10], "no directory"),
        (b"PK\x03\x04 and PK\x05\x06\0\0\0", "no directory"),
    ],
)
def test_arrays_that_lie_are_opaque(data: bytes, reason: str) -> None:
    """A hostile array would be read past its end."""
    assert reason in _warning(data)


def test_a_zip_directory_that_lies_is_opaque() -> None:
    """A directory could point at other bytes, or ask for endless memory."""
    sound = _zip([("w.npy", _npy())])
    end = len(sound) - 22
    entry = sound.index(b"PK\x01\x02")
    changed = {
        "more members than it says": (end + 10, b"\0\0"),
        "fewer members than it says": (end + 10, b"\2\0"),
        "its directory is cut off": (entry, b"PK\x01\x03"),
        "not where the directory says": (entry + 42, b"\1\0\0\0"),
        "outside the file": (entry + 20, b"\0\0\xff\x7f\0\0\xff\x7f"),
        "points past its end": (end + 16, b"\xff\xff\xff\x7f"),
        "member's name is not text": (
            entry + 8,
            b"\0\x08" + sound[entry + 10 : entry + 46] + b"\xff",
        ),
        "64-bit directory is missing": (end + 16, b"\xff\xff\xff\xff"),
        "one part of several": (end + 4, b"\1\0"),
    }
    for reason, (place, patch) in changed.items():
        assert reason in _warning(sound[:place] + patch + sound[place + len(patch) :])


def test_members_of_one_name_and_bombs_are_opaque() -> None:
    """One member would stand for the other, or a small file fill the memory."""
    first, second = _zip([("v.npy", _npy()), ("w.npy", _npy())]).split(b"PK\x01\x02", 1)
    twice = first + b"PK\x01\x02" + second.replace(b"v.npy", b"w.npy")
    assert "same name" in _warning(twice)
    bomb = _zip([("w.npy", bytes(64 * MIB))], zipfile.ZIP_DEFLATED)
    assert _warning(_zip([("inner.npz", bomb)])) == ""
    assert _warning(bomb) == ""


@pytest.mark.parametrize(
    ("pickle", "reason"),
    [
        (_storage_call(b"M\xd1\x07") + b".", "another size"),
        (_storage_call(b"\x8b\x09\0\0\0" + b"\xff" * 8 + b"\x0f") + b".", ""),
        (b"\x80\x02" + b"N" * 300_001, "more than 300000 opcodes"),
        (b"\x80\x02" + bytes(5 * MIB), "larger than 4 MiB"),
        (b"\x80\x02(((0.", "takes more than is there"),
        (b"\x80\x02tR.", "takes more than is there"),
        (b"\x80\x02s.", "takes more than is there"),
        (b"\x80\x02Q.", "takes more than is there"),
        (b"\x80\x02q\0.", "takes more than is there"),
        (b"\x80\x02X\xff\xff\xff\xff.", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"", "cannot be read"),
        (b"\x80\x02" + b")" + b"\x85" * 20_000 + b".", ""),
        (b"\x80\x02}q\0X\1\0\0\0ah\0s.", ""),
        (b"\x80\x02}" + b")" + b"\x85" * 20_000 + b"Ns.", ""),
        (b"S'\\q'\n.", ""),
        (b"cposix\nsystem\n(X\4\0\0\0exittR.", ""),
    ],
)
def test_pickles_of_torch_files_that_lie_are_opaque(pickle: bytes, reason: str) -> None:
    """A hostile pickle would run, recurse, or break the import."""
    found = _warning(_torch(pickle), "model.pt")
    assert reason in found
    assert bool(reason) == bool(found)


def test_a_storage_whose_tensor_is_nowhere_keeps_its_member_s_name() -> None:
    """A checkpoint of a class of its own would be opaque."""
    data = _torch(_storage_call() + b".")
    found = partition(io.BytesIO(data), len(data))
    assert [(item.name, item.shape) for item in found.ranges if item.is_tensor] == [
        ("data/0", (2000,))
    ]


def test_a_big_endian_torch_file_is_opaque() -> None:
    """Its numbers would be taken for others."""
    members = [("a/data.pkl", _storage_call() + b"."), ("a/data/0", bytes(8000))]
    assert _warning(_zip([*members, ("a/byteorder", b"big")])) == ""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_gguf(tensors=1 << 60), "claims 1152921504606846976 tensors"),
        (_gguf(keys=1 << 40), "claims 1 tensors and 1099511627776 keys"),
        (_gguf(version=1), "version is 1"),
        (_gguf(version=3 << 24), "version is 50331648"),
        (_gguf(body=_gguf_tensor()), "outside the file"),
        (_gguf(body=_gguf_tensor(offset=1 << 63), data=bytes(8000)), "outside the file"),
        (_gguf(body=_gguf_tensor(sizes=(1 << 62, 8)), data=bytes(8000)), "outside the file"),
        (_gguf(body=_gguf_tensor(sizes=(1,) * 9)), "9 dimensions"),
        (_gguf(body=_gguf_tensor(name=b"w" * 2000)), "2000 bytes"),
        (_gguf(body=_gguf_tensor(name=b"\xff")), "not text"),
        (_gguf(tensors=2, body=_gguf_tensor() * 2, data=bytes(8000)), "are named"),
        (
            _gguf(tensors=2, body=_gguf_tensor() + _gguf_tensor(b"v"), data=bytes(8000)),
            "overlaps",
        ),
        (_gguf(keys=1, body=struct.pack("<Q1sII", 1, b"k", 9, 9)), "array of arrays"),
        (_gguf(keys=1, body=struct.pack("<Q1sI", 1, b"k", 77)), "unknown type 77"),
        (_gguf(keys=1, body=struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 1 << 62)), "past its end"),
        (_gguf(keys=1, body=struct.pack("<Q1sIIQ", 1, b"k", 9, 10, 1 << 62)), "past its end"),
        (
            _gguf(keys=1, body=struct.pack("<Q17sII", 17, b"general.alignment", 4, 0)),
            "power of two",
        ),
    ],
)
def test_gguf_files_that_lie_are_opaque(data: bytes, reason: str) -> None:
    """Absurd counts would take all memory or never end."""
    assert reason in _warning(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_onnx(_onnx_tensor(size=2001)), "does not fit"),
        (_onnx(_onnx_tensor(size=-2000)), "negative dimension"),
        (_onnx(_onnx_tensor(), _onnx_tensor()), "two tensors are named"),
        (_onnx(_onnx_tensor() + _field(9, bytes(8000))), "data twice"),
        (_onnx(_field(1, b"\1" * 100)), "64 dimensions"),
        (_onnx(_onnx_tensor(name=b"\xff")), "not text"),
        (_onnx(_onnx_tensor(name=b"w" * 70_000)), "70000 bytes"),
        (_onnx(_onnx_tensor())[:-1], "past its end"),
        (b"\x08\x08\x38\x01" + bytes(20), "not a message"),
        (b"\x08\x08" + b"\xff" * 20, "does not end"),
        (b"\x08\x08\x0b" + bytes(20), "unknown kind"),
    ],
)
def test_onnx_files_that_lie_are_opaque(data: bytes, reason: str) -> None:
    """A hostile model would break the import."""
    assert reason in _warning(data, "model.onnx")


def _parquet(footer: bytes = b"\x15\x02" + bytes(30), claimed: int = 32) -> bytes:
    return b"PAR1" + bytes(100) + footer + struct.pack("<I", claimed) + b"PAR1"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_parquet()[:-1], "no footer; it may be cut off"),
        (_parquet()[:50], "no footer; it may be cut off"),
        (_parquet()[:-4] + b"PARE", "no footer"),
        (_parquet(claimed=0), "claims 0 bytes"),
        (_parquet(claimed=1 << 31), "claims 2147483648 bytes"),
        (_parquet(claimed=133), "claims 133 bytes"),
        (_parquet(claimed=31), "not one"),
        (_parquet(footer=bytes(32)), "not one"),
        (b"a,b\n" * 20, "does not begin like one"),
    ],
)
def test_parquet_files_with_a_broken_footer_are_named(data: bytes, reason: str) -> None:
    """A table that was cut off would be stored without a word, and missed at the next training."""
    assert reason in _warning(data, "table.parquet")


def test_whole_parquet_files_are_left_in_peace() -> None:
    """Every table would come with a warning."""
    assert _warning(_parquet(), "table.parquet") == ""
    assert _warning(_parquet().replace(b"PAR1", b"PARE"), "table.parquet") == ""


def test_a_name_of_ten_thousand_characters_does_not_fill_the_message() -> None:
    """The reason would not be found among the letters."""
    header = {"w" * 10_000: ENTRY | {"shape": [3]}}
    assert len(_warning(_safetensors(header))) < 300


def test_a_stream_shorter_than_said_is_opaque() -> None:
    """A file cut off while it is stored would break the import."""
    data = _safetensors({"w": ENTRY})
    for kept in (0, 5, 20):
        found = partition(io.BytesIO(data[:kept]), len(data))
        assert [(item.offset, item.size_bytes) for item in found.ranges] == [(0, len(data))]


def test_the_stream_s_own_error_passes() -> None:
    """A broken disk would look like a file without tensors."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, f"cannot read {size}")

    with pytest.raises(OSError, match="cannot read"):
        partition(Broken(), 100)


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        _safetensors(
            b"{"
            + b",".join(
                b'"%d":{"dtype":"U8","shape":[],"data_offsets":[0,1]}' % number
                for number in range(100_000)
            )
            + b"}"
        ),
        _safetensors(b'{"w":{"dtype":"F32","shape":[' + b"1," * (7 * MIB) + b"1]}}"),
        _safetensors(b'{"__metadata__":{' + b'""' * (7 * MIB) + b"}}"),
        _zip([(f"{number}.npy", b"") for number in range(20_000)]),
        _torch(b"\x80\x02" + b"}" * 299_000 + b"."),
        _torch(b"\x80\x02" + b"}K\x01Ns" * 70_000 + b"."),
        _gguf(
            keys=1,
            body=struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 1 << 60) + bytes(8 * 100_000),
        ),
    ],
    ids=["names", "dimensions", "quotes", "members", "dictionaries", "items", "texts"],
)
def test_no_header_takes_more_than_64_mib(data: bytes) -> None:
    """One small file would take the memory of the whole import."""
    tracemalloc.start()
    try:
        partition(io.BytesIO(data), len(data))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 * MIB


@pytest.mark.slow
def test_a_message_of_endless_parts_ends() -> None:
    """A file of nothing but empty fields would keep the import for hours."""
    assert "2000000 parts" in _warning(b"\x08\x08" * 1_500_000, "model.onnx")


@pytest.mark.slow
def test_sixty_thousand_tensors_are_cut_within_the_memory_bound() -> None:
    """A mixture of many experts would be opaque, or too large to store."""
    names = [f"layers.{number}.weight" for number in range(60_000)]
    header = {
        name: {"dtype": "F16", "shape": [2048], "data_offsets": [at * 4096, (at + 1) * 4096]}
        for at, name in enumerate(names)
    }
    data = _safetensors(header, np.zeros(60_000 * 2048, np.float16).tobytes())
    stream = io.BytesIO(data)
    tracemalloc.start()
    try:
        found = partition(stream, len(data))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [item.name for item in found.ranges[1:]] == names
    assert peak_bytes < 64 * MIB
