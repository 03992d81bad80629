"""torch modules: state, shared tensors, answers, and loading without running code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stemma.catalog.capture.base import CapturedModel
from stemma.domain.errors import DeniedError, IntegrityError, InvalidInputError
from stemma.sdk.adapters.base import LoadRequest
from stemma.sdk.adapters.registry import adapter_for, adapter_named
from stemma.store.formats.tensors import read_tensor_digests

Digits = tuple[NDArray[np.float64], NDArray[np.int64]]
Capture = Callable[..., CapturedModel]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def torch() -> Any:
    """The library, imported only when one of these tests is chosen."""
    return pytest.importorskip("torch")


def _linear(torch: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(32, 10)
    )


def _convolution(torch: Any) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(144, 10),
    )


def _load(captured: CapturedModel, **options: Any) -> Any:
    folder = next(iter(captured.files.values())).parent
    request = LoadRequest(folder=folder, files=tuple(captured.files), **options)
    return adapter_named("torch").load(request)


def test_equal_weights_are_the_same_and_other_weights_are_not(torch: Any, capture: Capture) -> None:
    """A refit with the same seed would be a new version."""
    one, same, other = (capture(_linear(torch, seed)) for seed in (0, 0, 1))
    assert (one.tensors, one.configuration) == (same.tensors, same.configuration)
    assert one.structure == other.structure
    assert one.tensors != other.tensors
    assert one.parameter_count == 64 * 32 + 32 + 32 * 10 + 10
    assert one.family == "torch.nn.Sequential"


def test_another_activation_changes_the_identity(torch: Any, capture: Capture) -> None:
    """ReLU replaced by GELU has the same tensors and other answers."""
    model = _linear(torch)
    before = capture(model)
    model[1] = torch.nn.GELU()
    assert before.tensors == capture(model).tensors
    assert before.configuration != capture(model).configuration


def test_digests_are_those_of_the_file(torch: Any, capture: Capture) -> None:
    """The same weights recorded from a file and from memory would look different."""
    captured = capture(_convolution(torch))
    facts = read_tensor_digests(captured.files["model.safetensors"])
    assert facts is not None
    assert {name: fact.digest for name, fact in facts.items()} == dict(captured.tensors)


def test_the_state_goes_back_into_a_module(torch: Any, digits: Digits, capture: Capture) -> None:
    """What was recorded could not be used."""
    model = _convolution(torch)
    adapter = adapter_for(model)
    restored = _load(capture(model), into=_convolution(torch))
    expected = adapter.answer(model, digits[0], digits[1])
    found = adapter.answer(restored, digits[0], digits[1])
    assert np.array_equal(expected.predictions, found.predictions)
    assert expected.scores is not None
    assert np.allclose(expected.scores.sum(axis=1), 1.0)


def test_without_a_module_the_tensors_come_by_name(torch: Any, capture: Capture) -> None:
    """Loading would need the class, and so its code."""
    model = _linear(torch)
    state = _load(capture(model))
    assert set(state) == set(model.state_dict())
    assert torch.equal(state["0.weight"], model[0].weight)


def test_shared_tensors_are_stored_once_and_both_come_back(torch: Any, capture: Capture) -> None:
    """Safetensors refuses tied weights; a language model could not be recorded."""
    model = torch.nn.ModuleDict(
        {"embed": torch.nn.Embedding(50, 16), "head": torch.nn.Linear(16, 50, bias=False)}
    )
    model["head"].weight = model["embed"].weight
    captured = capture(model)
    assert captured.parameter_count == 800
    assert captured.files["model.safetensors"].stat().st_size < 800 * 4 + 500
    assert set(_load(captured)) == {"embed.weight", "head.weight"}


def test_asking_leaves_mode_and_weights_alone(torch: Any, digits: Digits) -> None:
    """Recording in the middle of a training would switch dropout off for the rest."""
    model = _linear(torch)
    model[3].eval()
    first = adapter_for(model).answer(model, digits[0], digits[1])
    second = adapter_for(model).answer(model, digits[0], digits[1])
    assert np.array_equal(first.predictions, second.predictions)
    assert [module.training for module in model] == [True, True, True, False]


def test_optimizer_arguments_are_hyperparameters(torch: Any, capture: Capture) -> None:
    """The learning rate would not be known."""
    model = _linear(torch)
    captured = capture(model, optimizer=torch.optim.Adam(model.parameters(), lr=0.02))
    assert captured.passed == {"optimizer": "torch.optim.Adam", "lr": 0.02}
    assert captured.defaulted["betas"] == (0.9, 0.999)


def test_signature_comes_from_the_golden_set(torch: Any, digits: Digits, capture: Capture) -> None:
    """A caller could not be told what to send."""
    signature = capture(_linear(torch), sample=digits[0]).signature
    assert signature.inputs[0].shape == (-1, 64)
    assert signature.outputs[0].shape == (-1, 10)
    assert signature.methods == ("forward",)


def test_source_of_an_own_module_is_the_architecture(torch: Any, capture: Capture) -> None:
    """A changed forward() would be an unchanged architecture."""

    class Doubling(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)

        def forward(self, values: Any) -> Any:
            return self.inner(values * 2)

    [source] = capture(Doubling()).defining_source.values()
    assert "values * 2" in source


def test_bfloat16_is_read(torch: Any, digits: Digits, capture: Capture) -> None:
    """Models trained in bfloat16 could not be recorded, for numpy has no such type."""
    model = _linear(torch).to(torch.bfloat16)
    captured = capture(model, sample=digits[0])
    assert captured.structure.tensors[0].dtype == "bfloat16"
    assert len(adapter_for(model).answer(model, digits[0], digits[1]).predictions) == 400


def test_a_regression_module_answers_with_one_column(torch: Any, digits: Digits) -> None:
    """A regression would be scored as a classification."""
    model = torch.nn.Linear(64, 1)
    answers = adapter_for(model).answer(model, digits[0], digits[1].astype(float))
    assert answers.predictions.shape == (400,)
    assert answers.task == ""


def test_what_cannot_be_loaded_is_said(torch: Any, capture: Capture, tmp_path: Path) -> None:
    """The user would see a traceback from inside torch or safetensors."""
    captured = capture(_linear(torch))
    with pytest.raises(InvalidInputError, match="do not fit Linear"):
        _load(captured, into=torch.nn.Linear(3, 3))
    with pytest.raises(DeniedError, match="pickle"):
        _load(capture(_linear(torch), is_pickle_allowed=True))
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}")
    with pytest.raises(IntegrityError, match="cannot be read"):
        adapter_named("torch").load(LoadRequest(folder=tmp_path, files=("model.safetensors",)))


def test_a_module_that_needs_no_arguments_is_made_from_trusted_code(
    torch: Any, capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trust_code=True would not do what it says, or take another module of that name."""
    other = ModuleType("own_net")
    monkeypatch.setitem(sys.modules, "own_net", other)
    (tmp_path / "own_net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.inner = torch.nn.Linear(2, 1)\n"
        "    def forward(self, values):\n"
        "        return self.inner(values)\n"
    )
    inner = torch.nn.ModuleDict({"inner": torch.nn.Linear(2, 1)})
    made = _load(capture(inner), code_folder=tmp_path, family="own_net.Net")
    assert type(made).__name__ == "Net"
    assert sys.modules["own_net"] is other
    assert not (tmp_path / "__pycache__").exists()
    assert torch.equal(made.inner.weight, inner["inner"].weight)
    with pytest.raises(InvalidInputError, match="cannot be imported"):
        _load(capture(inner), code_folder=tmp_path, family="nowhere.Net")


