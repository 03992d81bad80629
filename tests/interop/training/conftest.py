"""A project in which programs train with real frameworks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parent
_SECONDS = 240


@pytest.fixture
def trained(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Run a training program of this folder; return what it says of its run."""

    def train(name: str) -> dict[str, Any]:
        scripts = Path(sys.executable).parent
        environment = {**os.environ, "KERAS_BACKEND": "torch", "HF_HUB_OFFLINE": "1"}
        subprocess.run([str(scripts / "stemma"), "init"], cwd=tmp_path, check=True)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(_FOLDER / f"{name}.py")],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said

    return train
