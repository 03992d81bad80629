"""Laws of weights beside a model: whatever a model says, a file is its ranges."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.store.backends.memory import MemoryBackend
from stemma.store.beside import NOTHING, cut_as_said, look_beside
from stemma.store.formats.ranges import ITEM_BYTES, SMALLEST_TENSOR_BYTES, Partition, opaque
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

_DATA = bytes(range(256)) * 64
_NUMBERS = st.one_of(
    st.sampled_from([0, 4096, 8192, len(_DATA)]).map(str),
    st.integers(-1, len(_DATA) + 1).map(str),
    st.text(max_size=4),
)
_SAID = st.fixed_dictionaries(
    {"location": st.sampled_from(["w", "w", "w", "./w", "../w", "/w", "v", "model.onnx", ""])},
    optional={"offset": _NUMBERS, "length": _NUMBERS, "checksum": st.text(max_size=4)},
)
_TENSORS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 24),
        st.lists(st.sampled_from([0, 1, 2, 512, 1024, 2048, -1, 1 << 40]), max_size=3),
        _SAID,
    ),
    max_size=4,
)


def _model(tensors: list[tuple[str, int, list[int], dict[str, str]]]) -> bytes:
    protos = []
    for name, kind, dims, said in tensors:
        proto = onnx.TensorProto(name=name, data_type=kind, dims=dims)
        proto.data_location = onnx.TensorProto.EXTERNAL
        for key, value in said.items():
            proto.external_data.add(key=key, value=value)
        protos.append(proto)
    graph = onnx.helper.make_graph([], "g", [], [], protos)
    data: bytes = onnx.helper.make_model(graph).SerializeToString()
    return data


@pytest.mark.slow
@given(
    models=st.lists(_TENSORS, min_size=1, max_size=2),
    flips=st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), max_size=2),
)
def test_a_file_is_covered_and_comes_back_whatever_models_say(
    models: list[list[tuple[str, int, list[int], dict[str, str]]]], flips: list[tuple[int, int]]
) -> None:
    """A folder with a wrong or hostile model could not be stored, or came back changed."""
    store = ObjectStore(MemoryBackend(), MemoryChunkIndex())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "w").write_bytes(_DATA)
        for number, tensors in enumerate(models):
            data = bytearray(_model(tensors))
            for offset, byte in flips:
                data[offset % len(data)] = byte
            (folder / f"{number}.onnx").write_bytes(data)
        names = sorted(path.name for path in folder.iterdir())
        claims = look_beside({name: folder / name for name in names}).get("w", NOTHING).claims
        tree = store.put_tree(folder, names)
        for name, file in tree.files.items():
            assert store.read_bytes(file.digest) == (folder / name).read_bytes()
    plain = Partition(ranges=opaque(len(_DATA)))
    ranges = cut_as_said(plain, claims, len(_DATA)).ranges if claims else plain.ranges
    assert b"".join(_DATA[item.offset : item.end] for item in ranges) == _DATA
    for item in ranges:
        assert item.size_bytes > 0
        assert item.size_bytes >= SMALLEST_TENSOR_BYTES or not item.is_tensor
        assert not item.is_tensor or item.size_bytes % ITEM_BYTES[item.dtype] == 0
