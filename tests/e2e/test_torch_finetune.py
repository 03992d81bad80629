"""A real fine-tune in torch, recorded and released: PATCH and MAJOR.

The page ``fine-tune-torch`` of the how-to documents, which is run too, has the MINOR.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is an extra; `make test` installs it")

EXAMPLE = Path(__file__).parents[2] / "examples" / "torch_finetune"
BIN = Path(sys.executable).parent


@pytest.mark.slow
def test_fine_tunes_get_the_number_their_evidence_asks_for(tmp_path: Path) -> None:
    """A team would ship a behaviour change as a patch, or a redesign as a minor."""
    for path in EXAMPLE.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("STEMMA_")},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }

    def stemma(*words: str) -> str:
        result = subprocess.run(
            ["stemma", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def train_and_release(*arguments: str) -> tuple[str, str]:
        stemma("run", "--", "python", "train.py", *arguments)
        outcome = json.loads(stemma("release", "digits-net", "--json"))
        return outcome["version"], outcome["verdict"]["level"] if outcome["verdict"] else "first"

    stemma("init")
    assert train_and_release() == ("1.0.0", "first")
    base = ("--base", "digits-net@1.0.0")
    assert train_and_release(*base, "--lr", "1e-6", "--epochs", "1") == ("1.0.1", "patch")
    assert train_and_release("--wide", "--lr", "5e-2", "--epochs", "40") == ("2.0.0", "major")
    assert json.loads(stemma("show", "digits-net@1.0.1", "--json"))["parents"] == [
        "digits-net@1.0.0"
    ]
    assert json.loads(stemma("show", "digits-net@2.0.0", "--json"))["parents"] == []
