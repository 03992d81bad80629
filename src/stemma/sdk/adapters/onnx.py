"""ONNX models: kept as they are, asked and loaded with onnxruntime.

Invariants:
    * Identity covers initializers and the graph without names for people: graph name,
      documentation and producer say nothing about answers (converters put random names there).
    * Coefficients that ``ai.onnx.ml`` keeps in node attributes are tensors like initializers;
      ``parameter_count`` counts the floating values of both.
    * Data in external files is read and stored with the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from blake3 import blake3
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from stemma.catalog.capture.base import CapturedModel
from stemma.domain.component import ANY_SIZE, Signature, ValueSpec
from stemma.domain.errors import IntegrityError, InvalidInputError
from stemma.domain.facts import Layer, Structure, Tensor
from stemma.sdk.adapters.base import (
    Answers,
    CaptureRequest,
    LoadRequest,
    ModelAdapter,
    array_digest,
    check_interface,
)

FILE_NAME: Final = "model.onnx"
_ENGINE: Final[Any] = onnxruntime.capi.onnxruntime_pybind11_state
_SESSION_ERRORS: Final = (
    _ENGINE.Fail,
    _ENGINE.InvalidArgument,
    _ENGINE.InvalidGraph,
    _ENGINE.InvalidProtobuf,
    _ENGINE.NoModel,
    _ENGINE.NoSuchFile,
    _ENGINE.NotImplemented,
    _ENGINE.RuntimeException,
)
"""onnxruntime's errors: they have no base of their own."""

_MATRIX: Final = 2
_SUMMARY_LIMIT: Final = 6


class OnnxAdapter:
    """Reads ``onnx.ModelProto``, ``.onnx`` files and onnxruntime sessions."""

    loader: Final = "onnx"

    def accepts(self, model: object) -> bool:
        """Say whether ``model`` is an ONNX model, session or file."""
        if isinstance(model, str | Path):
            return Path(model).suffix == ".onnx"
        return isinstance(model, onnx.ModelProto | onnxruntime.InferenceSession)

    def capture(self, request: CaptureRequest) -> CapturedModel:
        """Read graph, initializers and signature, and keep the model in one file.

        Raises:
            InvalidInputError: If it is no valid ONNX model, or a session without its bytes.
        """
        proto = _proto_of(request.model)
        file = request.folder / FILE_NAME
        file.write_bytes(proto.SerializeToString(deterministic=True))
        arrays = _arrays(proto)
        return CapturedModel(
            files={FILE_NAME: file},
            covered_files=(FILE_NAME,),
            loader=self.loader,
            family=_family(proto),
            summary=_summary(proto),
            parameter_count=sum(
                int(array.size) for array in arrays.values() if array.dtype.kind == "f"
            ),
            structure=_structure(proto, arrays),
            signature=_signature(proto, request.interface),
            labels=_labels(proto),
            tensors={name: array_digest(array) for name, array in sorted(arrays.items())},
            configuration={
                "graph": _graph_digest(proto),
                "opset": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
            },
        )

    def answer(self, model: object, inputs: object, labels: NDArray[np.generic] | None) -> Answers:
        """Run the model; a second output, or logits where labels are integers, are scores."""
        session = _session_of(model)
        entries = session.get_inputs()
        if len(entries) != 1:
            raise InvalidInputError(
                f"the model has {len(entries)} inputs; only one can be filled from X",
                code="many-inputs",
                hint="run.model(model, test=(X, y), predict=lambda X: …) says how to ask it",
            )
        array = np.asarray(inputs).astype(_numpy_type(entries[0].type), copy=False)
        outputs = session.run(None, {entries[0].name: array})
        names = _labels(_proto_of(model))
        first = np.asarray(outputs[0])
        if names and len(outputs) > 1:
            return Answers(
                predictions=first.reshape(len(first)),
                scores=_scores(outputs[1]),
                classes=names,
                task="classification",
            )
        is_integer = labels is not None and labels.dtype.kind in "iub"
        if is_integer and first.ndim == _MATRIX and first.shape[1] > 1:
            return Answers(predictions=first.argmax(axis=1), task="classification")
        return Answers(predictions=first[:, 0] if first.shape[1:] == (1,) else first)

    def load(self, request: LoadRequest) -> object:
        """Return an ``onnxruntime.InferenceSession`` on the CPU.

        Raises:
            IntegrityError: If the file is no ONNX model.
        """
        name = next((name for name in request.files if name.endswith(".onnx")), FILE_NAME)
        return _start_session(str(request.folder / name), name)


def _start_session(source: str | bytes, name: str) -> Any:
    try:
        return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    except _SESSION_ERRORS as error:
        raise IntegrityError(
            f"{name} cannot be run: {error}", code="bad-artifact", hint="stemma doctor"
        ) from error


def _session_of(model: object) -> Any:
    if isinstance(model, onnxruntime.InferenceSession):
        return model
    return _start_session(_proto_of(model).SerializeToString(), FILE_NAME)


