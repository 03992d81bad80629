"""Laws of ranges: whatever a file holds, its ranges are the file, in order and complete."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given
from hypothesis import strategies as st

from stemma.store.formats.partition import partition
from stemma.store.formats.ranges import ITEM_BYTES, SMALLEST_TENSOR_BYTES

NAMES = ("a.safetensors", "a.npy", "a.npz", "a.pt", "a.onnx", "a.gguf", "a.parquet", "")
_WEIGHT = np.arange(1200, dtype=np.float32)
_PICKLE = (
    b"\x80\x02}q\0X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storage"
    b"ctorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuM\xb0\4tQK\0M\xb0\4\x85K\1\x85\x89NtRs."
)


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, _WEIGHT, allow_pickle=False)
    return buffer.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def _gguf() -> bytes:
    pair = struct.pack("<Q1sIIQQ2s", 1, b"k", 9, 8, 1, 2, b"ab")
    info = struct.pack("<Q1sIQIQ", 1, b"w", 1, 1200, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + pair + info
    return head + bytes(-len(head) % 32) + _WEIGHT.tobytes()


def _onnx() -> bytes:
    tensor = b"\x08\xb0\x09\x10\x01\x42\x01w\x4a\xc0\x25" + _WEIGHT.tobytes()
    graph = b"\x2a" + struct.pack("<H", 0x25CB) + tensor
    return b"\x08\x08\x3a" + struct.pack("<H", 0x25CE) + graph


SOUND = {
    "a.safetensors": safetensors.numpy.save({"w": _WEIGHT, "v": _WEIGHT[:9]}, {"k": "v"}),
    "a.npy": _npy(),
    "a.npz": _zip({"w.npy": _npy(), "v.npy": _npy()}),
    "a.pt": _zip({"a/data.pkl": _PICKLE, "a/data/0": _WEIGHT.tobytes(), "a/byteorder": b"little"}),
    "a.gguf": _gguf(),
    "a.onnx": _onnx(),
}


def _check(data: bytes, name: str) -> None:
    """Check every promise of a partition."""
    found = partition(io.BytesIO(data), len(data), name=name)
    parts = [data[item.offset : item.end] for item in found.ranges]
    assert b"".join(parts) == data
    assert all(item.size_bytes > 0 for item in found.ranges)
    assert [item.offset for item in found.ranges] == sorted(item.offset for item in found.ranges)
    tensors = [item for item in found.ranges if item.is_tensor]
    assert len({item.name for item in tensors}) == len(tensors)
    for item in tensors:
        count = int(np.prod(item.shape, dtype=object))
        assert item.size_bytes == count * ITEM_BYTES[item.dtype] >= SMALLEST_TENSOR_BYTES
        assert item.name
    assert not (found.warning and tensors)


@pytest.mark.parametrize("name", SOUND)
def test_the_sound_files_have_a_tensor(name: str) -> None:
    """The laws below would be tested on files that no parser reads."""
    data = SOUND[name]
    found = partition(io.BytesIO(data), len(data), name=name)
    assert found.warning == ""
    assert any(item.is_tensor for item in found.ranges)


@given(data=st.binary(max_size=400), name=st.sampled_from(NAMES))
def test_any_bytes_are_covered(data: bytes, name: str) -> None:
    """An ordinary file could not be stored."""
    _check(data, name)


@given(
    data=st.binary(max_size=200),
    start=st.sampled_from(
        (b"GGUF\3\0\0\0", b"\x93NUMPY\1\0", b"PK\3\4", b"\x40" + bytes(7) + b"{", b"\x08\x08\x3a")
    ),
    name=st.sampled_from(NAMES),
)
def test_any_bytes_behind_a_known_start_are_covered(data: bytes, start: bytes, name: str) -> None:
    """A file that only looks like a known one could not be stored."""
    _check(start + data, name)


@pytest.mark.slow
@given(
    name=st.sampled_from(sorted(SOUND)),
    places=st.lists(
        st.tuples(st.integers(0, 1 << 16), st.integers(0, 255), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    cut=st.one_of(st.none(), st.integers(0, 1 << 16)),
)
@example(name="a.npz", places=[(0, 0, False)], cut=30)
def test_damaged_files_are_covered(
    name: str, places: list[tuple[int, int, bool]], cut: int | None
) -> None:
    """A damaged model could not be stored, or would come back changed."""
    data = bytearray(SOUND[name])
    weight = bytes(data).find(_WEIGHT.tobytes())
    headers = [*range(weight), *range(weight + _WEIGHT.nbytes, len(data))]
    for place, value, is_insertion in places:
        at = headers[place % len(headers)]
        data[at : at if is_insertion else at + 1] = bytes([value])
    _check(bytes(data[:cut] if cut is None else data[: cut % len(data)]), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_every_flipped_byte_of_a_header_is_covered(name: str) -> None:
    """One wrong byte in a header could break the import."""
    sound = SOUND[name]
    weight = sound.find(_WEIGHT.tobytes())
    for at in [*range(weight), *range(len(sound) - min(300, len(sound) - weight), len(sound))]:
        for value in (0, 0xFF, sound[at] ^ 1, sound[at] ^ 0x80):
            _check(sound[:at] + bytes([value]) + sound[at + 1 :], name)
