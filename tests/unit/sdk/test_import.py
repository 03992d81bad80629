"""``import stemma``: few names, and nothing loaded before one is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import stemma

NAMES = {"data", "get", "load", "release", "run", "runs", "settings"}


def test_every_name_is_there() -> None:
    """A name in the documentation would not exist."""
    assert {*NAMES, "__version__"} == set(stemma.__all__) == set(dir(stemma))
    assert all(getattr(stemma, name) is not None for name in NAMES)
    with pytest.raises(AttributeError, match="no attribute 'client'"):
        stemma.client  # type: ignore[attr-defined]  # noqa: B018 - the access is the test


def test_importing_loads_no_other_module() -> None:
    """Every script that imports stemma would wait for SQLAlchemy and numpy."""
    code = "import sys; before = set(sys.modules); import stemma; print(set(sys.modules) - before)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "{'stemma'}"
