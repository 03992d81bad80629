"""A scikit-learn model, really served by a model process on a port."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from stemma.delivery.runtime.golden import write_golden
from stemma.delivery.runtime.spec import ProcessSpec, encode_spec
from stemma.sdk.adapters.base import CaptureRequest
from stemma.sdk.adapters.sklearn import ADAPTER

_START_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that is served, and what it must answer.

    Attributes:
        address: ``127.0.0.1:PORT``.
        rows: Inputs.
        labels: What the model answers on them.
        scores: Its probabilities.
    """

    address: str
    rows: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    """Digits by logistic regression, version 1.2.0, in a process of its own."""
    folder = tmp_path_factory.mktemp("served")
    features, labels = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=300).fit(features / 16, labels)
    captured = ADAPTER.capture(CaptureRequest(model=model, folder=folder))
    rows = features[:20] / 16
    write_golden(folder / "golden.npz", {"": rows[:8]}, model.predict(rows[:8]))
    sockets = Path(tempfile.mkdtemp(prefix="stemma-interop-"))
    spec = ProcessSpec(
        model="digits",
        version="1.2.0",
        manifest="sha256:" + "0" * 64,
        loader="sklearn",
        family=captured.family,
        files=tuple(captured.files),
        artifact_folder=str(folder),
        golden=str(folder / "golden.npz"),
        task="classification",
        signature=captured.signature,
        labels=captured.labels,
        sockets=(str(sockets / "0.sock"),),
    )
    (folder / "specification.json").write_bytes(encode_spec(spec))
    port = _free_port()
    command = [sys.executable, "-m", "stemma.sdk.model_process"]
    process = subprocess.Popen(
        [*command, str(folder / "specification.json"), "0", "--port", str(port)]
    )
    try:
        _await_ready(process, f"http://127.0.0.1:{port}/v2/health/ready")
        yield ServedModel(
            address=f"127.0.0.1:{port}",
            rows=rows,
            labels=model.predict(rows),
            scores=model.predict_proba(rows),
        )
    finally:
        process.terminate()
        process.wait(timeout=10)
        sockets.rmdir()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the model process ended"
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    pytest.fail("the model process was not ready in time")