def _proto_of(model: object) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, str | Path):
        return _read_proto(Path(model))
    # A session keeps what it was made from, under these names since onnxruntime 1.4.
    data: bytes | None = getattr(model, "_model_bytes", None)
    path: str | None = getattr(model, "_model_path", None)
    if data:
        return onnx.load_model_from_string(data)
    if path:
        return _read_proto(Path(path))
    raise InvalidInputError(
        "this session does not know the model it was made from",
        code="session-without-model",
        hint="pass the path of the .onnx file instead",
    )


def _read_proto(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load_model(str(path))
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise InvalidInputError(
            f"{path} is no ONNX model: {error}", code="bad-model-file", hint="export it again"
        ) from error


def _arrays(proto: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return initializers by name, and coefficients kept in nodes as ``node.attribute``."""
    arrays: dict[str, NDArray[Any]] = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer
    }
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.floats:
                name = f"{node.name or node.output[0]}.{attribute.name}"
                arrays[name] = np.asarray(attribute.floats, dtype=np.float32)
    return arrays


def _graph_digest(proto: onnx.ModelProto) -> str:
    """Digest what computes: nodes, inputs and outputs, without weights and names for people."""
    bare = onnx.ModelProto()
    bare.graph.CopyFrom(proto.graph)
    bare.functions.extend(proto.functions)
    bare.graph.ClearField("initializer")
    bare.graph.ClearField("doc_string")
    bare.graph.ClearField("name")
    bare.graph.ClearField("value_info")
    for node in bare.graph.node:
        node.ClearField("doc_string")
        for attribute in node.attribute:
            if attribute.floats:
                attribute.ClearField("floats")
    return blake3(bare.SerializeToString(deterministic=True)).hexdigest()


def _family(proto: onnx.ModelProto) -> str:
    """Name the operator that learns: the model's own, else the kinds of operators."""
    kinds = {node.op_type for node in proto.graph.node}
    learners = sorted(
        kind for kind in kinds if kind.endswith(("Classifier", "Regressor", "Ensemble"))
    )
    return f"onnx.{'+'.join(learners) or 'graph'}"


def _summary(proto: onnx.ModelProto) -> str:
    kinds = [node.op_type for node in proto.graph.node]
    shown = " → ".join(kinds[:_SUMMARY_LIMIT])
    return shown + (f" … {len(kinds) - _SUMMARY_LIMIT} more" if len(kinds) > _SUMMARY_LIMIT else "")


def _structure(proto: onnx.ModelProto, arrays: dict[str, NDArray[Any]]) -> Structure:
    layers = []
    tree_names = set()
    for index, node in enumerate(proto.graph.node):
        prefix = f"{node.name or node.output[0]}."
        own = [name for name in arrays if name in node.input or name.startswith(prefix)]
        count = sum(int(arrays[name].size) for name in own if arrays[name].dtype.kind == "f")
        layers.append(Layer(name=node.name or str(index), kind=node.op_type, parameter_count=count))
        if node.op_type.startswith("TreeEnsemble"):
            tree_names.update(own)
    tensors = tuple(
        Tensor(
            name=name,
            dtype=array.dtype.name,
            # How many nodes a tree has follows from the data, not from the architecture.
            shape=(ANY_SIZE,) if name in tree_names else tuple(array.shape),
        )
        for name, array in arrays.items()
    )
    return Structure(layers=tuple(layers), tensors=tensors)


def _signature(proto: onnx.ModelProto, interface: Sequence[str]) -> Signature:
    weights = {tensor.name for tensor in proto.graph.initializer}
    return Signature(
        inputs=tuple(_spec(value) for value in proto.graph.input if value.name not in weights),
        outputs=tuple(_spec(value) for value in proto.graph.output),
        methods=check_interface(interface, ("run",), "an ONNX model"),
    )


def _spec(value: onnx.ValueInfoProto) -> ValueSpec:
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "unknown"
        return ValueSpec(name=value.name, dtype=kind.removesuffix("_type"), shape=(ANY_SIZE,))
    tensor = value.type.tensor_type
    name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    return ValueSpec(
        name=value.name,
        dtype="str" if name == "object" else name,
        shape=tuple(
            dimension.dim_value if dimension.HasField("dim_value") else ANY_SIZE
            for dimension in tensor.shape.dim
        ),
    )


def _labels(proto: onnx.ModelProto) -> tuple[str, ...]:
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name in {"classlabels_int64s", "classlabels_ints"} and attribute.ints:
                return tuple(str(label) for label in attribute.ints)
            if attribute.name == "classlabels_strings" and attribute.strings:
                return tuple(label.decode("utf-8", "replace") for label in attribute.strings)
    return ()


def _scores(output: object) -> NDArray[np.floating] | None:
    """Return (n, k) scores from a tensor or from ZipMap's list of dictionaries."""
    if isinstance(output, list):
        return np.asarray([list(row.values()) for row in output], dtype=np.float64)
    array = np.asarray(output)
    return array.astype(np.float64) if array.ndim == _MATRIX else None


def _numpy_type(name: str) -> Any:
    """Return numpy's type for onnxruntime's ``tensor(float)``."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return {"float": np.float32, "double": np.float64, "string": np.object_}.get(inner, inner)


ADAPTER: Final[ModelAdapter] = OnnxAdapter()
