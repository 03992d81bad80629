"""Real frameworks train, and what their own hooks report is in the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stemma.domain.run import RunId
from stemma.hub.local import LocalHub
from stemma.server.wiring import open_hub

pytestmark = pytest.mark.slow


def steps(hub: LocalHub, run: str, curve: str) -> list[int]:
    """Return the steps of a learning curve."""
    return [point.step for point in hub.curve(RunId(run), curve)]


def settings(hub: LocalHub, run: str) -> dict[str, Any]:
    """Return the hyperparameters that were given."""
    record = hub.get_run(run)
    manifest = hub.resolve(f"{record.start.model}@{run}").manifest
    passed: dict[str, Any] = json.loads(hub.objects.read_bytes(manifest.hyperparameters.content))
    return passed["passed"]


def test_boosters_log_each_round(trained: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    """Whoever trains trees would see no learning curve, or not what they were trained with."""
    ids = trained("train_boosters")
    with closing(open_hub(tmp_path)) as hub:
        assert steps(hub, ids["xgboost"], "train-logloss") == [0, 1, 2, 3, 4]
        assert settings(hub, ids["xgboost"])["max_depth"] == "3"
        assert steps(hub, ids["lightgbm"], "training-binary_logloss") == [0, 1, 2, 3, 4]
        assert settings(hub, ids["lightgbm"])["num_leaves"] == 7


def test_networks_log_epochs_and_steps(
    trained: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    """Whoever trains networks would see no learning curve, or not what they were trained with."""
    ids = trained("train_networks")
    with closing(open_hub(tmp_path)) as hub:
        assert steps(hub, ids["keras"], "loss") == [0, 1, 2]
        assert settings(hub, ids["keras"])["optimizer_learning_rate"] == pytest.approx(0.01)
        assert steps(hub, ids["lightning"], "loss") == list(range(8))
        assert settings(hub, ids["lightning"]) == {"width": 8}
        assert steps(hub, ids["transformers"], "loss") == [1, 2, 3, 4]
        given = settings(hub, ids["transformers"])
        assert (given["learning_rate"], given["per_device_train_batch_size"]) == (0.003, 4)
        assert "output_dir" not in given
