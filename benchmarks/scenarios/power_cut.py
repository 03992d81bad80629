"""A power cut at every step of run, release and gc, in a model of the disk.

By hand, with strace: ``python -m benchmarks.scenarios.power_cut [seed]``.

A verb's system calls are recorded and replayed in ``disk_model``, which knows what fsync
makes certain.  After each call that changes something, what a power cut may leave is put
on a real disk: once with nothing but the certain, and with some of the rest kept at random.
Each of these must open: ``doctor`` healthy, everything from before there, and after the
verb's end what it acknowledged.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.durability import forks, project
from benchmarks.durability.copies import fill
from benchmarks.durability.disk_model import Disk
from benchmarks.durability.forks import Answer

_MODEL: Final = "toy"
_FOLDER: Final = "data"
_RANDOM_IMAGES: Final = 2


def run(seed: int = 5) -> dict[str, object]:
    """Cut the power everywhere; figures, and every failure in words."""
    if not forks.has_tracer():
        return {"cuts": {}, "failures": [], "skipped": "strace is not here or may not attach"}
    project.preload()
    began = time.perf_counter()
    cuts: dict[str, int] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="stemma-power-") as name:
        root = Path(name) / "project"
        forks.call(partial(project.make, root))
        forks.call(partial(project.record_file, root, _MODEL, b"first" * 9000))
        forks.call(partial(project.release, root, _MODEL))
        forks.call(partial(project.litter, root))
        fill(root / _FOLDER, seed=3)
        for verb, work in _verbs(root).items():
            cutting = _Cuts(root, Path(name), random.Random(seed))
            cutting.run(verb, work)
            cuts[verb] = cutting.count
            failures += cutting.failures
    return {"cuts": cuts, "failures": failures, "seconds": round(time.perf_counter() - began, 1)}


def _verbs(root: Path) -> dict[str, Callable[[], Answer]]:
    return {
        "put_bytes": partial(project.put, root, random.Random(1).randbytes(90_000)),
        "add": partial(project.command, root, "add", _FOLDER),
        "run": partial(project.record_file, root, _MODEL, random.Random(2).randbytes(90_000)),
        "release": partial(project.release, root, _MODEL),
        "gc": partial(project.command, root, "gc", "--grace", "0", "--yes"),
        "gc --restore": partial(project.command, root, "gc", "--restore"),
        "gc --empty-trash": partial(
            project.command, root, "gc", "--grace", "0", "--yes", "--empty-trash"
        ),
    }


class _Cuts:
    """One verb, cut everywhere."""

    def __init__(self, root: Path, folder: Path, chance: random.Random) -> None:
        self._root = root
        self._log = folder / "calls"
        self._image = folder / "image"
        self._chance = chance
        self.count = 0
        self.failures: list[str] = []

    def run(self, verb: str, work: Callable[[], Answer]) -> None:
        """Record the verb, then look at what each moment may leave."""
        before = forks.call(partial(project.overview, self._root, [_MODEL]))
        disk = Disk(self._root)
        forks.trace(work, self._log)
        after = forks.call(partial(project.overview, self._root, [_MODEL]))
        step = "start"
        for number, step in enumerate(disk.replay(self._log)):
            self._look(disk, f"{verb}, after call {number}, {step}", before)
        self._look(disk, f"{verb}, at its end", before, after, is_end=True)
        assert step != "start"

    def _look(
        self,
        disk: Disk,
        name: str,
        before: Answer,
        after: Answer | None = None,
        *,
        is_end: bool = False,
    ) -> None:
        for chance in (None, *[self._chance] * _RANDOM_IMAGES):
            self._write(disk.after_power_cut(chance))
            self.count += 1
            try:
                seen = forks.call(
                    partial(project.survey, self._image, [f"{_MODEL}@1.0.0"], [_MODEL])
                )
            except RuntimeError as error:
                self.failures.append(f"{name}: {str(error).strip().splitlines()[-1]}")
                continue
            faults = list(seen["doctor"]["problems"])
            faults += _missing(before, seen)
            if is_end and after is not None:
                faults += _missing(after, seen)
            self.failures += [f"{name}: {fault}" for fault in faults]

    def _write(self, files: dict[Path, bytes]) -> None:
        shutil.rmtree(self._image, ignore_errors=True)
        for path, data in files.items():
            target = self._image / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def _missing(before: Answer, seen: Answer) -> list[str]:
    """Name what was acknowledged and is not there; expired candidates may go."""
    faults = [
        f"release {row} is gone" for row in before["log"][_MODEL] if row not in seen["log"][_MODEL]
    ]
    faults += [
        f"run {run} was {state}, is {seen['runs'].get(run)}"
        for run, state in before["runs"].items()
        if state[0] == "finished" and run in before["of model"] and seen["runs"].get(run) != state
    ]
    if before["channels"][_MODEL] and not seen["channels"][_MODEL]:
        faults.append("no channel is left")
    return faults


def main(arguments: list[str]) -> int:
    """Run by hand with a seed."""
    figures = run(*(int(argument) for argument in arguments))
    for key, value in figures.items():
        print(f"{key}: {value}")
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
