"""scikit-learn estimators and pipelines: read, asked, saved with skops, loaded with checked types.

Invariants:
    * Never a pickle unless the caller says ``unsafe_pickle=True``; a pickle is never loaded.
    * ``parameter_count`` counts learned values only: floating arrays (and scalar intercepts) in
      public fitted attributes of the final estimator, and the nodes and leaf values of trees.
      Statistics of scalers, class weights, training curves and memorised rows of
      nearest neighbours are not counted.
      So logistic regression on 64 features and 10 classes has 650 parameters.
    * A loaded tree's nodes lead forward and stay inside the tree.
    * Loading constructs classes of scikit-learn, numpy and scipy only; any other type must be
      named in ``trust``.

Example:
    >>> ADAPTER.accepts(make_pipeline(StandardScaler(), SVC()))  # doctest: +SKIP
    True
"""

from __future__ import annotations

import importlib
import pickle
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor  # type: ignore[import-untyped]

from stemma.catalog.capture.base import CapturedModel
from stemma.domain.component import ANY_SIZE, Signature, ValueSpec
from stemma.domain.errors import DeniedError, IntegrityError, InvalidInputError
from stemma.domain.facts import Layer, Structure, Tensor
from stemma.sdk.adapters.arrays import as_table
from stemma.sdk.adapters.base import (
    PICKLE_NAME,
    Answers,
    CaptureRequest,
    LoadRequest,
    ModelAdapter,
    array_digest,
    check_interface,
    class_path,
    defining_source,
)
from stemma.sdk.adapters.bridges import without_bridges
from stemma.sdk.adapters.state import (
    State,
    constructor_defaults,
    holds_estimators,
    is_estimator,
    is_same_value,
    is_sound_tree,
    own_params,
    read_estimator,
)

with without_bridges():
    import skops.io  # type: ignore[import-untyped]
    from skops.io.exceptions import (  # type: ignore[import-untyped]
        UnsupportedTypeException,
        UntrustedTypesFoundException,
    )

FILE_NAME: Final = "model.skops"
_METHODS: Final = (
    "predict",
    "predict_proba",
    "decision_function",
    "transform",
    "score_samples",
)
_TRUSTED_ROOTS: Final = frozenset({"sklearn", "numpy", "scipy"})


class SklearnAdapter:
    """Reads scikit-learn estimators."""

    loader: Final = "sklearn"

    def accepts(self, model: object) -> bool:
        """Say whether ``model`` is an estimator."""
        return is_estimator(model)

    def capture(self, request: CaptureRequest) -> CapturedModel:
        """Read a fitted estimator and save it with skops.

        Raises:
            InvalidInputError: If it is not fitted, or holds what skops cannot save.
        """
        model: Any = request.model
        state = State()
        path = "" if hasattr(model, "steps") else type(model).__name__.lower()
        read_estimator(state, model, path, is_learned=True)
        file = _save(model, request)
        passed, defaulted = _hyperparameters(model)
        sources, modules = defining_source(sorted(state.kinds, key=str), request.sources)
        methods = [name for name in _METHODS if hasattr(model, name)]
        family = _family(model)
        return CapturedModel(
            files={file.name: file},
            covered_files=(file.name,),
            loader=self.loader,
            family=family,
            summary=_summary(model),
            parameter_count=sum(state.counts.values()),
            structure=_structure(model, state),
            signature=_signature(model, request, methods),
            labels=_labels(model),
            tensors={name: array_digest(array) for name, array in state.tensors.items()},
            configuration=state.configuration,
            passed=passed,
            defaulted=defaulted,
            defining_source=sources,
            defining_modules=modules,
            is_pickle=file.name == PICKLE_NAME,
        )

    def answer(self, model: Any, inputs: object, labels: NDArray[np.generic] | None) -> Answers:
        """Predict, with ``predict_proba`` as scores where there is one.

        Raises:
            InvalidInputError: If the model has no ``predict``.
        """
        del labels  # an estimator knows its own task
        if not hasattr(model, "predict"):
            raise InvalidInputError(
                f"{type(model).__name__} has no predict, so it cannot be tested",
                code="no-predict",
                hint="run.model(model) without test, or give predict=...",
            )
        task = "regression" if is_regressor(model) else ""
        if is_classifier(model):
            task = "classification"
        scores = None
        if hasattr(model, "predict_proba") and _labels(model):
            scores = np.asarray(model.predict_proba(inputs), dtype=np.float64)
        return Answers(
            predictions=np.asarray(model.predict(inputs)),
            scores=scores,
            classes=_labels(model),
            task=task,
        )

    def load(self, request: LoadRequest) -> object:
        """Load the estimator after checking every type it holds.

        Raises:
            DeniedError: If it is a pickle, or holds a type that is not trusted.
            IntegrityError: If the file is no skops container.
        """
        if FILE_NAME not in request.files:
            raise DeniedError(
                "this version is a pickle: loading it runs whatever code is inside",
                code="pickle-not-loaded",
                hint="stemma.get(ref).path() gives the file, if you trust who made it",
            )
        file = request.folder / FILE_NAME
        try:
            found = skops.io.get_untrusted_types(file=file)
            trusted = [name for name in found if _is_library_class(name)]
            untrusted = sorted(set(found) - set(trusted) - set(request.trust))
            if untrusted:
                raise DeniedError(
                    f"{FILE_NAME} holds types that are not scikit-learn's: {', '.join(untrusted)}",
                    code="untrusted-type",
                    hint=f"stemma.load(ref, trust={untrusted!r}) if they are yours",
                )
            model = skops.io.load(file, trusted=[*trusted, *request.trust])
        except (ImportError, AttributeError, UntrustedTypesFoundException) as error:
            raise InvalidInputError(
                f"{FILE_NAME} cannot be loaded here: {error}",
                code="type-missing",
                hint="make the classes it names importable, then load again",
            ) from error
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise IntegrityError(
                f"{FILE_NAME} cannot be read: {error}", code="bad-artifact", hint="stemma doctor"
            ) from error
        _check_trees(model)
        return model


