"""Real small models and a real project for the SDK's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from stemma.catalog.capture.base import CapturedModel
from stemma.sdk.adapters.base import CaptureRequest
from stemma.sdk.adapters.registry import adapter_for
from stemma.server.wiring import init_project

Digits = tuple[NDArray[np.float64], NDArray[np.int64]]


@pytest.fixture(scope="session")
def digits() -> Digits:
    """400 rows of 64 pixels with their digits."""
    features, labels = load_digits(return_X_y=True)
    return features[:400], labels[:400]


@pytest.fixture
def capture(tmp_path: Path) -> Callable[..., CapturedModel]:
    """Read a model as ``run.model`` would, each time into a new folder."""
    count = 0

    def read(model: object, **options: Any) -> CapturedModel:
        nonlocal count
        count += 1
        folder = tmp_path / f"model-{count}"
        folder.mkdir()
        request = CaptureRequest(model=model, folder=folder, **options)
        return adapter_for(model).capture(request)

    return read


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the current folder; no network."""
    root = tmp_path / "project"
    root.mkdir()
    init_project(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("STEMMA_MAY_USE_NETWORK", "false")
    for name in ("STEMMA_PROJECT", "STEMMA_COMMAND", "STEMMA_SET", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture(autouse=True)
def _alone(recorded_alone: None) -> None:
    """Record only what the test itself imports."""
