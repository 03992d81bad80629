"""Start-up of the commands people wait for, over a bare interpreter.

Goals: ``stemma --version`` ≤ 4×, ``stemma status`` ≤ 10×, ``import stemma`` ≤ 2×.
"""

from __future__ import annotations

import sys

from benchmarks.digits import ENVIRONMENT, STEMMA, digits_project
from benchmarks.measure import commands


def run() -> dict[str, object]:
    """Measure start-up in a project with one release; wall time, 20 interleaved rounds."""
    with digits_project() as folder:
        best = commands(
            {
                "python -c pass": [sys.executable, "-c", "pass"],
                "import stemma": [sys.executable, "-c", "import stemma"],
                "stemma --version": [STEMMA, "--version"],
                "stemma status": [STEMMA, "status"],
                "stemma --help": [STEMMA, "--help"],
                "stemma log digits": [STEMMA, "log", "digits"],
            },
            rounds=20,
            cwd=folder,
            environment=ENVIRONMENT,
        )
    bare = best["python -c pass"]["wall_ms"]
    return {
        name: {**times, "times_bare_python": times["wall_ms"] / bare}
        for name, times in best.items()
    }