def _check_trees(model: object) -> None:
    """Refuse trees that lead outside of themselves or round in circles.

    scikit-learn follows node indices without looking: a crafted file would read foreign memory.
    Real trees are stored parents first.
    """
    state = State()
    read_estimator(state, model, "", is_learned=False)
    unsound = [
        name
        for name, nodes in state.tensors.items()
        if nodes.dtype.names is not None and not is_sound_tree(nodes, state.width_at(name))
    ]
    if unsound:
        raise IntegrityError(
            f"{FILE_NAME} holds a tree that leads outside of itself: {unsound[0]}",
            code="bad-tree",
            hint="do not use this model; ask who made it",
        )


def _save(model: object, request: CaptureRequest) -> Path:
    if request.is_pickle_allowed:
        file = request.folder / PICKLE_NAME
        file.write_bytes(pickle.dumps(model, protocol=5))
        return file
    file = request.folder / FILE_NAME
    try:
        _dump(model, file)
    except (UnsupportedTypeException, TypeError, AttributeError, pickle.PicklingError) as error:
        raise InvalidInputError(
            f"{type(model).__name__} cannot be saved without pickle: {error}",
            code="not-saveable",
            hint="run.model(model, unsafe_pickle=True) saves it all the same",
        ) from error
    return file


def _dump(model: object, file: Path) -> None:
    skops.io.dump(model, file)
    nameless = [name for name in skops.io.get_untrusted_types(file=file) if "<" in name]
    if nameless:
        # A lambda or a local class is saved by a name that nothing can be found under.
        raise UnsupportedTypeException(f"{', '.join(nameless)} cannot be found again by name")


def _is_library_class(name: str) -> bool:
    """Say whether a type name is a class (never a function) of scikit-learn, numpy or scipy."""
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] not in _TRUSTED_ROOTS:
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type)


def _final(model: Any) -> Any:
    while hasattr(model, "steps") and model.steps:
        last = model.steps[-1][1]
        if not is_estimator(last):
            break
        model = last
    return model


def _family(model: object) -> str:
    final = _final(model)
    inner = [
        _family(part)
        for _, value in sorted(own_params(final).items())
        if holds_estimators(value) and not hasattr(final, "steps")
        for part in _estimators_in(value)
    ]
    path = class_path(type(final))
    return f"{path}({', '.join(inner)})" if inner else path


def _estimators_in(value: object) -> list[object]:
    if is_estimator(value):
        return [value]
    if isinstance(value, list | tuple):
        return [found for item in value for found in _estimators_in(item)]
    return []


def _summary(model: Any) -> str:
    if hasattr(model, "steps"):
        parts = [_summary(step) for _, step in model.steps if is_estimator(step)]
        return " → ".join(parts)
    name = type(model).__name__
    hidden = getattr(model, "hidden_layer_sizes", None)
    if hidden is not None:
        sizes = tuple(np.atleast_1d(hidden).tolist())
        return f"{name}{sizes}"
    inner = [
        _summary(part) for value in own_params(model).values() for part in _estimators_in(value)
    ]
    return f"{name}({', '.join(inner)})" if inner else name


