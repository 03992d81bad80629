"""What tensors a file holds, by digest of their canonical bytes, whatever the container.

Invariants:
    * Canonical bytes are little-endian, C order: equal tensors have equal digests in every format.
    * Nothing is unpickled and no ML library is imported.
    * A file that is not well formed has no tensors (``None``): the caller treats it as opaque.

Example:
    >>> read_tensor_digests(Path("model.safetensors"))["weight"].dtype
    'float32'
"""

from __future__ import annotations

from pathlib import Path

from stemma.store.formats.detect import FileFormat, detect_format
from stemma.store.formats.facts import TensorFact
from stemma.store.formats.npz import read_npy, read_npz
from stemma.store.formats.safetensors import read_safetensors

__all__ = ["TensorFact", "read_tensor_digests"]


def read_tensor_digests(source: Path | bytes, *, name: str = "") -> dict[str, TensorFact] | None:
    """Return dtype, shape and digest per tensor; ``None`` when the file has none that we read.

    Args:
        source: A file, or its bytes.
        name: File name that helps to tell the format when ``source`` is bytes.
    """
    match detect_format(source, name=name):
        case FileFormat.SAFETENSORS:
            return read_safetensors(source)
        case FileFormat.NPZ:
            return read_npz(source)
        case FileFormat.NPY:
            fact = read_npy(source)
            return None if fact is None else {"array": fact}
        case _:
            return None
