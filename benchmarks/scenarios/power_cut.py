"""A power cut at every step of run, release, push and gc, in a model of the disk.

By hand, with strace: ``python -m benchmarks.scenarios.power_cut [seed] [verb]``.

A verb's system calls are recorded and replayed in ``disk_model``, which knows what fsync
makes certain.  After each call that changes something, what a power cut may leave is put
on a real disk: once with nothing but the certain, and with some of the rest kept at random.
Each of these must open: ``doctor`` healthy, everything from before there, and after the
verb's end what it acknowledged.  Of a push, the remote is a folder of the same disk: somebody
else must be able to pull what was there, and after a second push everything.

What is left is put where the project was, since projects know their remote by its absolute
path.  What was found whole is not looked at again when another moment leaves the same bytes.
"""

from __future__ import annotations

import hashlib
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
from benchmarks.durability.copies import fill, said
from benchmarks.durability.disk_model import Disk
from benchmarks.durability.forks import Answer

_MODEL: Final = "toy"
_FOLDER: Final = "data"
_RANDOM_IMAGES: Final = 2


def run(seed: int = 5, only: str = "") -> dict[str, object]:
    """Cut the power everywhere; figures, and every failure in words."""
    if not forks.has_tracer():
        return {"cuts": {}, "failures": [], "skipped": "strace is not here or may not attach"}
    project.preload()
    began = time.perf_counter()
    cuts: dict[str, int] = {}
    images: dict[str, int] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="stemma-power-") as name:
        place = Place(Path(name))
        for verb, work in _verbs(place.here).items():
            if only and verb != only:
                forks.call(work)
                continue
            cutting = _Cuts(place, random.Random(seed))
            cutting.run(verb, work)
            cuts[verb] = cutting.count
            images[verb] = cutting.image_count
            failures += cutting.failures
    return {
        "cuts": cuts,
        "different images": images,
        "failures": failures,
        "seconds": round(time.perf_counter() - began, 1),
    }


class Place:
    """A project and its remote on one disk, and somebody else on another.

    Attributes:
        disk: Folder of both.
        here: The project; its remote has the first release.
        elsewhere: A project that knows the remote and has nothing.
        folder: For what else is needed.
    """

    def __init__(self, folder: Path) -> None:
        """Make everything in ``folder``."""
        self.folder = folder
        self.disk = folder / "disk"
        self.here = self.disk / "project"
        self.elsewhere = folder / "elsewhere"
        remote = ["remote", "add", "origin", str(self.disk / "remote")]
        for root in (self.here, self.elsewhere):
            forks.call(partial(project.make, root))
            said(forks.call(partial(project.command, root, *remote)))
        forks.call(partial(project.record_file, self.here, _MODEL, b"first" * 9000))
        said(forks.call(partial(project.release, self.here, _MODEL)))
        said(forks.call(partial(project.command, self.here, "push")))
        forks.call(partial(project.litter, self.here))
        fill(self.here / _FOLDER, seed=3)

    def pulled(self, numbers: list[str]) -> Answer:
        """Pull into a new project; names what is wrong with what comes, or does not."""
        third = self.folder / "third"
        shutil.rmtree(third, ignore_errors=True)
        shutil.copytree(self.elsewhere, third, symlinks=True)
        answer = project.command(third, "pull")
        if answer["code"]:
            return {"faults": [f"nobody can pull: {answer['stderr']}"]}
        faults = [f"pulled: {problem}" for problem in project.doctor(third)["problems"]]
        seen = [row[1] for row in project.overview(third, [_MODEL])["log"][_MODEL]]
        faults += [f"pulled: no {number}" for number in numbers if number not in seen]
        refs = [f"{_MODEL}@{number}" for number in seen]
        faults += [
            f"pulled: {ref} reads differently"
            for ref in refs
            if project.version(third, ref)["files"] != project.version(self.here, ref)["files"]
        ]
        return {"faults": faults}


