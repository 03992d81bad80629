"""Start-up of the commands people wait for, over a bare interpreter.

Goals: ``stemma --version`` ≤ 4×, ``stemma status`` ≤ 10×, ``import stemma`` ≤ 2×.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import commands

BIN = Path(sys.executable).parent
DEMO = Path(__file__).parents[2] / "examples" / "demo"


def run() -> dict[str, object]:
    """Measure start-up in a project with one release; wall time, 20 interleaved rounds."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("train.py", "stemma.toml"):
            (folder / file).write_text((DEMO / file).read_text(encoding="utf-8"), encoding="utf-8")
        for command in (
            ["stemma", "init"],
            ["stemma", "run", "--", "python", "train.py"],
            ["stemma", "release", "digits"],
        ):
            subprocess.run(
                command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
            )
        best = commands(
            {
                "python -c pass": [sys.executable, "-c", "pass"],
                "import stemma": [sys.executable, "-c", "import stemma"],
                "stemma --version": [str(BIN / "stemma"), "--version"],
                "stemma status": [str(BIN / "stemma"), "status"],
                "stemma --help": [str(BIN / "stemma"), "--help"],
                "stemma log digits": [str(BIN / "stemma"), "log", "digits"],
            },
            rounds=20,
            cwd=folder,
            environment=environment,
        )
    bare = best["python -c pass"]["wall_ms"]
    return {
        name: {**times, "times_bare_python": times["wall_ms"] / bare}
        for name, times in best.items()
    }
