"""scikit-learn models: what is read, what counts as the same, and what may be loaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from stemma.catalog.capture.base import CapturedModel
from stemma.domain.component import ANY_SIZE
from stemma.domain.errors import DeniedError, IntegrityError, InvalidInputError
from stemma.sdk.adapters.base import LoadRequest
from stemma.sdk.adapters.registry import adapter_for, adapter_named

Digits = tuple[NDArray[np.float64], NDArray[np.int64]]
Capture = Callable[..., CapturedModel]

MODELS: dict[str, Callable[[], object]] = {
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    "forest": lambda: RandomForestClassifier(5, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=2, random_state=0),
    "hist": lambda: HistGradientBoostingClassifier(max_iter=2, random_state=0),
    "neighbours": lambda: KNeighborsClassifier(algorithm="kd_tree"),
    "svc": SVC,
    "voting": lambda: VotingClassifier([("a", LogisticRegression(max_iter=2000)), ("b", SVC())]),
    "search": lambda: GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.5]}, cv=2),
}


def _load(captured: CapturedModel, trust: tuple[str, ...] = ()) -> object:
    folder = next(iter(captured.files.values())).parent
    request = LoadRequest(folder=folder, files=tuple(captured.files), trust=trust)
    return adapter_named(captured.loader).load(request)


def _identity(captured: CapturedModel) -> tuple[object, ...]:
    return captured.tensors, captured.configuration, captured.structure, captured.family


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_refit_is_the_same_and_answers_the_same_after_loading(
    name: str, digits: Digits, capture: Capture
) -> None:
    """Every release would be a new version although nothing changed, or load something else."""
    features, labels = digits
    first, second = (MODELS[name]().fit(features, labels) for _ in range(2))  # type: ignore[attr-defined]
    captured, again = capture(first), capture(second)
    assert _identity(captured) == _identity(again)
    restored = _load(captured)
    assert np.array_equal(restored.predict(features), first.predict(features))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_another_c_is_another_model(digits: Digits, capture: Capture) -> None:
    """A changed model would be taken for unchanged."""
    one = capture(make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(*digits))
    other = capture(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=500)).fit(*digits)
    )
    assert one.structure == other.structure
    changed = {name for name in one.tensors if one.tensors[name] != other.tensors[name]}
    assert changed == {"logisticregression.coef_", "logisticregression.intercept_"}


def test_a_parameter_that_changes_answers_but_no_array_changes_the_identity(
    digits: Digits, capture: Capture
) -> None:
    """Three neighbours instead of five would be "already is this"."""
    five, three = (KNeighborsClassifier(n).fit(*digits) for n in (5, 3))
    assert capture(five).tensors == capture(three).tensors
    assert capture(five).configuration != capture(three).configuration


@pytest.mark.slow
def test_what_only_describes_the_training_is_no_part_of_the_identity(
    digits: Digits, capture: Capture
) -> None:
    """Timings and the number of processors would make every refit a new version."""
    one = GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=2, n_jobs=1).fit(*digits)
    other = GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=2, n_jobs=None, verbose=0).fit(*digits)
    other.refit_time_ = one.refit_time_ + 1.0
    assert _identity(capture(one)) == _identity(capture(other))


@pytest.mark.slow
def test_parameters_are_counted_as_a_person_counts_them(digits: Digits, capture: Capture) -> None:
    """The card would show another number than the textbook."""
    features, labels = digits
    rows = np.tile(features, (4, 1)), np.tile(labels, 4)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(*rows)
    network = make_pipeline(
        StandardScaler(), MLPClassifier((64,), max_iter=300, random_state=0)
    ).fit(*rows)
    ridge = Ridge().fit(features, labels.astype(float))
    assert capture(logistic).parameter_count == 650
    assert capture(network).parameter_count == 4810
    assert capture(ridge).parameter_count == 65
    assert capture(network).summary == "StandardScaler → MLPClassifier(64,)"
    assert capture(logistic).summary == "StandardScaler → LogisticRegression"
    assert capture(logistic).family == "sklearn.linear_model.LogisticRegression"


@pytest.mark.slow
def test_hyperparameters_are_split_into_passed_and_defaulted(
    digits: Digits, capture: Capture
) -> None:
    """Nobody could tell what was chosen from what was left alone."""
    captured = capture(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(*digits)
    )
    assert captured.passed == {"max_iter": 500}
    assert captured.defaulted["C"] == 1.0
    # Two estimators have one of this name, so the nested one has its full name.
    assert captured.defaulted["verbose"] is False
    assert captured.defaulted["logisticregression__verbose"] == 0


@pytest.mark.slow
def test_sizes_that_follow_from_the_data_are_free(digits: Digits, capture: Capture) -> None:
    """A forest trained on more rows would look like a redesign."""
    features, labels = digits
    small = capture(RandomForestClassifier(3, random_state=0).fit(features[:200], labels[:200]))
    large = capture(RandomForestClassifier(3, random_state=0).fit(features, labels))
    assert small.structure.tensors == large.structure.tensors
    assert small.tensors != large.tensors
    vectors = {
        tensor.name: tensor.shape for tensor in capture(SVC().fit(*digits)).structure.tensors
    }
    assert vectors["svc.support_vectors_"] == (ANY_SIZE, 64)


@pytest.mark.slow
def test_signature_and_labels_come_from_the_model(digits: Digits, capture: Capture) -> None:
    """A caller could not be told what to send."""
    captured = capture(LogisticRegression(max_iter=2000).fit(*digits))
    [inputs] = captured.signature.inputs
    assert (inputs.name, inputs.dtype, inputs.shape) == ("X", "float64", (ANY_SIZE, 64))
    assert [(o.name, o.shape) for o in captured.signature.outputs] == [
        ("prediction", (ANY_SIZE,)),
        ("probabilities", (ANY_SIZE, 10)),
    ]
    assert captured.signature.methods == ("predict", "predict_proba", "decision_function")
    assert captured.labels == tuple("0123456789")


def test_svc_has_no_probabilities_unless_it_was_asked_for_them(
    digits: Digits, capture: Capture
) -> None:
    """Callers of predict_proba would break in a release called compatible."""
    assert "predict_proba" not in capture(SVC().fit(*digits)).signature.methods


def test_a_declared_method_that_is_missing_is_refused(digits: Digits, capture: Capture) -> None:
    """The promise in the record would be empty."""
    with pytest.raises(InvalidInputError, match="predict_proba, which SVC does not have"):
        capture(SVC().fit(*digits), interface=("predict", "predict_proba"))


def test_columns_of_a_frame_are_inputs_by_name(capture: Capture) -> None:
    """A renamed column would go unnoticed."""
    frame = pd.DataFrame({"age": [1, 2, 3, 4], "height": [0.5, 1.5, 2.5, 3.5]})
    model = LogisticRegression().fit(frame, [0, 1, 0, 1])
    captured = capture(model, sample=frame)
    assert [(spec.name, spec.dtype) for spec in captured.signature.inputs] == [
        ("age", "int64"),
        ("height", "float64"),
    ]


class _Own(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator of the user's own."""

    def __init__(self, answer: int = 7) -> None:
        """Keep the answer."""
        self.answer = answer

    def fit(self, features: object, labels: NDArray[np.int64]) -> _Own:
        """Learn nothing."""
        del features
        self.classes_ = np.unique(labels)
        return self

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """Answer always the same."""
        return np.full(len(features), self.answer)


