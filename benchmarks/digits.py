"""A project with one release of digits, made with the real commands: where scenarios begin."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

BIN: Final = Path(sys.executable).parent
STEMMA: Final = str(BIN / "stemma")
ENVIRONMENT: Final = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
_DEMO: Final = Path(__file__).parents[1] / "examples" / "demo"


@contextmanager
def digits_project() -> Iterator[Path]:
    """Yield a temporary project that holds ``digits@1.0.0``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("train.py", "stemma.toml"):
            (folder / file).write_text((_DEMO / file).read_text(encoding="utf-8"), encoding="utf-8")
        for words in (["init"], ["run", "--", "python", "train.py"], ["release", "digits"]):
            subprocess.run(
                [STEMMA, *words], cwd=folder, env=ENVIRONMENT, check=True, capture_output=True
            )
        yield folder
