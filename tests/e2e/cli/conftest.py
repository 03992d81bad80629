"""A command line in a project of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Completed = subprocess.CompletedProcess[str]
Stemma = Callable[..., Completed]


@pytest.fixture(scope="session")
def stemma_in(tmp_path_factory: pytest.TempPathFactory, commands: Any) -> Stemma:
    """Run ``stemma`` in a folder, without terminal and with an empty home."""
    home = tmp_path_factory.mktemp("home")

    def run(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Completed:
        answer: Completed = commands.run(
            *arguments,
            cwd=folder,
            env={
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(home),
                "STEMMA_USER": "ada",
                "STEMMA_MAY_USE_NETWORK": "false",
                **(variables or {}),
            },
        )
        return answer

    return run


@pytest.fixture
def stemma(stemma_in: Stemma, tmp_path: Path) -> Stemma:
    """Run ``stemma`` in ``tmp_path``."""

    def run(*arguments: str, variables: Mapping[str, str] | None = None) -> Completed:
        return stemma_in(tmp_path, *arguments, variables=variables)

    return run


def _fill(folder: Path, stemma_in: Stemma) -> Path:
    """Make a project with one policy, and a script that writes a model without Stemma."""
    assert stemma_in(folder, "init").returncode == 0
    files = {
        "stemma.toml": "[model.toy]\n",
        "train.py": (
            "import json, pathlib\n"
            "pathlib.Path('model.json').write_text(json.dumps({'weight': 1}))\n"
            "print('trained')\n"
        ),
        "data.csv": "x,y\n1,2\n3,4\n",
        "params.yaml": "rate: 0.5\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def project(stemma_in: Stemma, tmp_path: Path) -> Path:
    """Make a project that the test may change."""
    return _fill(tmp_path, stemma_in)


@pytest.fixture(scope="module")
def stemma_here(stemma_in: Stemma, tmp_path_factory: pytest.TempPathFactory) -> Stemma:
    """Run ``stemma`` in one project that the tests of a module only read."""
    folder = _fill(tmp_path_factory.mktemp("read-only"), stemma_in)

    def run(*arguments: str) -> Completed:
        return stemma_in(folder, *arguments)

    return run


@pytest.fixture(scope="session")
def fill(stemma_in: Stemma) -> Callable[[Path], Path]:
    """Return what makes a project of a folder."""
    return lambda folder: _fill(folder, stemma_in)
