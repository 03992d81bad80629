"""The decorator: arguments are hyperparameters, the result is the model."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

import stemma
from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.domain.run import RunState
from stemma.sdk.run import Run
from stemma.server.wiring import open_hub

pytestmark = [
    pytest.mark.slow,
    # What other tests of this process import (torch) is in the environment too.
    pytest.mark.filterwarnings("ignore:no hash"),
]

FEATURES = np.arange(12.0).reshape(6, 2) ** 1.5
LABELS = np.array([0.5, 1.5, 2.5, 4.0, 4.5, 6.5])
GOLDEN = (FEATURES + 0.25, LABELS)


@stemma.run("line", data={"rows": (FEATURES, LABELS)}, test=GOLDEN)
def train(alpha: float = 1.0, fit_intercept: bool = True) -> Ridge:  # noqa: FBT001, FBT002
    """Train a line."""
    return Ridge(alpha=alpha, fit_intercept=fit_intercept).fit(FEATURES, LABELS)


def _parameters(run: Run | None) -> tuple[int, dict[str, object]]:
    assert run is not None
    with closing(open_hub()) as hub:
        view = hub.resolve(f"line@{run.id}")
        return view.manifest.hyperparameters.passed_count, hub.facts(view).hyperparameters


def test_arguments_are_hyperparameters_and_the_result_is_the_model(project: Path) -> None:
    """A decorated training would record nothing of what it was called with."""
    model = train(alpha=0.5)
    assert isinstance(model, Ridge)
    assert train.__name__ == "train"
    passed_count, values = _parameters(train.last_run)
    assert values["alpha"] == 0.5
    assert values["fit_intercept"] is True
    assert passed_count == 1
    assert train.last_run is not None
    assert train.last_run.metrics["r2"] > 0.5


def test_values_set_on_the_command_line_replace_defaults(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stemma run --set alpha=3` would train with 1."""
    monkeypatch.setenv("STEMMA_SET", json.dumps({"alpha": 3.0}))
    assert train().alpha == 3.0
    assert _parameters(train.last_run)[1]["alpha"] == 3.0


def test_a_sweep_trains_each_combination_and_finds_the_best(project: Path) -> None:
    """The best of a sweep would be the worst, or not releasable."""
    sweep = train.sweep(alpha=[100.0, 0.1], fit_intercept=[True, False])
    assert len(sweep) == 4
    best = sweep.best("r2")
    assert best.metrics["r2"] == max(run.metrics["r2"] for run in sweep)
    assert sweep.best("rmse").metrics["rmse"] == min(run.metrics["rmse"] for run in sweep)
    assert best.release().number == "1.0.0"
    with pytest.raises(NotFoundError, match="metric f1") as failure:
        sweep.best("f1")
    assert "r2" in failure.value.hint


def test_a_sweep_over_nothing_is_refused(project: Path) -> None:
    """A misspelt argument would train the default many times."""
    with pytest.raises(InvalidInputError, match="cannot sweep over aplha"):
        train.sweep(aplha=[1.0])
    with pytest.raises(InvalidInputError, match="over nothing"):
        train.sweep()


def test_an_argument_called_run_is_the_open_run(project: Path) -> None:
    """A decorated function could not log or test."""

    @stemma.run("line")
    def fit(run: Run, alpha: float = 1.0) -> None:
        run.log(loss=0.5)
        run.model(Ridge(alpha=alpha).fit(FEATURES, LABELS), test=(FEATURES, LABELS))

    fit()  # type: ignore[call-arg]
    assert fit.last_run is not None
    assert set(fit.last_run.metrics) == {"r2", "rmse", "mae"}


def test_a_dataset_that_cannot_be_read_fails_the_run(project: Path) -> None:
    """The run would stay open for ever."""
    with pytest.raises(NotFoundError), stemma.run("line", data={"rows": "missing.csv"}):
        pytest.fail("the block was entered")
    with closing(open_hub()) as hub:
        assert [record.state for record in hub.list_runs()] == [RunState.FAILED]
