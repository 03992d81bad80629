"""``kill -9`` during run, release and gc: acknowledged is there, half-made is not seen.

By hand: ``python -m benchmarks.scenarios.crashes 200 [seed]``.

Each trial lets one verb run in a fork and kills it: after a random time drawn from the
verb's measured duration, and, where strace may attach, half of the time as it enters a
randomly chosen system call that changes the disk.  Then, from a ledger outside of the
project that holds what was acknowledged:

* every acknowledged run, release and channel move is there, files byte for byte;
* nothing half-made is visible, numbers have no gaps;
* ``doctor`` finds nothing but harmless notes, and no lock is left;
* the same verb works at once, and the next release gets the number that it should.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.durability import forks, project
from benchmarks.durability.forks import Answer, End

VERBS: Final = ("run", "release", "gc")
_FULL_COUNT: Final = 200
_TRIALS_PER_PROJECT: Final = 24
_MEASURED_ROUNDS: Final = 3


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What was acknowledged, kept outside of the project.

    Attributes:
        runs: Finished runs.
        versions: Number -> what reading it answers.
        numbers: Numbers in the order in which they were acknowledged.
        stable: Where ``stable`` was last said to point.
    """

    runs: set[str] = field(default_factory=set)
    versions: dict[str, Answer] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    stable: str = ""