def _steps(model: Any) -> list[tuple[str, Any]]:
    if not hasattr(model, "steps"):
        return [(type(model).__name__.lower(), model)]
    found: list[tuple[str, Any]] = []
    for name, step in model.steps:
        inner = _steps(step) if hasattr(step, "steps") else [("", step)]
        found += [(f"{name}.{part}".rstrip("."), value) for part, value in inner]
    return found


def _structure(model: object, state: State) -> Structure:
    layers = tuple(
        Layer(
            name=name,
            kind=type(step).__name__,
            parameter_count=sum(
                count for path, count in state.counts.items() if path.startswith(f"{name}.")
            ),
        )
        for name, step in _steps(model)
    )
    tensors = tuple(
        Tensor(name=name, dtype=_dtype_name(array), shape=state.shapes[name])
        for name, array in state.tensors.items()
    )
    return Structure(layers=layers, tensors=tensors)


def _dtype_name(array: NDArray[np.generic]) -> str:
    return "struct" if array.dtype.names is not None else array.dtype.name


def _labels(model: object) -> tuple[str, ...]:
    # A property of pipelines and searches; it raises AttributeError when there are none.
    classes = getattr(model, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        return ()
    return tuple(str(label) for label in classes.tolist())


def _signature(model: Any, request: CaptureRequest, methods: Sequence[str]) -> Signature:
    declared = check_interface(request.interface, methods, type(model).__name__)
    outputs = []
    if "predict" in declared:
        outputs.append(_prediction_spec(model))
    if "predict_proba" in declared and _labels(model):
        outputs.append(
            ValueSpec(name="probabilities", dtype="float64", shape=(ANY_SIZE, len(_labels(model))))
        )
    return Signature(
        inputs=_inputs(model, request.sample), outputs=tuple(outputs), methods=declared
    )


def _prediction_spec(model: object) -> ValueSpec:
    classes = getattr(model, "classes_", None)
    if isinstance(classes, np.ndarray):
        dtype = "str" if classes.dtype.kind in "OUS" else classes.dtype.name
        return ValueSpec(name="prediction", dtype=dtype, shape=(ANY_SIZE,))
    coefficients = getattr(_final(model), "coef_", None)
    is_multiple = isinstance(coefficients, np.ndarray) and coefficients.ndim > 1
    targets = coefficients.shape[:1] if is_multiple and coefficients is not None else ()
    return ValueSpec(name="prediction", dtype="float64", shape=(ANY_SIZE, *targets))


def _inputs(model: object, sample: object) -> tuple[ValueSpec, ...]:
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        dtypes = {} if sample is None else as_table(sample).column_dtypes
        return tuple(
            ValueSpec(name=str(name), dtype=dtypes.get(str(name), "float64"), shape=(ANY_SIZE,))
            for name in names
        )
    width = getattr(model, "n_features_in_", None)
    if isinstance(width, int | np.integer):
        # scikit-learn converts any numeric input to float64 itself.
        return (ValueSpec(name="X", dtype="float64", shape=(ANY_SIZE, int(width))),)
    return (ValueSpec(name="X", dtype="str", shape=(ANY_SIZE,)),)


def _hyperparameters(model: Any) -> tuple[dict[str, object], dict[str, object]]:
    """Split every constructor argument, nested ones too, into passed and defaulted.

    An argument counts as passed when it differs from its default. It has its short name unless
    two estimators own one of that name.
    """
    found: list[tuple[str, str, object, bool]] = []
    for prefix, estimator in _owners(model):
        defaults = constructor_defaults(estimator)
        for name, value in sorted(own_params(estimator).items()):
            if holds_estimators(value) and not is_estimator(value):
                continue
            is_default = name in defaults and is_same_value(value, defaults[name])
            found.append((prefix, name, _shown(value), is_default))
    owners = Counter(name for _, name, _, _ in found)
    passed: dict[str, object] = {}
    defaulted: dict[str, object] = {}
    for prefix, name, value, is_default in found:
        key = name if owners[name] == 1 else f"{prefix}{name}"
        (defaulted if is_default else passed)[key] = value
    return passed, defaulted


def _owners(model: Any) -> list[tuple[str, object]]:
    nested: Mapping[str, object] = model.get_params(deep=True)
    inside = [(f"{name}__", value) for name, value in nested.items() if is_estimator(value)]
    return [("", model), *sorted(inside, key=lambda item: item[0])]


def _shown(value: object) -> object:
    """Write what JSON cannot say by its name."""
    if is_estimator(value) or isinstance(value, np.random.RandomState | np.random.Generator):
        return class_path(type(value))
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return f"array {value.dtype.name} {value.shape} {array_digest(value)[:16]}"
    return value


ADAPTER: Final[ModelAdapter] = SklearnAdapter()