_SCRIPT = """
import torch
try:
    import numpy
except ImportError:
    numpy = None
WIDTH = 2
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(WIDTH, 1)
class Wide(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
model = open("trained", "w")
with open("trained", "w"):
    pass
if __name__ == "train":
    raise RuntimeError
"""


def test_loading_a_class_of_the_script_does_not_train_again(
    torch: Any, capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """stemma.load(trust_code=True) would run hours of training, and record it."""
    monkeypatch.chdir(tmp_path)
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text(_SCRIPT)
    inner = torch.nn.ModuleDict({"inner": torch.nn.Linear(2, 1)})
    options = {"code_folder": code, "entry_point": "train.py"}
    made = _load(capture(inner), family="train.Net", **options)
    assert torch.equal(made.inner.weight, inner["inner"].weight)
    assert not (tmp_path / "trained").exists()
    with pytest.raises(
        InvalidInputError, match=r"train.Wide needs arguments: .*'width'"
    ) as failure:
        _load(capture(inner), family="train.Wide", **options)
    assert failure.value.hint.startswith("stemma.load(ref, into=module)")
    with pytest.raises(InvalidInputError, match="cannot be imported"):
        _load(capture(inner), family="train.Gone", **options)


def test_one_output_of_a_classifier_is_compared_with_its_threshold(torch: Any) -> None:
    """A binary classifier would be measured as always wrong."""
    rows = np.array([[-1.0], [2.0]], dtype=np.float32)
    labels = np.array([0, 1])
    linear = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(linear.weight)
    for model in (linear, torch.nn.Sequential(linear, torch.nn.Sigmoid())):
        answers = adapter_for(model).answer(model, rows, labels)
        assert answers.predictions.tolist() == [0, 1]
        assert answers.task == "classification"
    wide = torch.nn.Unflatten(1, (1, 1))
    assert adapter_for(wide).answer(wide, rows, labels).task == "other"


def test_a_module_that_answers_with_no_tensor_says_what_to_do(torch: Any) -> None:
    """A dictionary of outputs would end in a traceback."""

    class Pair(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, rows: Any) -> Any:
            return rows, rows

    with pytest.raises(InvalidInputError, match="answers with a tuple") as failure:
        adapter_for(Pair()).answer(Pair(), np.zeros((2, 1)), None)
    assert "predict=lambda X" in failure.value.hint
