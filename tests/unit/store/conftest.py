"""Stores to test with, and files of tensors that are related."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

Tensors = Mapping[str, NDArray[np.generic]]
_CODES = {"float32": "F32", "uint16": "BF16", "float64": "F64", "uint8": "U8"}


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store, in memory and in a folder."""
    if request.param == "memory":
        return ObjectStore(MemoryBackend(), MemoryChunkIndex())
    return ObjectStore(LocalBackend(tmp_path / "objects"), MemoryChunkIndex())


@pytest.fixture
def memory_store() -> ObjectStore:
    """An empty store in memory."""
    return ObjectStore(MemoryBackend(), MemoryChunkIndex())


@pytest.fixture
def save_tensors(tmp_path: Path) -> Callable[[str, Tensors], Path]:
    """Write a safetensors file; arrays of ``uint16`` are the words of ``bfloat16``."""

    def save(name: str, tensors: Tensors) -> Path:
        header: dict[str, object] = {}
        body = bytearray()
        for key, array in tensors.items():
            data = array.tobytes()
            header[key] = {
                "dtype": _CODES[array.dtype.name],
                "shape": list(array.shape),
                "data_offsets": [len(body), len(body) + len(data)],
            }
            body += data
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path = tmp_path / name
        path.write_bytes(struct.pack("<Q", len(text)) + text + body)
        return path

    return save


@pytest.fixture
def family() -> list[dict[str, NDArray[np.float32]]]:
    """A base model of two tensors and three fine-tunes, each trained on from the one before."""
    generator = np.random.default_rng(7)
    members = [
        {
            "layer.weight": generator.normal(0, 0.05, (300, 200)).astype(np.float32),
            "norm.bias": generator.normal(0, 0.05, 64).astype(np.float32),
        }
    ]
    for _ in range(3):
        members.append(
            {
                name: (array + generator.normal(0, 1e-5, array.shape)).astype(np.float32)
                for name, array in members[-1].items()
            }
        )
    return members
