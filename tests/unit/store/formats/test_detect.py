"""Format detection: what a file is, without ever loading it."""

import io
import json
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stemma.store.formats.detect import FileFormat, detect_format


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _npy(array: object, *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=allow_pickle)
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [{"a": [1, 2]}, random.Random(1), Path("x"), list(range(50_000)), b"x" * 100_000],
    ids=["dict", "object", "path", "long", "bytes"],
)
def test_a_pickle_of_any_protocol_is_a_pickle_whatever_its_name(
    protocol: int, value: object
) -> None:
    """A pickle called model.json would pass the gate that forbids pickles."""
    data = pickle.dumps(value, protocol=protocol)
    assert detect_format(data, name="model.json") is FileFormat.PICKLE
    assert detect_format(data) is FileFormat.PICKLE


def test_a_pickle_with_a_broken_end_is_still_a_pickle() -> None:
    """What stands before the fault would have run."""
    data = b"\x80\x04cos\nsystem\n(S'x'\ntR\xff\xff"
    assert detect_format(data) is FileFormat.PICKLE


def test_a_torch_zip_and_an_object_array_are_pickles() -> None:
    """Pickles hide inside zip files and numpy arrays."""
    objects = _npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert detect_format(_zip({"archive/data.pkl": b"\x80\x02."})) is FileFormat.PICKLE
    assert detect_format(objects, name="a.npy") is FileFormat.PICKLE
    assert detect_format(_zip({"a.npy": _npy([1]), "b.npy": objects})) is FileFormat.PICKLE


def test_known_formats_are_told_by_their_bytes() -> None:
    """A wrong format would hide a changed tensor behind an opaque file."""
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    safetensors = len(header).to_bytes(8, "little") + header + b"\1"
    schema = json.dumps({"__loader__": "TypeNode"}).encode()
    assert detect_format(safetensors) is FileFormat.SAFETENSORS
    assert detect_format(_zip({"a.npy": _npy([1.0])})) is FileFormat.NPZ
    assert detect_format(_npy([1.0])) is FileFormat.NPY
    assert detect_format(_zip({"schema.json": schema, "1.npy": _npy([1])})) is FileFormat.SKOPS
    assert detect_format(b"GGUF\3\0\0\0") is FileFormat.GGUF
    assert detect_format(b"PAR1....PAR1") is FileFormat.PARQUET
    assert detect_format(b"\x08\x08\x12", name="m.onnx") is FileFormat.ONNX


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", b"a,b\n1,2\n", FileFormat.CSV),
        ("a.tsv", b"0\t1\n", FileFormat.CSV),
        ("a.json", b"{}", FileFormat.JSON),
        ("a.yaml", b"a: 1\n", FileFormat.YAML),
        ("a.txt", b". starts with a full stop", FileFormat.OPAQUE),
        ("a.txt", b"N", FileFormat.OPAQUE),
        ("a.csv", b"0" * 200_000, FileFormat.CSV),
        ("a.txt", b"chapter one\nsecond line\n. and more", FileFormat.OPAQUE),
        ("a.bin", b"", FileFormat.OPAQUE),
        ("a.bin", b"PK\x03\x04broken", FileFormat.OPAQUE),
        ("a.json", b"\0\1\2", FileFormat.OPAQUE),
        ("a.pkl", b"anything", FileFormat.PICKLE),
    ],
)
def test_text_and_unknown_files_are_told_by_name(
    name: str, data: bytes, expected: FileFormat
) -> None:
    """Plain files must not be taken for pickles, or nobody could add them."""
    assert detect_format(data, name=name) is expected


def test_this_repository_s_own_sources_are_not_pickles() -> None:
    """A false alarm on ordinary text would refuse ordinary projects."""
    sources = list(Path(__file__).parents[3].rglob("*.py"))
    assert sources
    assert {detect_format(path) for path in sources} == {FileFormat.OPAQUE}