def test_a_type_of_the_users_own_is_recorded_and_loads_only_when_trusted(
    digits: Digits, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A downloaded model could construct whatever it names."""
    monkeypatch.setitem(sys.modules, _Own.__module__, sys.modules[__name__])
    captured = capture(_Own().fit(*digits))
    assert (
        "return np.full(len(features), self.answer)"
        in captured.defining_source[f"{_Own.__module__}._Own"]
    )
    with pytest.raises(DeniedError, match="_Own") as failure:
        _load(captured)
    assert "trust=" in failure.value.hint
    restored = _load(captured, trust=(f"{_Own.__module__}._Own",))
    assert isinstance(restored, _Own)


def test_a_function_nobody_can_name_is_refused_with_the_way_out(
    digits: Digits, capture: Capture
) -> None:
    """The user would see skops' inner error, or worse, get a silent pickle."""
    model = Pipeline(
        [("f", FunctionTransformer(lambda x: x * 2)), ("c", LogisticRegression(max_iter=3000))]
    ).fit(*digits)
    with pytest.raises(InvalidInputError, match="cannot be saved without pickle") as failure:
        capture(model)
    assert "unsafe_pickle=True" in failure.value.hint


def test_a_pickle_is_marked_and_never_loaded(digits: Digits, capture: Capture) -> None:
    """Loading somebody's model would run their code."""
    captured = capture(LogisticRegression(max_iter=2000).fit(*digits), is_pickle_allowed=True)
    assert captured.is_pickle
    assert list(captured.files) == ["model.pkl"]
    with pytest.raises(DeniedError, match="pickle"):
        _load(captured)


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    """The user would see a traceback of zipfile."""
    (tmp_path / "model.skops").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(IntegrityError, match=r"model\.skops cannot be read"):
        adapter_named("sklearn").load(LoadRequest(folder=tmp_path, files=("model.skops",)))


def test_an_estimator_without_predict_cannot_be_tested(digits: Digits) -> None:
    """The error would be an AttributeError from inside."""
    scaler = StandardScaler().fit(digits[0])
    with pytest.raises(InvalidInputError, match="has no predict"):
        adapter_for(scaler).answer(scaler, digits[0], None)


@pytest.mark.slow
def test_reading_leaves_the_model_as_it_was(digits: Digits, capture: Capture) -> None:
    """Recording would change the model that is used afterwards."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(*digits)
    before = {name: vars(step).copy() for name, step in model.steps}
    capture(model)
    for name, step in model.steps:
        assert vars(step).keys() == before[name].keys()
        assert all(vars(step)[key] is before[name][key] for key in before[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [RandomForestClassifier(2, random_state=0), HistGradientBoostingClassifier(max_iter=1)]
)
def test_a_tree_that_leads_outside_of_itself_is_refused(
    model: object, digits: Digits, capture: Capture
) -> None:
    """A crafted file would make predict() read foreign memory."""
    fitted = model.fit(*digits)  # type: ignore[attr-defined]
    captured = capture(fitted)
    _load(captured)
    nodes = (
        fitted.estimators_[0].tree_.__getstate__()["nodes"]
        if hasattr(fitted, "estimators_")
        else fitted._predictors[0][0].nodes
    )
    nodes["left_child" if hasattr(fitted, "estimators_") else "left"][0] = 10**6
    if hasattr(fitted, "estimators_"):
        tree = fitted.estimators_[0].tree_
        tree.__setstate__({**tree.__getstate__(), "nodes": nodes})
    with pytest.raises(IntegrityError, match="leads outside of itself"):
        _load(capture(fitted))


@pytest.mark.slow
def test_the_adapter_loads_no_torch_and_scikit_learn_finds_it_later() -> None:
    """Each training and loading would wait for it, 1.3 s, wherever torch is installed."""
    pytest.importorskip("torch", reason="torch is an extra; `make test` installs it")
    script = (
        "import sys, stemma.sdk.adapters.sklearn; print('torch' in sys.modules);"
        "import sklearn.externals.array_api_compat.torch; print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["False", "True"]
