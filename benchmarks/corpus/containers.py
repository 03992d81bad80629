"""The same weights in other files: npz, ONNX, GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor


def write_npz(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a zip of arrays, not compressed."""
    np.savez(path, **{name: tensor.numpy() for name, tensor in weights.items()})


def write_onnx(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a graph that holds the weights as initialisers and adds two numbers."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "weights",
        [value],
        [answer],
        [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in weights.items()],
    )
    onnx.save(helper.make_model(graph), str(path))


def write_gguf(weights: Mapping[str, Tensor], path: Path, *, is_half: bool) -> None:
    """Write a GGUF file, matrices in float16 if asked, as converters do."""
    from gguf import GGUFWriter

    writer = GGUFWriter(str(path), "bert")
    writer.add_block_count(6)
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            array = tensor.numpy()
            is_matrix = is_half and array.ndim > 1
            writer.add_tensor(name, array.astype(np.float16) if is_matrix else array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
