"""torch modules: state in safetensors, layers in the record, never a pickle by default.

Invariants:
    * Shared tensors are stored once; the second name is an alias in the file's metadata.
    * A module's mode (train or eval) and its device are as before after it was asked.
    * The configuration holds ``repr(module)``, so ReLU and GELU differ although no tensor does.
    * Code is imported from a version only when the caller says ``trust_code=True``.

Only a module's state is restored into a module of the caller's; a version holds no object graph.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from stemma.catalog.capture.base import CapturedModel
from stemma.domain.component import ANY_SIZE, Signature, ValueSpec
from stemma.domain.errors import DeniedError, IntegrityError, InvalidInputError
from stemma.domain.facts import Layer, Structure, Tensor
from stemma.sdk.adapters.base import (
    PICKLE_NAME,
    Answers,
    CaptureRequest,
    LoadRequest,
    ModelAdapter,
    check_interface,
    class_path,
    defining_source,
)
from stemma.sdk.adapters.own_code import make_object
from stemma.store.formats.safetensors import ALIAS_PREFIX

# torch is no part of the locked environment (its wheel differs per platform), so the type
# checker must not need it.
torch: Any = importlib.import_module("torch")
safetensors_torch: Any = importlib.import_module("safetensors.torch")

FILE_NAME: Final = "model.safetensors"
_BATCH_ROWS: Final = 1_024
_SUMMARY_LIMIT: Final = 6
_MATRIX: Final = 2


class TensorState(dict[str, Any]):
    """Tensors by name, when no module was given to put them into.

    Attributes:
        version: Number of the version they come from.
    """

    version: str = ""


class TorchAdapter:
    """Reads ``torch.nn.Module`` objects."""

    loader: Final = "torch"

    def accepts(self, model: object) -> bool:
        """Say whether ``model`` is a module."""
        return isinstance(model, torch.nn.Module)

    def capture(self, request: CaptureRequest) -> CapturedModel:
        """Read a module's state, layers and source, and save the state as safetensors.

        Raises:
            InvalidInputError: If its state holds something that is no tensor.
        """
        model: Any = request.model
        state = _state_of(model)
        file = request.folder / (PICKLE_NAME if request.is_pickle_allowed else FILE_NAME)
        if request.is_pickle_allowed:
            torch.save(model, file)
        else:
            _save(state, str(file))
        passed, defaulted = _optimizer_arguments(request.optimizer)
        sources, modules = defining_source(
            {type(module) for module in model.modules()}, request.sources
        )
        return CapturedModel(
            files={file.name: file},
            covered_files=(file.name,),
            loader=self.loader,
            family=class_path(type(model)),
            summary=_summary(model),
            parameter_count=sum(parameter.numel() for parameter in model.parameters()),
            structure=_structure(model, state),
            signature=_signature(model, request),
            tensors={name: _digest(tensor) for name, tensor in state.items()},
            configuration={"modules": repr(model), "class": class_path(type(model))},
            passed=passed,
            defaulted=defaulted,
            defining_source=sources,
            defining_modules=modules,
            is_pickle=request.is_pickle_allowed,
        )

    def answer(self, model: Any, inputs: object, labels: NDArray[np.generic] | None) -> Answers:
        """Run the module in batches; logits become classes when the labels are integers.

        Raises:
            InvalidInputError: If the module answers with something that is no tensor.
        """
        outputs = _forward(model, inputs)
        if labels is None or labels.dtype.kind not in "iub":
            predictions = outputs[:, 0] if outputs.shape[1:] == (1,) else outputs
            return Answers(predictions=predictions)
        is_probability = _ends_in(model, ("Sigmoid", "Softmax"))
        if outputs.ndim == 1 or outputs.shape[1:] == (1,):
            threshold = 0.5 if is_probability else 0.0
            return Answers(
                predictions=(outputs.reshape(-1) > threshold).astype(np.int64),
                task="classification",
            )
        if outputs.ndim != _MATRIX:
            return Answers(predictions=outputs, task="other")
        scores = outputs if is_probability else _softmax(outputs)
        return Answers(
            predictions=outputs.argmax(axis=1),
            scores=scores,
            classes=tuple(str(index) for index in range(outputs.shape[1])),
            task="classification",
        )

    def load(self, request: LoadRequest) -> object:
        """Return ``into`` with the state in it, a module made from trusted code, or the tensors.

        Raises:
            DeniedError: If it is a pickle.
            IntegrityError: If the file is no safetensors file.
            InvalidInputError: If the state does not fit ``into``.
        """
        if FILE_NAME not in request.files:
            raise DeniedError(
                "this version is a pickle: loading it runs whatever code is inside",
                code="pickle-not-loaded",
                hint="stemma.get(ref).path() gives the file, if you trust who made it",
            )
        state = _read(str(request.folder / FILE_NAME))
        module: Any = request.into
        if module is None and request.code_folder is not None:
            module = make_object(request.family, request.code_folder, request.entry_point)
        if module is None:
            return TensorState(state)
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise InvalidInputError(
                f"the version's tensors do not fit {type(module).__name__}: {error}",
                code="state-does-not-fit",
                hint="make the module with the same layers as stemma show REF lists",
            ) from error
        return module


def _state_of(model: Any) -> dict[str, Any]:
    state = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            raise InvalidInputError(
                f"{name} in the module's state is a {type(tensor).__name__}, not a tensor",
                code="not-a-tensor",
                hint="keep it as a buffer, or use unsafe_pickle=True",
            )
        state[name] = tensor.detach()
    return state


def _save(state: Mapping[str, Any], path: str) -> None:
    kept: dict[tuple[object, ...], str] = {}
    metadata = {"format": "pt"}
    tensors = {}
    for name, tensor in state.items():
        view = (str(tensor.device), tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and view in kept:
            metadata[f"{ALIAS_PREFIX}{name}"] = kept[view]
            continue
        kept[view] = name
        # A copy: safetensors refuses tensors that overlap in memory.
        tensors[name] = tensor.cpu().contiguous().clone()
    safetensors_torch.save_file(tensors, path, metadata=metadata)


def _read(path: str) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise IntegrityError(
            f"{FILE_NAME} cannot be read: {error}", code="bad-artifact", hint="stemma doctor"
        ) from error
    for key, target in metadata.items():
        if key.startswith(ALIAS_PREFIX):
            state[key.removeprefix(ALIAS_PREFIX)] = state[target]
    return state


def _dtype_name(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _digest(tensor: Any) -> str:
    plain = tensor.cpu().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return blake3(data).hexdigest()


def _structure(model: Any, state: Mapping[str, Any]) -> Structure:
    layers = tuple(
        Layer(
            name=name,
            kind=type(module).__name__,
            parameter_count=sum(p.numel() for p in module.parameters(recurse=False)),
        )
        for name, module in model.named_modules()
        if name
    )
    tensors = tuple(
        Tensor(name=name, dtype=_dtype_name(tensor), shape=tuple(tensor.shape))
        for name, tensor in state.items()
    )
    return Structure(layers=layers, tensors=tensors)


def _leaves(model: Any) -> list[Any]:
    return [module for module in model.modules() if not list(module.children())]


def _summary(model: Any) -> str:
    kinds = [type(module).__name__ for module in _leaves(model)]
    shown = " → ".join(kinds[:_SUMMARY_LIMIT])
    if len(kinds) > _SUMMARY_LIMIT:
        shown += f" … {len(kinds) - _SUMMARY_LIMIT} more"
    name = type(model).__name__
    return shown if kinds == [name] else f"{name}({shown})"


def _ends_in(model: Any, kinds: Sequence[str]) -> bool:
    leaves = _leaves(model)
    return bool(leaves) and type(leaves[-1]).__name__ in kinds


def _signature(model: Any, request: CaptureRequest) -> Signature:
    methods = check_interface(request.interface, ("forward",), type(model).__name__)
    if request.sample is None:
        return Signature(methods=methods)
    first = _as_tensor(model, request.sample[:1])  # type: ignore[index]
    outputs = _forward(model, first)
    names = [name for name in inspect.signature(model.forward).parameters if name != "self"]
    return Signature(
        inputs=(
            ValueSpec(
                name=names[0] if names else "input",
                dtype=_dtype_name(first),
                shape=(ANY_SIZE, *first.shape[1:]),
            ),
        ),
        outputs=(
            ValueSpec(
                name="output", dtype=outputs.dtype.name, shape=(ANY_SIZE, *outputs.shape[1:])
            ),
        ),
        methods=methods,
    )


def _as_tensor(model: Any, inputs: Any) -> Any:
    """Return the inputs on the module's device, floats in the module's dtype."""
    tensor = inputs if isinstance(inputs, torch.Tensor) else torch.as_tensor(np.asarray(inputs))
    reference = next(model.parameters(), None)
    if reference is None:
        return tensor
    if tensor.is_floating_point():
        return tensor.to(device=reference.device, dtype=reference.dtype)
    return tensor.to(device=reference.device)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Switch to eval mode and back, module by module: parts may be frozen in eval on purpose."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _forward(model: Any, inputs: object) -> NDArray[Any]:
    tensor = _as_tensor(model, inputs)
    parts = []
    with _evaluating(model):
        for start in range(0, len(tensor), _BATCH_ROWS):
            output = model(tensor[start : start + _BATCH_ROWS])
            if not isinstance(output, torch.Tensor):
                raise InvalidInputError(
                    f"{type(model).__name__} answers with a {type(output).__name__}, not a tensor",
                    code="not-a-tensor",
                    hint="run.model(model, test=(X, y), predict=lambda X: …) says how to ask it",
                )
            plain = output.cpu()
            parts.append((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy())
    return np.concatenate(parts)


def _softmax(logits: NDArray[Any]) -> NDArray[np.floating]:
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def _optimizer_arguments(optimizer: Any) -> tuple[dict[str, object], dict[str, object]]:
    """Split an optimizer's arguments into those that differ from its class's defaults and not."""
    if optimizer is None:
        return {}, {}
    kind = type(optimizer)
    parameters = inspect.signature(kind.__init__).parameters
    passed: dict[str, object] = {"optimizer": class_path(kind)}
    defaulted: dict[str, object] = {}
    for name, value in optimizer.defaults.items():
        is_default = name in parameters and parameters[name].default == value
        (defaulted if is_default else passed)[name] = value
    return passed, defaulted


ADAPTER: Final[ModelAdapter] = TorchAdapter()
