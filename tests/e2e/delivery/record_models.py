"""Record and release the models of these tests; run once, in an empty project.

Small ONNX graphs: their processes start in a fraction of a second.  ``prices`` has versions to
roll out; the other models stand for what can go wrong with one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import stemma

TRAIN = np.arange(80, dtype=np.float32).reshape(40, 2)
TEST = TRAIN[:20] + np.float32(0.5)
TRUTH = TEST @ np.asarray([1.0, 2.0], dtype=np.float32)
NAMED = "named so that the tests know it"
PICK_FIRST = np.asarray([[1], [0]], dtype=np.float32)
PICK_SECOND = np.asarray([[0], [1]], dtype=np.float32)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node; inputs are separated by spaces."""
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def graph(nodes: list[onnx.NodeProto], name: str = "X", **weights: Any) -> onnx.ModelProto:
    """Return a model from float32 [N, 2] to ``price``, float32 [N, 1]."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("price", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def linear(first: float = 1.0, name: str = "X") -> onnx.ModelProto:
    """Return a model that is right: first column and twice the second."""
    weights = np.asarray([[first], [2]], dtype=np.float32)
    return graph([node("MatMul", f"{name} w", "price")], name, w=weights)


def trap() -> onnx.ModelProto:
    """Return a model that is right on the test set and fails where the second column is large."""
    return graph(
        [
            node("MatMul", "X w", "base"),
            node("MatMul", "X pick", "second"),
            node("Squeeze", "second axis", "flat"),
            node("Cast", "flat", "index", to=TensorProto.INT64),
            node("Gather", "table index", "extra"),
            node("Add", "base extra", "price"),
        ],
        w=np.asarray([[1], [2]], dtype=np.float32),
        pick=PICK_SECOND,
        axis=np.asarray([1], dtype=np.int64),
        table=np.zeros((100, 1), dtype=np.float32),
    )


def hungry() -> onnx.ModelProto:
    """Return a model that takes 4 MB of memory for each unit of the first column above 100."""
    return graph(
        [
            node("MatMul", "X w", "base"),
            node("MatMul", "X pick", "first"),
            node("ReduceMax", "first", "most", keepdims=1),
            node("Reshape", "most one", "flat"),
            node("Sub", "flat floor", "above"),
            node("Relu", "above", "units"),
            node("Mul", "units million", "numbers"),
            node("Cast", "numbers", "shape", to=TensorProto.INT64),
            node("ConstantOfShape", "shape", "zeros"),
            node("ReduceSum", "zeros", "nothing", keepdims=0),
            node("Add", "base nothing", "price"),
        ],
        w=np.asarray([[1], [2]], dtype=np.float32),
        pick=PICK_FIRST,
        one=np.asarray([1], dtype=np.int64),
        floor=np.asarray([100], dtype=np.float32),
        million=np.asarray([1_000_000], dtype=np.float32),
    )


def dice() -> onnx.ModelProto:
    """Return a model whose answers are never the same twice."""
    return graph(
        [
            node("MatMul", "X w", "base"),
            node("RandomUniformLike", "base", "noise"),
            node("Add", "base noise", "price"),
        ],
        w=np.asarray([[1], [2]], dtype=np.float32),
    )


def broken() -> onnx.ModelProto:
    """Return a model that nothing can load."""
    return graph([node("Nothing", "X", "price", domain="nowhere")])


def record(model: str, what: object, *, has_test: bool = True) -> None:
    """Record a run."""
    with stemma.run(model) as run:
        run.data(f"{model}-train", (TRAIN, TRAIN.sum(axis=1)))
        run.model(what, test=(TEST, TRUTH) if has_test else None)


def release(model: str, what: object, *, has_test: bool = True, **options: Any) -> None:
    """Record a run, and release it."""
    record(model, what, has_test=has_test)
    stemma.release(model, **options)


def main() -> None:
    """Record everything."""
    release("prices", linear(), channel="stable")
    for what in (linear(1.001), trap(), linear(0.999), dice(), broken()):
        has_test = what.graph.node[0].op_type != "Nothing"
        release("prices", what, has_test=has_test, bump="minor", reason=NAMED)
    release("prices", linear(name="features"), bump="major")
    release("prices", linear(1.002), bump="major", pre=True)
    release("hungry", hungry(), channel="stable")
    release("dice", dice())
    release("broken", broken(), has_test=False)
    release("calm", linear(), channel="stable")
    Path("model.json").write_text("{}", encoding="utf-8")
    release("plain", "model.json", has_test=False)
    Path("model.pkl").write_bytes(b"\x80\x04N.")
    release("pickled", "model.pkl", has_test=False, pre=True)
    record("raw", linear())


if __name__ == "__main__":
    main()
