"""A version that needs a package which no index has: seen in staging, never by a user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PACKAGE = "laptop-only"
RECORD = """\
import laptop_only  # so that the version needs it
from record_models import NAMED, linear, release

release("prices", linear(1.003), bump="minor", reason=NAMED)
"""
METADATA = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0+laptop\n"


def install_on_this_laptop(site: Path) -> None:
    """Lay a package out as an installer would; a local version, which no index takes."""
    facts = site / "laptop_only-1.0+laptop.dist-info"
    facts.mkdir(parents=True)
    (site / "laptop_only.py").touch()
    (facts / "METADATA").write_text(METADATA, encoding="utf-8")
    names = ("laptop_only.py", f"{facts.name}/METADATA", f"{facts.name}/RECORD")
    (facts / "RECORD").write_text("".join(f"{name},,\n" for name in names), encoding="utf-8")


@pytest.fixture
def unresolvable(served: Any, tmp_path: Path) -> Any:
    """A project that serves prices 1.0.0, and whose newest version cannot be built anywhere."""
    site = tmp_path / "site-packages"
    install_on_this_laptop(site)
    paths = os.pathsep.join([str(site), served.variables.get("PYTHONPATH", "")])
    script = served.write("record_laptop.py", RECORD)
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=served.folder,
        env={**served.variables, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return served


def test_a_version_whose_environment_does_not_resolve_meets_no_user(
    unresolvable: Any,
) -> None:
    """It would be found out when the canary is due to start, or its lack would take users down."""
    production = unresolvable
    newest = production.ask("log", "prices", "--limit", "1")[0]["version"]
    report = production.ask(
        *("check", f"prices@{newest}", "--staging", "--seconds", "1", "--rate", "50"), code=3
    )
    lines = [line for line in report["results"] if not line["has_passed"]]
    assert any(PACKAGE in str(line) for line in lines), lines
    failed = production.ask(
        *("rollout", f"prices@{newest}", "--steps", "50,100", "--hold", "1s"), code=3
    )
    assert failed["state"] == "failed"
    assert PACKAGE in failed["reason"], failed["reason"]
    assert production.predict(1, 3).headers["x-stemma-version"] == "1.0.0"
    assert production.slot(newest) is None
