"""Reads the fitted state of a scikit-learn object into named arrays and plain values.

Invariants:
    * Everything that decides an answer is in ``tensors`` or ``configuration``; what only
      describes the training (loss curves, timings, random generators) is in neither.
    * Reading calls no method that computes; extension types are read through their own
      state as pickling would see it, and nothing is ever unpickled.
    * Equal models give equal readings: dictionaries are sorted, padding is not read.

This module does not know pipelines' names for people; see ``stemma.sdk.adapters.sklearn``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stemma.domain.component import ANY_SIZE
from stemma.sdk.adapters.base import array_digest, class_path

_DEPTH_LIMIT: Final = 40
_INLINE_LIMIT: Final = 16

_TRAINING_ONLY: Final = frozenset(
    {
        # curves, scores and timings
        "loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_",
        "train_score_", "validation_score_", "oob_improvement_", "oob_score_", "oob_scores_",
        "oob_decision_function_", "oob_prediction_", "cv_results_", "cv_results", "refit_time_",
        "best_score_", "best_index_", "best_params_", "scorer_", "_scorer", "n_splits_",
        "multimetric_", "scores_", "coefs_paths_", "mse_path_", "dual_gap_", "inertia_",
        # counters and solver state
        "n_iter_", "_num_iter", "t_", "_no_improvement_count", "_optimizer", "fit_status_",
        "_best_coefs", "_best_intercepts", "n_samples_seen_", "_n_samples",
        "_n_samples_bootstrap", "_sample_weight", "n_samples_fit_", "shape_fit_",
        "estimators_samples_", "_estimators_indices",
        # random generators
        "_random_state", "_rng", "_random_seed", "_feature_subsample_rng", "_seeds",
        # read elsewhere (signature) or derived from what is read
        "n_features_in_", "feature_names_in_", "_n_features", "_tree", "estimator_",
        "_estimator", "version", "n_threads", "solver_", "_checked_cv_orig",
    }
)  # fmt: skip
"""Attributes that do not decide an answer."""

_NOT_BEHAVIOUR: Final = frozenset({"verbose", "n_jobs", "random_state", "memory", "copy_X", "copy"})
"""Constructor arguments that decide no answer of the fitted model."""

_DATA_SIZED: Final[Mapping[str, tuple[int, ...]]] = {
    "support_vectors_": (0,),
    "dual_coef_": (1,),
    "nodes": (0,),
    "values": (0,),
    "_fit_X": (0,),
    "X_fit_": (0,),
    "X_train_": (0,),
    "y_train_": (0,),
    "alpha_": (0,),
    "L_": (0, 1),
    "bin_thresholds_": (0,),
    "X_thresholds_": (0,),
    "y_thresholds_": (0,),
}
"""Dimensions whose size follows from the training data, not from the architecture."""

_SCALAR_PARAMETERS: Final = frozenset({"intercept_", "offset_"})
_LEARNED_PRIVATE: Final = frozenset({"_predictors", "_baseline_prediction"})
_NOT_LEARNED: Final = frozenset({"init_", "class_weight_", "class_prior_", "alphas_", "Cs_"})
_NEVER_TENSORS: Final = frozenset({"classes_", "class_weight_"})


@dataclass(slots=True)
class State:
    """The reading so far.

    Attributes:
        tensors: Floating and structured arrays by dotted name.
        shapes: Their shapes, ``-1`` where the training data decides the size.
        configuration: Plain values and digests by dotted name.
        counts: Learned values by dotted name of the tensor.
        kinds: Classes and functions met, for the user's own source.
        widths: Number of input features by dotted name of the estimator.
    """

    tensors: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    configuration: dict[str, object] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    kinds: set[object] = field(default_factory=set)
    widths: dict[str, int] = field(default_factory=dict)

    def width_at(self, name: str) -> int:
        """Return how many features the innermost estimator around ``name`` sees; 0: unknown."""
        around = [path for path in self.widths if not path or name.startswith(f"{path}.")]
        return self.widths[max(around, key=len)] if around else 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the reading stands: dotted path, depth, and whether values here are learned."""

    path: str
    depth: int = 0
    is_learned: bool = False

    def at(self, name: object, *, is_learned: bool | None = None) -> _Place:
        path = f"{self.path}.{name}" if self.path else str(name)
        learned = self.is_learned if is_learned is None else is_learned
        return _Place(path, self.depth + 1, learned)

    @property
    def leaf(self) -> str:
        """The last name that is no index."""
        names = [part for part in self.path.split(".") if not part.isdigit()]
        return names[-1] if names else ""


