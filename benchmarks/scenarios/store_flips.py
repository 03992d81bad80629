"""One flipped bit at a time in what is stored, copied and pointed to: found, never delivered.

By hand: ``python -m benchmarks.scenarios.store_flips 300 [seed]``.

Here (frames, packs, recipes, trees, records, pointers) ``doctor`` must find the flip, and no
version or tracked folder may read as other bytes than were stored.  At the remote, a pull by
somebody who has the pointers must refuse or give the right bytes; then ``push --repair`` must
mend the remote, so that the next pull gives everything.  Bits whose flip changes nothing that
anybody reads are counted as *without effect* at the remote, and must not exist here.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.durability import forks, project
from benchmarks.durability.copies import MODEL, VERSIONS, Scene, said, tracked_faults
from benchmarks.durability.forks import Answer
from stemma.domain.errors import StemmaError

_FULL_COUNT: Final = 300
_REMOTE_SHARE: Final = 0.4
_POINTER_SHARE: Final = 0.05
_SHOWN_CHARACTERS: Final = 1200


class Flips:
    """Flips one bit of one file of a scene, looks at what follows, and puts it back."""

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        """Prepare a scene whose remote has everything, so that every bit there is read."""
        self._scene = scene
        self._chance = chance
        self.counts: dict[str, Counter[str]] = {}
        self.failures: list[str] = []
        forks.call(partial(project.command, scene.here, "gc", "--grace", "0", "--yes"))
        said(forks.call(partial(project.command, scene.here, "push")))
        scene.keep()

    def flip_here(self) -> None:
        """Flip a bit of the store beside the project."""
        objects = self._scene.here / ".stemma" / "objects"
        path = self._chosen(objects)
        kind = f"here, {path.relative_to(objects).parts[0]}"
        undo = self._flip(path)
        answer = forks.call(self._examine)
        undo()
        self._count(kind, path, is_found=bool(answer["problems"]), silent=answer["silent"])

    def flip_pointer(self) -> None:
        """Flip a bit of a pointer file."""
        path = self._scene.here / "data.stemma"
        undo = self._flip(path)
        answer = forks.call(self._examine)
        undo()
        self._count("pointer", path, is_found=bool(answer["problems"]), silent=answer["silent"])

    def flip_remote(self) -> None:
        """Flip a bit at the remote, pull, mend, and pull again."""
        path = self._chosen(self._scene.remote)
        kind = f"remote, {path.relative_to(self._scene.remote).parts[0]}"
        self._flip(path)
        first = forks.call(self._pull)
        mended = forks.call(partial(project.command, self._scene.here, "push", "--repair"))
        second = forks.call(self._pull)
        self._scene.restore()
        is_found = bool(first["code"])
        self._count(kind, path, is_found=is_found, silent=first["silent"] + second["silent"])
        if mended["code"] or second["code"]:
            shown = str((mended, second))[-_SHOWN_CHARACTERS:]
            self.failures.append(f"not mended: {path}: {shown}")

    def _chosen(self, folder: Path) -> Path:
        """Choose a file: each kind as often as the others, whatever its number of files."""
        found: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            kind = path.relative_to(folder).parts[0]
            if path.is_file() and kind not in {"tmp", "trash"} and path.stat().st_size:
                found.setdefault(kind, []).append(path)
        return self._chance.choice(found[self._chance.choice(sorted(found))])

    def _flip(self, path: Path) -> Callable[[], None]:
        """Flip a bit of a file; returns the way back."""
        data = path.read_bytes()
        mode = path.stat().st_mode
        bit = self._chance.randrange(len(data) * 8)
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.chmod(0o644)
        path.write_bytes(flipped)
        self._bit = bit

        def undo() -> None:
            path.write_bytes(data)
            path.chmod(mode)

        return undo

    def _count(self, kind: str, path: Path, *, is_found: bool, silent: list[str]) -> None:
        counts = self.counts.setdefault(kind, Counter())
        counts["flipped"] += 1
        counts["found"] += is_found
        counts["delivered silently"] += bool(silent)
        counts["without effect"] += not is_found and not silent
        name = f"{kind}, {path.name} bit {self._bit}"
        if silent:
            self.failures.append(f"delivered: {name}: {silent}")
        if not is_found and not kind.startswith("remote"):
            self.failures.append(f"not found: {name}")

    def _examine(self) -> Answer:
        """Ask doctor, and read everything here."""
        here = self._scene.here
        try:
            problems = project.doctor(here)["problems"]
        except StemmaError as error:
            problems = [error.message]
        silent = self._different(here, list(VERSIONS))
        with contextlib.suppress(StemmaError):
            silent += [fault for fault in tracked_faults(here, "data") if "differently" in fault]
        return {"problems": problems, "silent": silent}

    def _pull(self) -> Answer:
        """Pull into a new project, and read what it says that it has."""
        third = self._scene.there.with_name("third")
        shutil.rmtree(third, ignore_errors=True)
        shutil.copytree(self._scene.there, third, symlinks=True)
        shutil.copy(self._scene.here / "data.stemma", third)  # as git brings it
        answer = project.command(third, "pull")
        silent = self._different(third, list(VERSIONS) if answer["code"] == 0 else [])
        if answer["code"] == 0:
            silent += [f"data: {fault}" for fault in tracked_faults(third, "data")]
            silent += [
                f"data/{path.name} is different"
                for path in (self._scene.here / "data").iterdir()
                if path.read_bytes() != (third / "data" / path.name).read_bytes()
            ]
        if answer["code"] == 0 and (problems := project.doctor(third)["problems"]):
            silent.append(f"doctor after a pull that said all is well: {problems}")
        return {**answer, "silent": silent}

    def _different(self, root: Path, numbers: list[str]) -> list[str]:
        found = []
        for number in numbers:
            try:
                files = project.version(root, f"{MODEL}@{number}")["files"]
            except StemmaError:
                continue
            if files != self._scene.known[number]:
                found.append(f"{number} reads differently")
        return found


def run(count: int = _FULL_COUNT, seed: int = 4) -> dict[str, object]:
    """Flip ``count`` bits; figures, and every failure in words."""
    project.preload()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="stemma-flips-") as name:
        flips = Flips(Scene(Path(name)), random.Random(seed))
        remote_count = round(count * _REMOTE_SHARE)
        pointer_count = round(count * _POINTER_SHARE)
        for _ in range(count - remote_count - pointer_count):
            flips.flip_here()
        for _ in range(pointer_count):
            flips.flip_pointer()
        for _ in range(remote_count):
            flips.flip_remote()
    return {
        "flips": {kind: dict(counts) for kind, counts in sorted(flips.counts.items())},
        "failures": flips.failures,
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
