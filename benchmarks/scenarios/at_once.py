"""Eight processes record and release into one project at once, beside a collection.

By hand: ``python -m benchmarks.scenarios.at_once 8 10``.

Every release that was acknowledged is there once, with the bytes of its own run; numbers
and sequences have no gaps; ``doctor`` finds nothing.  A release that lost the race for a
number five times is told so (exit code 12) and asks again: those are counted.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.durability import forks, project
from benchmarks.durability.forks import Answer
from stemma.cli.exit_codes import ExitCode

_MODEL: Final = "shared"
_RETRIES: Final = 50


def _writer(root: Path, count: int) -> Answer:
    """Record and release ``count`` times; answers what was acknowledged."""
    acknowledged: list[list[str]] = []
    losses = 0
    for _ in range(count):
        run = project.record_file(root, _MODEL, b"weights\0" + os.urandom(40_000))["run"]
        for _ in range(_RETRIES):
            answer = project.release(root, _MODEL, "--run", run)
            if answer["code"] != ExitCode.CONFLICT:
                break
            losses += 1
        if answer["code"]:
            raise RuntimeError(str(answer))
        acknowledged.append([answer["payload"]["version"], answer["payload"]["manifest"]])
    return {"acknowledged": acknowledged, "lost races": losses}


def _collector(root: Path, seconds: float) -> Answer:
    """Collect without grace, again and again."""
    codes: list[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        codes.append(project.command(root, "gc", "--grace", "0", "--yes")["code"])
        time.sleep(0.05)
    return {"codes": codes}


def run(writers: int = 8, count: int = 10) -> dict[str, object]:
    """Let them write; figures, and every failure in words."""
    project.preload()
    with tempfile.TemporaryDirectory(prefix="stemma-at-once-") as name:
        root = Path(name) / "project"
        forks.call(partial(project.make, root))
        began = time.perf_counter()
        ends = forks.together(
            [
                *(partial(_writer, root, count) for _ in range(writers)),
                partial(_collector, root, count * 0.4),
            ]
        )
        seconds = time.perf_counter() - began
        answers = [end.answer or {"error": "died"} for end in ends]
        failures = [str(answer["error"])[-1500:] for answer in answers if "error" in answer]
        told = [pair for answer in answers for pair in answer.get("acknowledged", [])]
        seen = forks.call(partial(project.overview, root, [_MODEL]))["log"][_MODEL]
        there = [[row[1], row[2]] for row in seen]
        if sorted(told) != sorted(there):
            failures.append(f"acknowledged {sorted(told)}, there {sorted(there)}")
        if [row[0] for row in seen] != list(range(len(seen), 0, -1)):
            failures.append(f"sequences {[row[0] for row in seen]}")
        for version, manifest in told:
            read = forks.call(partial(project.version, root, f"{_MODEL}@{version}"))
            if read["manifest"] != manifest or not read["files"]:
                failures.append(f"{version} reads differently")
        failures += forks.call(partial(project.doctor, root))["problems"]
    return {
        "writers": writers,
        "acknowledged releases": len(told),
        "lost races": sum(answer.get("lost races", 0) for answer in answers),
        "collections": answers[-1].get("codes", []).count(ExitCode.DONE),
        "collections that gave up": answers[-1].get("codes", []).count(ExitCode.LOCKED),
        "failures": failures,
        "seconds": round(seconds, 1),
    }


def main(arguments: list[str]) -> int:
    """Run by hand with a number of writers and of releases of each."""
    figures = run(*(int(argument) for argument in arguments))
    for key, value in figures.items():
        print(f"{key}: {value}")
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