def _verbs(root: Path) -> dict[str, Callable[[], Answer]]:
    return {
        "put_bytes": partial(project.put, root, random.Random(1).randbytes(90_000)),
        "add": partial(project.command, root, "add", _FOLDER),
        "run": partial(project.record_file, root, _MODEL, random.Random(2).randbytes(90_000)),
        "release": partial(project.release, root, _MODEL),
        "push": partial(project.command, root, "push"),
        "gc": partial(project.command, root, "gc", "--grace", "0", "--yes"),
        "gc --restore": partial(project.command, root, "gc", "--restore"),
        "gc --empty-trash": partial(
            project.command, root, "gc", "--grace", "0", "--yes", "--empty-trash"
        ),
    }


class _Cuts:
    """One verb, cut everywhere."""

    def __init__(self, place: Place, chance: random.Random) -> None:
        self._place = place
        self._log = place.folder / "calls"
        self._aside = place.folder / "aside"
        self._chance = chance
        self._whole: set[tuple[bool, str]] = set()
        self.count = 0
        self.image_count = 0
        self.failures: list[str] = []

    def run(self, verb: str, work: Callable[[], Answer]) -> None:
        """Record the verb, then look at what each moment may leave."""
        place = self._place
        before = forks.call(partial(project.overview, place.here, [_MODEL]))
        disk = Disk(place.disk)
        answer = forks.trace(work, self._log).answer
        if answer is None or answer.get("code"):
            raise RuntimeError(f"{verb}: {answer}")
        after = forks.call(partial(project.overview, place.here, [_MODEL]))
        place.disk.rename(self._aside)
        step = "start"
        for number, step in enumerate(disk.replay(self._log)):
            self._look(disk, f"{verb}, after call {number}, {step}", before)
        self._look(disk, f"{verb}, at its end", before, after)
        assert step != "start"
        shutil.rmtree(place.disk)
        self._aside.rename(place.disk)

    def _look(self, disk: Disk, name: str, before: Answer, after: Answer | None = None) -> None:
        for chance in (None, *[self._chance] * _RANDOM_IMAGES):
            files = disk.after_power_cut(chance)
            self.count += 1
            state = (after is not None, _digest(files))
            if state in self._whole:
                continue
            self.image_count += 1
            _write(self._place.disk, files)
            try:
                faults = self._faults(before, after)
                if name.startswith("push"):
                    faults += self._faults_of_push(before, after)
            except RuntimeError as error:
                faults = [str(error).strip().splitlines()[-1]]
            self.failures += [f"{name}: {fault}" for fault in faults]
            if not faults:
                self._whole.add(state)

    def _faults(self, before: Answer, after: Answer | None) -> list[str]:
        survey = partial(project.survey, self._place.here, [f"{_MODEL}@1.0.0"], [_MODEL])
        seen = forks.call(survey)
        faults = [*seen["doctor"]["problems"], *_missing(before, seen)]
        return faults if after is None else faults + _missing(after, seen)

    def _faults_of_push(self, before: Answer, after: Answer | None) -> list[str]:
        """Pull what is at the remote, push again, and pull everything."""
        numbers = [row[1] for row in before["log"][_MODEL]]
        pushed = numbers if after is not None else ["1.0.0"]
        faults: list[str] = forks.call(partial(self._place.pulled, pushed))["faults"]
        again = forks.call(partial(project.command, self._place.here, "push"))
        if again["code"]:
            return [*faults, f"pushing again: {again['stderr']}"]
        return faults + forks.call(partial(self._place.pulled, numbers))["faults"]


def _digest(files: dict[Path, bytes]) -> str:
    hasher = hashlib.sha256()
    for path, data in sorted(files.items()):
        hasher.update(f"{path} {len(data)}\n".encode())
        hasher.update(data)
    return hasher.hexdigest()


def _write(root: Path, files: dict[Path, bytes]) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for path, data in files.items():
        target = root / path
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
    """Run by hand with a seed and a verb."""
    seed, only = (*arguments, *("5", "")[len(arguments) :])
    figures = run(int(seed), only)
    for key, value in figures.items():
        print(f"{key}: {value}")
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
