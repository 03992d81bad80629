"""Eight writers and a collection in one project, all killed at random again and again.

By hand: ``python -m benchmarks.scenarios.killed_writers 10 [seed]``.

Each writer records model files and adds folders, and notes outside of the project what was
acknowledged; some collect instead.  Every one is killed after a random time, in rounds.  Then
everything acknowledged must be there bit for bit, ``doctor`` must find no harm, no lock may be
left, and nothing may rest in the store's temporary folder once the next command has written.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.durability import forks, project
from benchmarks.durability.copies import fill, said, tracked_faults
from benchmarks.durability.forks import Answer
from stemma.server.wiring import open_hub

_MODEL: Final = "toy"
_WRITERS: Final = 8
_COLLECTORS: Final = 2
_SECONDS: Final = (0.2, 2.5)
_SMALL_BYTES: Final = 90_000


def _write(root: Path, ledger: Path, seed: int) -> Answer:
    """Record and add until killed; a line of the ledger is what was acknowledged."""
    chance = random.Random(seed)
    number = 0
    with ledger.open("a", encoding="utf-8") as lines:
        while True:
            number += 1
            if chance.random() < 0.5:
                data = chance.randbytes(chance.randrange(_SMALL_BYTES))
                run = project.record_file(root, _MODEL, data)["run"]
                told = ["run", run, hashlib.sha256(data).hexdigest()]
            else:
                name = f"data-{seed}-{number}"
                fill(root / name, seed=seed * 1000 + number)
                answer = project.command(root, "add", name)
                if answer["code"]:
                    raise RuntimeError(str(answer))
                told = ["add", name, ""]
            lines.write(json.dumps(told) + "\n")
            lines.flush()


def _collect(root: Path, seed: int) -> Answer:
    """Collect until killed, with and without trash."""
    chance = random.Random(seed)
    while True:
        options = chance.choice(([], ["--empty-trash"]))
        answer = project.command(root, "gc", "--grace", "0", "--yes", *options)
        if answer["code"] not in {0, 11}:  # done, or somebody writes
            raise RuntimeError(str(answer))


def _faults(root: Path, told: list[list[str]]) -> Answer:
    """Compare what is there with what was acknowledged."""
    faults = list(project.doctor(root)["problems"])
    with closing(open_hub(root)) as hub:
        for kind, name, digest in told:
            if kind == "add":
                faults += [f"{name}: {fault}" for fault in tracked_faults(root, name)]
                continue
            manifest = hub.get_run(name).manifest
            if manifest is None:
                faults.append(f"run {name} is not finished")
                continue
            view = hub.resolve(f"{_MODEL}@{name}")
            entries = hub.objects.read_tree(view.manifest.artifact.content).entries
            read = [hub.objects.read_bytes(entry.digest) for entry in entries if entry.digest]
            if [hashlib.sha256(data).hexdigest() for data in read] != [digest]:
                faults.append(f"run {name} reads differently")
    return {"faults": faults}


def run(rounds: int = 10, seed: int = 6) -> dict[str, object]:
    """Kill for so many rounds; figures, and every failure in words."""
    project.preload()
    began = time.perf_counter()
    chance = random.Random(seed)
    failures: list[str] = []
    kills = 0
    with tempfile.TemporaryDirectory(prefix="stemma-killed-") as name:
        root, ledger = Path(name) / "project", Path(name) / "ledger"
        forks.call(partial(project.make, root))
        for number in range(rounds):
            seeds = [seed * 100 + number * 10 + place for place in range(_WRITERS + _COLLECTORS)]
            works = [partial(_write, root, Path(f"{ledger}-{one}"), one) for one in seeds]
            works[_WRITERS:] = [partial(_collect, root, one) for one in seeds[_WRITERS:]]
            ends = forks.together(works, [chance.uniform(*_SECONDS) for _ in works])
            kills += sum(end.was_killed for end in ends)
            failures += [
                f"round {number}: {str(end.answer['error'])[-1500:]}"
                for end in ends
                if end.answer is not None
            ]
        told = [
            json.loads(line)
            for path in sorted(Path(name).glob("ledger-*"))
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        failures += forks.call(partial(_faults, root, told))["faults"]
        said(forks.call(partial(project.command, root, "gc", "--grace", "0", "--yes")))
        fill(root / "last", seed=0)
        said(forks.call(partial(project.command, root, "add", "last")))
        left = list((root / ".stemma" / "objects" / "tmp").rglob("*"))
        failures += [f"left behind: {path}" for path in left]
        failures += forks.call(partial(_faults, root, told))["faults"]
    return {
        "kills": kills,
        "acknowledged": len(told),
        "failures": failures,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main(arguments: list[str]) -> int:
    """Run by hand with a number of rounds and a seed."""
    figures = run(*(int(argument) for argument in arguments))
    for key, value in figures.items():
        print(f"{key}: {value}")
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
