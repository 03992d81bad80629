"""``kill -9`` at every system call of add, push, pull and gc that changes the disk.

By hand, with strace: ``python -m benchmarks.scenarios.store_crashes [count] [seed]``; without a
count, at every call.

strace kills the verb as one of its threads enters its N-th call of a group: of all mutating
calls, and of writes, syncs and names apart, so that threads other than the main one are hit too.
After each kill, without any repair:

* what was acknowledged reads bit for bit, and ``doctor`` finds no harm, on both sides;
* whatever is visible is whole, also to somebody who pulls from the remote now;
* the same verb works at once.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from benchmarks.durability import forks, project
from benchmarks.durability.copies import Scene
from benchmarks.durability.forks import POINTS

_GROUPS: Final = {
    "any": POINTS,
    "write": "write,pwrite64,ftruncate",
    "sync": "fsync,fdatasync",
    "name": "link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat",
}
_SHOWN_CHARACTERS: Final = 1500


def run(count: int = 0, seed: int = 11, only: str = "") -> dict[str, object]:
    """Kill everywhere, or at ``count`` places chosen at random; figures, and every failure."""
    if not forks.has_tracer():
        return {"kills": {}, "failures": [], "skipped": "strace is not here or may not attach"}
    project.preload()
    began = time.perf_counter()
    kills: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="stemma-kills-") as name:
        scene = Scene(Path(name))
        places = _places(scene, Path(name) / "calls", only)
        chosen = random.Random(seed).sample(places, count) if count else places
        for verb, group, number in sorted(chosen):
            answered, faults = _trial(scene, verb, group, number)
            kills[f"{verb}, {'after' if answered else 'before'} the answer"] += 1
            failures += [f"{verb}, {group} call {number}: {fault}" for fault in faults]
    return {
        "places": dict(Counter(verb for verb, _, _ in places)),
        "kills": dict(kills),
        "failures": failures,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _places(scene: Scene, log: Path, only: str) -> list[tuple[str, str, int]]:
    """Return verb, group of calls and number of call of every place to kill at."""
    found = []
    for verb, work in scene.verbs().items():
        if only and verb != only:
            continue
        scene.restore(verb)
        _, end = forks.count_calls(work, log)
        if end.answer is None or end.answer.get("code", 1):
            raise RuntimeError(f"{verb}: {end.answer}")
        found += [
            (verb, group, number + 1)
            for group, points in _GROUPS.items()
            for number in range(forks.most_calls(log, points))
        ]
    return found


def _trial(scene: Scene, verb: str, group: str, number: int) -> tuple[bool, list[str]]:
    scene.restore(verb)
    work = scene.verbs()[verb]
    end = forks.kill_at_call(work, number, _GROUPS[group])
    is_done = end.answer is not None and not end.answer.get("code", 1)
    try:
        if end.answer is not None and not is_done:
            return True, [f"it failed: {end.answer}"]
        faults = scene.look(done=verb if is_done else "")
        answer = forks.watch(work).answer or {"error": "died"}
        if answer.get("code", 1):
            return is_done, [*faults, f"again: {str(answer)[-_SHOWN_CHARACTERS:]}"]
        faults += scene.look(done=verb)
    except RuntimeError as error:
        return is_done, [str(error)[-_SHOWN_CHARACTERS:]]
    return is_done, faults


def main(arguments: list[str]) -> int:
    """Run by hand with a count, a seed and a verb."""
    count, seed, only = (*arguments, *("0", "11", "")[len(arguments) :])
    figures = run(int(count), int(seed), only)
    for key, value in figures.items():
        print(f"{key}: {value}")
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
