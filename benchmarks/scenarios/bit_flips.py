"""One flipped bit at a time, over everything that is stored: found, and never delivered.

By hand: ``python -m benchmarks.scenarios.bit_flips 300 [seed]``.

In a project with releases, channels, curves and tracked data, one bit of one file is
flipped, ``doctor`` examines the project, every reading verb is asked, and the bytes are put
back.  *Found* means that ``doctor`` reports a problem or refuses the database.  *Silent*
means that a reading verb answered something else than before without an error: never.

A second round does the same with a database that a killed process left behind: with a
write-ahead log, and a seal that is older than the file.  There, bits in pages that the log
replaces, and in unused bytes, are *without effect*: not found, and no answer differs.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.durability import forks, project
from benchmarks.durability.answers import answers, differing
from benchmarks.durability.forks import Answer
from stemma.domain.errors import StemmaError
from stemma.hub.base import ReleaseRequest
from stemma.server.wiring import examine_project, open_hub

_FULL_COUNT: Final = 300
_SHARES: Final = {
    "packs": 0.15,
    "frames": 0.2,
    "recipes": 0.1,
    "trees": 0.1,
    "records": 0.15,
    "stemma.db": 0.25,
    "stemma.db.seal": 0.05,
    "stemma.db.mark": 0.05,
    "pointers": 0.1,
}
_REFS: Final = ["digits@1.0.0", "digits", "digits@stable", "digits@^1", "digits@previous"]


class Flips:
    """A project, what it answers, and what one flipped bit does to that."""

    def __init__(self, root: Path, refs: list[str], chance: random.Random) -> None:
        """Ask everything once."""
        self._root = root
        self._refs = refs
        self._chance = chance
        self._is_after_crash = (root / ".stemma" / "stemma.db-wal").exists()
        self._pointers = sorted(root.glob("?*.stemma"))
        self._database = {path: path.read_bytes() for path in root.glob(".stemma/stemma.db*")}
        self.counts: dict[str, Counter[str]] = {}
        self.faults: list[str] = []
        self._before = answers(root, refs, self._pointers)
        self._restore()
        refused = [name for name, answer in self._before.items() if answer == "refused"]
        report = examine_project(root)
        self._restore()
        if refused or not report.is_healthy:
            raise RuntimeError(f"not sound to begin with: {refused} {report.findings}")

    def files(self, kind: str) -> list[Path]:
        """Return the files of a kind."""
        state = self._root / ".stemma"
        if kind == "pointers":
            return self._pointers
        if kind.startswith("stemma.db"):
            return [state / kind]
        found = (path for path in (state / "objects" / kind).rglob("*") if path.is_file())
        return sorted(path for path in found if path.stat().st_size)

    def flip(self, kind: str) -> None:
        """Flip one bit of one file of a kind, look, and put it back."""
        files = self.files(kind)
        if not files:  # all that is of this kind rests in packs
            return
        path = self._chance.choice(files)
        data = path.read_bytes()
        bit = self._chance.randrange(len(data) * 8)
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        mode = path.stat().st_mode
        path.chmod(0o644)
        path.write_bytes(flipped)
        name = f"{path.relative_to(self._root)} bit {bit}"
        try:
            silent = differing(self._before, answers(self._root, self._refs, self._pointers))
            self._restore(flipped=path, content=bytes(flipped))
            is_found = self._is_found()
        finally:
            path.write_bytes(data)
            path.chmod(mode)
            self._restore()
        counts = self.counts.setdefault(kind, Counter())
        counts["flipped"] += 1
        counts["found"] += is_found
        counts["delivered silently"] += bool(silent)
        counts["without effect"] += not is_found and not silent
        if not is_found and not self._may_miss(kind):
            self.faults.append(f"not found: {name}")
        if silent:
            self.faults.append(f"answers differ: {name}: {', '.join(silent)}")

    def _may_miss(self, kind: str) -> bool:
        """Whether no one vouches for unused bytes: an older seal says nothing of a newer file."""
        return self._is_after_crash and kind == "stemma.db"

    def _is_found(self) -> bool:
        try:
            return not examine_project(self._root).is_healthy
        except StemmaError:
            return True

    def _restore(self, *, flipped: Path | None = None, content: bytes = b"") -> None:
        """Put the database's files back: closing folds the log and seals the file."""
        for path in self._root.glob(".stemma/stemma.db*"):
            if path not in self._database:
                path.unlink()
        for path, data in self._database.items():
            path.write_bytes(content if path == flipped else data)


def _make(root: Path) -> None:
    forks.call(partial(project.make, root))
    for c in (1.0, 0.999):
        forks.call(partial(project.train, root, "train.py", c))
        forks.call(partial(project.release, root))
    (root / "table.csv").write_text("".join(f"{n},{n * n}\n" for n in range(3000)))
    (root / "images").mkdir()
    for number in range(4):
        (root / "images" / f"{number}.bin").write_bytes(random.Random(number).randbytes(5000))
    forks.call(partial(project.command, root, "add", "table.csv", "images"))


def _release_and_die(root: Path) -> Answer:
    """Release and move a channel, acknowledged, and die before anything is tidied up."""
    with closing(open_hub(root)) as hub:
        hub.release(ReleaseRequest(model=project.MODEL, channel="stable"))
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def run(count: int = _FULL_COUNT, seed: int = 3) -> dict[str, object]:
    """Flip ``count`` bits in a sound project, and a third as many in one that a crash left."""
    project.preload()
    began = time.perf_counter()
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="stemma-flips-") as name:
        root = Path(name) / "sound"
        _make(root)
        left = Path(name) / "left"
        shutil.copytree(root, left)
        flips = Flips(root, _REFS, chance)
        for kind, share in _SHARES.items():
            for _ in range(round(share * count)):
                flips.flip(kind)
        forks.call(partial(project.train, left, "train.py", 0.5))
        forks.watch(partial(_release_and_die, left))
        after_crash = Flips(left, _REFS, chance)
        for kind in ("stemma.db-wal", "stemma.db-wal", "stemma.db"):
            for _ in range(count // 6):
                after_crash.flip(kind)
    return {
        "sound project": {kind: dict(counts) for kind, counts in flips.counts.items()},
        "failures": flips.faults,
        "after a crash": {kind: dict(counts) for kind, counts in after_crash.counts.items()},
        "failures after a crash": after_crash.faults,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main(arguments: list[str]) -> int:
    """Run by hand with a count and a seed."""
    figures = run(*(int(argument) for argument in arguments))
    for key, value in figures.items():
        print(f"{key}: {value}")
    return 1 if figures["failures"] or figures["failures after a crash"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
