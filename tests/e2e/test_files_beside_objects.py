"""A file that is recorded in a project whose only model came from live objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_SKLEARN = """\
import numpy as np
import stemma
from sklearn.linear_model import LogisticRegression

X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
with stemma.run("lines") as run:
    run.model(LogisticRegression().fit(X, y), test=(X, y))
"""


def test_a_file_is_no_version_of_the_only_model_there_is(place: Any) -> None:
    """An ONNX file of another model would silently become a version of the sklearn one."""
    fresh = replace(place, folder=place.folder / "fresh")
    fresh.folder.mkdir()
    assert fresh.stemma("init").returncode == 0
    trained = fresh.python(_SKLEARN)
    assert trained.returncode == 0, trained.stderr
    fresh.write("write.py", "open('other.onnx', 'wb').write(b'bytes')")
    run = ("run", "--model", "other.onnx")
    command = ("--", "python", "write.py")
    refused = fresh.stemma(*run, *command)
    assert refused.returncode == 2
    assert "lines, the only one here, is a sklearn model" in refused.stderr
    assert "--name NEW-NAME … for another model, or --name lines" in refused.stderr
    assert len(fresh.runs()) == 1
    assert fresh.stemma(*run, "--name", "other", *command).returncode == 0
    assert fresh.runs()[0].start.model == "other"