class Trials:
    """One project after another, each killed at many times."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Prepare; nothing runs yet."""
        self._folder = folder
        self._chance = random.Random(seed)
        self._root = folder
        self._ledger = Ledger()
        self._seconds: dict[str, float] = {}
        self._calls: dict[str, int] = {}
        self._is_exact = forks.has_tracer()
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    def run(self, count: int) -> None:
        """Run ``count`` trials, verbs in turn."""
        for number in range(count):
            if number % _TRIALS_PER_PROJECT == 0:
                self._new_project(number)
            verb = VERBS[number % len(VERBS)]
            try:
                self._trial(number, verb)
            except RuntimeError as error:
                self.failures.append(f"trial {number}, {verb}: {str(error)[-1500:]}")
                self._new_project(number)

    # the verbs ------------------------------------------------------------------------------

    def _work(self, verb: str) -> Callable[[], Answer]:
        match verb:
            case "run":
                c = round(self._chance.uniform(0.2, 3), 6)
                return partial(project.train, self._root, "train.py", c)
            case "release":
                return partial(project.release, self._root)
            case _:
                return partial(project.command, self._root, "gc", "--grace", "0", "--yes")

    def _prepare(self, verb: str) -> str:
        """Bring about what the verb works on; returns the number that a release should get."""
        if verb == "gc":
            forks.call(partial(project.litter, self._root))
        if verb != "release":
            return ""
        self._note_run(forks.call(self._work("run")))
        plan = forks.call(partial(project.release, self._root, project.MODEL, "--dry-run"))
        return str(plan["payload"]["version"])

    def _note_run(self, answer: Answer) -> None:
        self._ledger.runs.add(answer["run"])

    def _note_release(self, version: str) -> None:
        ref = f"{project.MODEL}@{version}"
        seen = forks.call(partial(project.version, self._root, ref))
        self._ledger.versions[version] = {key: seen[key] for key in ("manifest", "files")}
        self._ledger.numbers.append(version)
        self._ledger.stable = version

    def _new_project(self, number: int) -> None:
        self._root = self._folder / f"project-{number}"
        while self._root.exists():
            self._root = self._root.with_name(self._root.name + "x")
        self._ledger = Ledger()
        forks.call(partial(project.make, self._root))
        self._note_run(forks.call(self._work("run")))
        self._note_release(forks.call(self._work("release"))["payload"]["version"])
        if not self._seconds:
            self._measure()

    def _measure(self) -> None:
        for verb in VERBS:
            times = []
            for _ in range(_MEASURED_ROUNDS):
                expected = self._prepare(verb)
                end = forks.watch(self._work(verb))
                times.append(end.seconds)
                self._acknowledge(verb, end, expected)
            self._seconds[verb] = median(times)
            if self._is_exact:
                expected = self._prepare(verb)
                log = self._folder / "calls"
                self._calls[verb], end = forks.count_calls(self._work(verb), log)
                self._acknowledge(verb, end, expected)

    # one trial ------------------------------------------------------------------------------

    def _trial(self, number: int, verb: str) -> None:
        expected = self._prepare(verb)
        before = forks.call(partial(project.overview, self._root))
        work = self._work(verb)
        if self._is_exact and number // len(VERBS) % 2:
            how = "at a system call"
            end = forks.kill_at_call(work, self._chance.randint(1, self._calls[verb]))
        else:
            how = "after a time"
            delay = self._chance.uniform(0, self._seconds[verb])
            end = forks.watch(work, kill_after_seconds=delay)
        self.counts[f"{verb}, {how}"] += 1
        self.counts["killed before the answer"] += end.was_killed and end.answer is None
        self.counts["killed after the answer or ended"] += end.answer is not None
        self._acknowledge(verb, end, expected)
        self._examine(f"trial {number}, {verb} {how}", verb, before, expected)

    def _acknowledge(self, verb: str, end: End, expected: str) -> None:
        if end.answer is None:
            return
        if "error" in end.answer or end.answer.get("code", 0):
            raise RuntimeError(str(end.answer))
        if verb == "run":
            self._note_run(end.answer)
        if verb == "release":
            if end.answer["payload"]["version"] != expected:
                raise RuntimeError(f"released {end.answer['payload']['version']}, not {expected}")
            self._note_release(expected)

    def _examine(self, name: str, verb: str, before: Answer, expected: str) -> None:
        seen, faults = self._survey()
        log = seen["log"][project.MODEL]
        if [row[0] for row in log] != list(range(len(log), 0, -1)):
            faults.append(f"gaps in {log}")
        fresh = [row[1] for row in log][: len(log) - len(before["log"][project.MODEL])]
        if fresh not in ([], [expected]):
            faults.append(f"new releases {fresh}, expected {expected}")
        faults += self._again(verb, expected)
        seen, after = self._survey()
        faults += after + seen["half_made"]
        if expected and seen["channels"][project.MODEL].get("stable") != expected:
            faults.append(f"stable is at {seen['channels']}, not at {expected}")
        self.failures += [f"{name}: {fault}" for fault in faults]

    def _again(self, verb: str, expected: str) -> list[str]:
        """Run the same verb once more: it must work at once, and say the number it should."""
        answer = forks.watch(self._work(verb)).answer or {"error": "killed"}
        if "error" in answer or answer.get("code", 0):
            return [f"again: {str(answer)[-1500:]}"]
        if verb == "run":
            self._note_run(answer)
        if verb == "release":
            if answer["payload"]["version"] != expected:
                return [f"again: {answer['payload']['version']}, not {expected}"]
            if expected not in self._ledger.versions:
                self._note_release(expected)
        return []

    def _survey(self) -> tuple[Answer, list[str]]:
        """Compare the ledger with what is there: all names, and files of two versions."""
        picked = {self._ledger.numbers[-1], self._chance.choice(self._ledger.numbers)}
        refs = {number: f"{project.MODEL}@{number}" for number in sorted(picked)}
        seen = forks.call(partial(project.survey, self._root, list(refs.values())))
        self.notes.update(seen["doctor"]["notes"])
        faults = [f"doctor: {problem}" for problem in seen["doctor"]["problems"]]
        faults += [
            f"run {run} is {seen['runs'].get(run)}"
            for run in self._ledger.runs
            if seen["runs"].get(run, ["gone"])[0] != "finished"
        ]
        there = {row[1]: row[2] for row in seen["log"][project.MODEL]}
        for number, known in self._ledger.versions.items():
            if there.get(number) != known["manifest"]:
                faults.append(f"release {number} is {there.get(number)}")
        for number, ref in refs.items():
            read = seen["versions"][ref]
            if {key: read[key] for key in ("manifest", "files")} != self._ledger.versions[number]:
                faults.append(f"release {number} reads differently")
        moves = [move[1] for move in seen["moves"][project.MODEL]]
        if self._ledger.stable not in moves[:2]:
            faults.append(f"stable was acknowledged at {self._ledger.stable}; moves {moves}")
        return seen, faults


def run(count: int = _FULL_COUNT, seed: int = 2) -> dict[str, object]:
    """Kill ``count`` verbs; figures, and every failure in words."""
    project.preload()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="stemma-crashes-") as name:
        trials = Trials(Path(name), seed)
        trials.run(count)
    return {
        "trials": count,
        "kinds": dict(trials.counts),
        "harmless_notes": dict(trials.notes),
        "failures": trials.failures,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main(arguments: list[str]) -> int:
    """Run by hand with a count and a seed."""
    figures = run(*(int(argument) for argument in arguments))
    for key, value in figures.items():
        print(f"{key}: {value}")
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
