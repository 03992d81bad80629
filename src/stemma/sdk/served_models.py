"""Loaded models as the runtime asks them: scikit-learn, torch and ONNX.

Invariants:
    * ``predict`` answers what was recorded as the version's predictions: classes or raw values.
      For torch and ONNX it depends on the labels of the test set which; both are candidates,
      and the golden answer decides.
    * A model that was trained on a table is asked with a table when pandas is installed.
    * A pickle is never loaded.

No library is imported here: the adapters do.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from stemma.delivery.runtime.model import PREDICT, Inputs, ServedModel
from stemma.delivery.runtime.spec import ProcessSpec
from stemma.domain.component import ANY_SIZE, ValueSpec
from stemma.domain.errors import DeniedError, InvalidInputError
from stemma.sdk.adapters.base import LoadRequest, ModelAdapter
from stemma.sdk.adapters.registry import adapter_named

_METHOD_OF: Final = {"prediction": PREDICT, "probabilities": "predict_proba"}
_MATRIX: Final = 2
_CLASS_HINT: Final = np.zeros(0, dtype=np.int64)


def load_candidates(spec: ProcessSpec) -> list[ServedModel]:
    """Load the model; return the ways to ask it, the likeliest first.

    Raises:
        DeniedError: If it is a pickle, or needs code that is not trusted.
        IntegrityError: If its files are damaged.
        InvalidInputError: If nothing can load it here.
    """
    if spec.is_pickle:
        raise DeniedError(
            f"{spec.model} {spec.version} is a pickle: loading it runs whatever code is inside",
            code="pickle-not-loaded",
            hint="record it without unsafe_pickle=True",
        )
    if spec.loader == "file":
        raise InvalidInputError(
            f"{spec.model} {spec.version} was recorded as plain files: nothing here can ask it",
            code="cannot-serve-files",
            hint="record a scikit-learn estimator, a torch module or an ONNX model",
        )
    adapter = adapter_named(spec.loader)
    native = adapter.load(
        LoadRequest(
            folder=Path(spec.artifact_folder),
            files=spec.files,
            code_folder=Path(spec.code_folder)
            if spec.is_code_trusted and spec.code_folder
            else None,
            family=spec.family,
            entry_point=spec.entry_point,
        )
    )
    if spec.loader == "sklearn":
        return [SklearnModel(native, spec)]
    order = (True, False) if spec.task == "classification" else (False, True)
    if spec.loader == "onnx":
        return [OnnxModel(native, spec, is_class=is_class) for is_class in order]
    if isinstance(native, dict):
        raise DeniedError(
            f"{spec.model} {spec.version} holds tensors only: its class {spec.family} is in the "
            "code recorded with it, which is not trusted",
            code="code-not-trusted",
            hint=f"write trust_code = true under [model.{spec.model}.serve], if you trust it",
        )
    return [TorchModel(native, adapter, spec, is_class=is_class) for is_class in order]


class SklearnModel(ServedModel):
    """A scikit-learn estimator."""

    def __init__(self, native: Any, spec: ProcessSpec) -> None:
        """Ask ``native``."""
        self._native = native
        self._names = tuple(str(name) for name in getattr(native, "feature_names_in_", ()))
        self._pandas: Any = None
        if self._names and importlib.util.find_spec("pandas") is not None:
            self._pandas = importlib.import_module("pandas")
        declared = [name for name in _declared(spec) if hasattr(native, name)]
        self._methods = tuple(dict.fromkeys([PREDICT, *declared]))
        if not hasattr(native, PREDICT):
            self._methods = tuple(declared)
        self._outputs = spec.signature.outputs or tuple(
            ValueSpec(name=name, dtype="float64", shape=(ANY_SIZE,)) for name in declared
        )

    @property
    @override
    def methods(self) -> tuple[str, ...]:
        """``predict``, and what was declared."""
        return self._methods

    @property
    @override
    def outputs(self) -> tuple[ValueSpec, ...]:
        """Those of the signature; any method can be asked for by its name, too."""
        return self._outputs

    @override
    def answer(self, inputs: Inputs, method: str) -> NDArray[Any]:
        """Call the method."""
        return self._call(self._rows(inputs), method)

    @override
    def infer(self, inputs: Inputs, names: tuple[str, ...]) -> list[NDArray[Any]]:
        """Call the method behind each output."""
        rows = self._rows(inputs)
        return [self._call(rows, _METHOD_OF.get(name, name)) for name in names]

    def _call(self, rows: Any, method: str) -> NDArray[Any]:
        answer = getattr(self._native, method)(rows)
        return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)

    def _rows(self, inputs: Inputs) -> Any:
        if not self._names or len(inputs) != len(self._names):
            return next(iter(inputs.values()))
        if self._pandas is not None:
            return self._pandas.DataFrame(dict(inputs), copy=False)
        return np.column_stack(list(inputs.values()))


class TorchModel(ServedModel):
    """A torch module."""

    def __init__(
        self, native: Any, adapter: ModelAdapter, spec: ProcessSpec, *, is_class: bool
    ) -> None:
        """Ask ``native`` through its adapter; ``predict`` answers classes or raw values."""
        self._native = native
        self._adapter = adapter
        self._hint = _CLASS_HINT if is_class else None
        self._outputs = spec.signature.outputs or (
            ValueSpec(name="output", dtype="float32", shape=(ANY_SIZE, ANY_SIZE)),
        )
        self._shape = spec.signature.outputs[0].shape[1:] if spec.signature.outputs else ()

    @property
    @override
    def methods(self) -> tuple[str, ...]:
        """``predict`` and ``forward``."""
        return (PREDICT, "forward")

    @property
    @override
    def outputs(self) -> tuple[ValueSpec, ...]:
        """What ``forward`` answers."""
        return self._outputs

    @override
    def answer(self, inputs: Inputs, method: str) -> NDArray[Any]:
        """Answer classes or values (``predict``), or what the module does (``forward``)."""
        rows = next(iter(inputs.values()))
        if method == PREDICT:
            return self._adapter.answer(self._native, rows, self._hint).predictions
        raw = self._adapter.answer(self._native, rows, None).predictions
        return raw.reshape(len(raw), *self._shape) if self._shape else raw

    @override
    def infer(self, inputs: Inputs, names: tuple[str, ...]) -> list[NDArray[Any]]:
        """Return what ``forward`` answers, or another method by its name."""
        return [self.answer(inputs, name if name in self.methods else "forward") for name in names]


class OnnxModel(ServedModel):
    """An onnxruntime session."""

    def __init__(self, native: Any, spec: ProcessSpec, *, is_class: bool) -> None:
        """Ask ``native``; ``predict`` answers classes or raw values."""
        self._native = native
        self._has_labels = bool(spec.labels)
        self._is_class = is_class
        self._outputs = spec.signature.outputs
        self._dtypes: dict[str, Any] = {
            value.name: np.object_ if value.dtype == "str" else value.dtype
            for value in spec.signature.inputs
        }

    @property
    @override
    def methods(self) -> tuple[str, ...]:
        """``predict`` and ``run``, which is the first output as it is."""
        return (PREDICT, "run")

    @property
    @override
    def outputs(self) -> tuple[ValueSpec, ...]:
        """The graph's outputs."""
        return self._outputs

    @override
    def answer(self, inputs: Inputs, method: str) -> NDArray[Any]:
        """Answer classes or values (``predict``), or the first output (``run``)."""
        outputs = self._native.run(None, self._feeds(inputs))
        first = _plain(outputs[0])
        if method != PREDICT:
            return first
        if self._has_labels and len(outputs) > 1:
            return first.reshape(len(first))
        if self._is_class and first.ndim == _MATRIX and first.shape[1] > 1:
            return np.asarray(first.argmax(axis=1))
        return first[:, 0] if first.shape[1:] == (1,) else first

    @override
    def infer(self, inputs: Inputs, names: tuple[str, ...]) -> list[NDArray[Any]]:
        """Run the graph once for the outputs asked for."""
        own = [name for name in names if name not in self.methods]
        found = dict(
            zip(own, self._native.run(own, self._feeds(inputs)) if own else [], strict=True)
        )
        return [
            _plain(found[name]) if name in found else self.answer(inputs, name) for name in names
        ]

    def _feeds(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        return {
            name: array.astype(self._dtypes[name], copy=False) for name, array in inputs.items()
        }


def _declared(spec: ProcessSpec) -> tuple[str, ...]:
    return spec.methods or spec.signature.methods


def _plain(output: Any) -> NDArray[Any]:
    """Return an output as an array; a list of scores by class (ZipMap) as a matrix."""
    if isinstance(output, list) and output and isinstance(output[0], dict):
        return np.asarray([list(row.values()) for row in output])
    return np.asarray(output)