def is_estimator(value: object) -> bool:
    """Say whether ``value`` is an estimator (not a class)."""
    return hasattr(value, "get_params") and hasattr(value, "fit") and not isinstance(value, type)


def constructor_defaults(estimator: object) -> dict[str, object]:
    """Return the defaults of an estimator's constructor; required arguments are left out."""
    parameters = inspect.signature(type(estimator).__init__).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def is_same_value(first: object, second: object) -> bool:
    """Say whether two constructor arguments are the same, NaN and arrays included."""
    if first is second:
        return True
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return np.array_equal(np.asarray(first), np.asarray(second))
    if type(first) is not type(second):
        return False
    return bool(first == second) or (first != first and second != second)  # noqa: PLR0124 - NaN


def own_params(estimator: object) -> dict[str, object]:
    """Return an estimator's own constructor arguments, not those of nested ones."""
    return dict(estimator.get_params(deep=False))  # type: ignore[attr-defined]


def is_sound_tree(nodes: NDArray[Any], width: int) -> bool:
    """Say whether every child of a tree's nodes comes after its parent, inside the array.

    Args:
        nodes: (n,) records of a ``Tree`` or a ``TreePredictor``.
        width: Number of features its estimator sees.
    """
    names = nodes.dtype.names or ()
    if "left_child" in names:
        children = [nodes["left_child"], nodes["right_child"]]
        is_leaf = nodes["left_child"] == -1
        features = nodes["feature"]
    elif "left" in names:
        children = [nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)]
        is_leaf = nodes["is_leaf"].astype(bool)
        features = nodes["feature_idx"]
    else:
        return True
    index = np.arange(len(nodes))
    is_inside = [(child > index) & (child < len(nodes)) for child in children]
    is_sound = is_leaf | (is_inside[0] & is_inside[1] & (features >= 0) & (features < width))
    return bool(len(nodes) and is_sound.all())


def holds_estimators(value: object) -> bool:
    """Say whether an argument is an estimator or a list of (named) estimators."""
    if isinstance(value, list | tuple):
        return any(
            is_estimator(item)
            or (isinstance(item, list | tuple) and any(is_estimator(part) for part in item))
            for item in value
        )
    return is_estimator(value)


def read_estimator(state: State, estimator: object, path: str, *, is_learned: bool) -> None:
    """Read one estimator with everything fitted inside it."""
    _read_estimator(state, estimator, _Place(path, is_learned=is_learned))


def _read_estimator(state: State, estimator: object, place: _Place) -> None:
    state.kinds.add(type(estimator))
    state.configuration[f"{place.path}:class"] = class_path(type(estimator))
    width = getattr(estimator, "n_features_in_", None)
    if isinstance(width, int | np.integer):
        state.widths[place.path] = int(width)
    params = own_params(estimator)
    defaults = constructor_defaults(estimator)
    for name, value in sorted(params.items()):
        is_default = name in defaults and is_same_value(value, defaults[name])
        if name not in _NOT_BEHAVIOUR and not is_default and not holds_estimators(value):
            _read(state, value, place.at(name, is_learned=False))
    if hasattr(estimator, "steps"):
        steps = list(estimator.steps)
        for index, (name, step) in enumerate(steps):
            is_last = index == len(steps) - 1
            _read(state, step, place.at(name, is_learned=place.is_learned and is_last))
        return
    fitted = {name: value for name, value in vars(estimator).items() if name not in params}
    for name, value in sorted(fitted.items()):
        is_twin = name.startswith("_") and name[1:] in fitted
        if name not in _TRAINING_ONLY and not is_twin:
            is_public = name.endswith("_") and not name.startswith("_")
            is_candidate = (is_public or name in _LEARNED_PRIVATE) and name not in _NOT_LEARNED
            _read(state, value, place.at(name, is_learned=place.is_learned and is_candidate))


