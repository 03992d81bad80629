"""What an ONNX file holds, when the ``onnx`` library is there to read it.

Invariants:
    * The graph is parsed, never run.
    * Weights in files beside the model are not followed here: such a model counts with
      its files' bytes.
    * Without the library, or for a malformed file, the answer is ``None``.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from stemma.catalog.capture.contents import FileContent
from stemma.domain.component import ANY_SIZE, Signature, ValueSpec
from stemma.store.formats.facts import TensorFact
from stemma.store.hashing import hash_bytes


def read_onnx(path: Path) -> FileContent | None:
    """Return weights, graph and signature of an ONNX file; ``None`` when it cannot be read."""
    if importlib.util.find_spec("onnx") is None:
        return None
    onnx: Any = importlib.import_module("onnx")
    protobuf: Any = importlib.import_module("google.protobuf.message")
    try:
        model = onnx.load(str(path), load_external_data=False)
        if any(item.data_location == onnx.TensorProto.EXTERNAL for item in model.graph.initializer):
            return None
        tensors = {item.name: _fact(onnx, item) for item in model.graph.initializer}
        signature = Signature(
            inputs=_specs(onnx, model.graph.input, frozenset(tensors)),
            outputs=_specs(onnx, model.graph.output, frozenset()),
        )
    except (protobuf.DecodeError, ValueError, TypeError, KeyError):
        return None
    opsets = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    # What is left is the graph without its weights and without who made it.
    del model.graph.initializer[:]
    for name in ("producer_name", "producer_version", "doc_string"):
        model.ClearField(name)
    graph = hash_bytes(model.SerializeToString(deterministic=True))
    return FileContent(
        tensors=tensors,
        configuration={"graph": str(graph), "opsets": opsets},
        signature=signature,
    )


def _fact(onnx: Any, tensor: Any) -> TensorFact:
    array = np.asarray(onnx.numpy_helper.to_array(tensor))
    if array.dtype.kind == "O":
        data = repr(array.tolist()).encode()
        return TensorFact("str", array.shape, hash_bytes(data).hex)
    canonical = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return TensorFact(array.dtype.name, array.shape, hash_bytes(canonical.tobytes()).hex)


def _specs(onnx: Any, values: Any, weights: frozenset[str]) -> tuple[ValueSpec, ...]:
    """Return declared values; old files list weights among the inputs too."""
    return tuple(_spec(onnx, value) for value in values if value.name not in weights)


def _spec(onnx: Any, value: Any) -> ValueSpec:
    if not value.type.HasField("tensor_type"):
        kind = str(value.type.WhichOneof("value") or "unknown").removesuffix("_type")
        return ValueSpec(name=value.name, dtype=kind, shape=())
    tensor = value.type.tensor_type
    shape = tuple(
        dimension.dim_value if dimension.HasField("dim_value") else ANY_SIZE
        for dimension in tensor.shape.dim
    )
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return ValueSpec(name=value.name, dtype="str" if kind.kind == "O" else kind.name, shape=shape)