def _read(state: State, value: object, place: _Place) -> None:
    if place.depth > _DEPTH_LIMIT:
        return
    match value:
        case None | bool() | int() | str() | float() | np.generic():
            _read_scalar(state, value, place)
        case np.ndarray():
            _read_array(state, value, place)
        case np.random.RandomState() | np.random.Generator():
            pass
        case Mapping():
            _read_mapping(state, value, place)
        case list() | tuple():
            _read_sequence(state, value, place)
        case type():
            state.configuration[place.path] = class_path(value)
        case _ if is_estimator(value):
            _read_estimator(state, value, place)
        case _:
            _read_object(state, value, place)


def _read_scalar(state: State, value: object, place: _Place) -> None:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float):
        if place.leaf in _SCALAR_PARAMETERS:
            _keep(state, np.asarray(plain), place)
        else:
            state.configuration[place.path] = repr(plain)
    elif isinstance(plain, bool | int | str) or plain is None:
        state.configuration[place.path] = plain
    else:
        state.configuration[place.path] = str(plain)


def _read_array(state: State, array: NDArray[np.generic], place: _Place) -> None:
    if array.dtype.kind == "O" and not all(isinstance(x, str | None) for x in array.ravel()):
        for index, item in enumerate(array.ravel().tolist()):
            _read(state, item, place.at(index))
    elif array.dtype.kind in "fcV" and array.size and place.leaf not in _NEVER_TENSORS:
        _keep(state, array, place)
    else:
        state.configuration[place.path] = f"{array.dtype.name} {array.shape} {array_digest(array)}"


def _keep(state: State, array: NDArray[np.generic], place: _Place) -> None:
    state.tensors[place.path] = array
    free = _DATA_SIZED.get(place.leaf, ())
    state.shapes[place.path] = tuple(
        ANY_SIZE if axis in free else size for axis, size in enumerate(array.shape)
    )
    if place.is_learned:
        state.counts[place.path] = int(array.size)


def _read_mapping(state: State, mapping: Mapping[object, object], place: _Place) -> None:
    if len(mapping) > _INLINE_LIMIT and all(
        isinstance(item, str | int | float | np.generic) for item in mapping.values()
    ):
        pairs = sorted((str(key), repr(_plain(item))) for key, item in mapping.items())
        state.configuration[place.path] = array_digest(np.asarray(pairs))
        return
    for key in sorted(mapping, key=str):
        _read(state, mapping[key], place.at(key))


def _read_sequence(state: State, items: list[object] | tuple[object, ...], place: _Place) -> None:
    if all(isinstance(item, str | int | float | None | np.generic) for item in items):
        plain = [_plain(item) for item in items]
        text = [repr(item) if isinstance(item, float) else item for item in plain]
        state.configuration[place.path] = (
            text if len(text) <= _INLINE_LIMIT else array_digest(np.asarray(list(map(repr, plain))))
        )
        return
    for index, item in enumerate(items):
        if isinstance(item, tuple) and holds_estimators(item) and isinstance(item[0], str):
            # ``(name, estimator)`` or ``(name, transformer, columns)``: named, not numbered.
            _read(state, item[1], place.at(item[0]))
            _read(state, item[2:], place.at(f"{item[0]}:rest"))
        else:
            _read(state, item, place.at(index))


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _read_object(state: State, value: object, place: _Place) -> None:
    """Read a helper object: a tree, a loss, a function, a sparse matrix."""
    if inspect.isroutine(value) or isinstance(value, np.ufunc):
        state.kinds.add(value)
        module = getattr(value, "__module__", None) or ""
        name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
        state.configuration[place.path] = f"{module}.{name}"
        return
    state.configuration[f"{place.path}:class"] = class_path(type(value))
    state.kinds.add(type(value))
    if isinstance(value, slice | range | np.dtype):
        state.configuration[place.path] = str(value)
        return
    attributes = getattr(value, "__dict__", None)
    if attributes:
        _read_mapping(
            state, {k: v for k, v in attributes.items() if k not in _TRAINING_ONLY}, place
        )
        return
    try:
        reduced = value.__reduce_ex__(2)
    except TypeError:
        return
    if isinstance(reduced, str):
        return
    maker, *parts = reduced
    # Cython's own makers take (class, checksum of the layout, state): the checksum changes
    # with the library's version, not with the model.
    is_cython = getattr(maker, "__name__", "").startswith("__pyx_unpickle")
    arguments = parts[0][2:] if is_cython else parts[0]
    for part in (arguments, parts[1] if len(parts) > 1 else None):
        if part is not None:
            _read(state, part, place)
