"""A project, a folder remote and a second project: what storing and copying are tried on.

``Scene`` makes them once and puts them back before every trial, at the same path, since
projects know their remote by its absolute path.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import struct
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.durability import forks, project
from benchmarks.durability.forks import Answer
from stemma.catalog.pointers import read_pointer
from stemma.domain.errors import NotFoundError
from stemma.server.wiring import open_hub

MODEL: Final = "toy"
VERSIONS: Final = ("1.0.0", "2.0.0")
_ROWS: Final = 300
_COLUMNS: Final = 256
_SMALL_FILES: Final = 12
_BACK: Final = "gc --restore"

Work = Callable[[], Answer]


class Scene:
    """Two projects and a remote between them.

    Attributes:
        here: Has both versions, tracked data, litter, and a folder ``fresh`` not yet added.
        remote: Has the first version.
        there: Knows the remote and has nothing.
        known: What reading each version answers.

    A side that is, byte for byte and moment for moment, as it was when it was found whole is
    not looked at again: most trials change one side of three.
    """

    def __init__(self, folder: Path) -> None:
        """Make everything in ``folder``."""
        self._kept = folder / "kept"
        self._collected = folder / "collected"
        self._work = folder / "work"
        self._whole: set[tuple[str, str, str]] = set()
        self.here = self._work / "here"
        self.there = self._work / "there"
        self.remote = self._work / "remote"
        self._make()
        self.known = {
            number: forks.call(partial(project.version, self.here, f"{MODEL}@{number}"))["files"]
            for number in VERSIONS
        }
        self.keep()

    def keep(self) -> None:
        """Let ``restore`` come back to what is there now."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self._work, self._kept, symlinks=True)

    def restore(self, verb: str = "") -> None:
        """Put everything back as it was made; for ``gc --restore``, as a collection left it."""
        kept = self._collected if verb == _BACK else self._kept
        if kept is self._collected and not kept.exists():
            self.restore()
            said(forks.call(self.verbs()["gc"]))
            shutil.copytree(self._work, kept, symlinks=True)
        shutil.rmtree(self._work, ignore_errors=True)
        shutil.copytree(kept, self._work, symlinks=True)

    def verbs(self) -> dict[str, Work]:
        """Return what is tried, by name; each works on the scene as it was made."""
        collect = ["gc", "--grace", "0", "--yes"]
        return {
            "add": partial(project.command, self.here, "add", "fresh"),
            "push": partial(project.command, self.here, "push"),
            "pull": partial(project.command, self.there, "pull"),
            "gc": partial(project.command, self.here, *collect),
            _BACK: partial(project.command, self.here, *_BACK.split()),
            "gc --empty-trash": partial(project.command, self.here, *collect, "--empty-trash"),
        }

    def look(self, *, done: str = "") -> list[str]:
        """Return everything that is wrong now; ``done`` names a verb that was acknowledged."""
        faults: list[str] = []
        looks = {
            self.here: self._look_here,
            self.there: self._look_there,
            self.remote: self._look_from_elsewhere,
        }
        for side, look in looks.items():
            state = (side.name, done, _state(side))
            if state in self._whole:
                continue
            found = forks.call(partial(look, done))["faults"]
            if not found:
                self._whole.add(state)
            faults += found
        return faults

    def _make(self) -> None:
        self._work.mkdir(parents=True)
        forks.call(partial(project.make, self.here))
        forks.call(partial(project.make, self.there))
        for root in (self.here, self.there):
            said(forks.call(partial(project.command, root, "remote", "add", "origin", self._url)))
        chance = np.random.default_rng(7)
        weights = chance.standard_normal((_ROWS, _COLUMNS)).astype(np.float32)
        fill(self.here / "data", seed=1)
        said(forks.call(partial(project.command, self.here, "add", "data")))
        self._release(weights)
        said(forks.call(partial(project.command, self.here, "push")))
        self._release(weights + chance.standard_normal(weights.shape).astype(np.float32) * 1e-4)
        forks.call(partial(project.litter, self.here))
        fill(self.here / "fresh", seed=2)
        (self.here / "fresh" / "w.safetensors").write_bytes(safetensors(weights * 2))

    @property
    def _url(self) -> str:
        return str(self.remote)

    def _release(self, weights: np.ndarray) -> None:
        data = safetensors(weights)
        forks.call(partial(project.record_file, self.here, MODEL, data))
        said(forks.call(partial(project.release, self.here, MODEL)))

    def _look_here(self, done: str) -> Answer:
        faults = [f"here: {problem}" for problem in project.doctor(self.here)["problems"]]
        faults += [f"here: {what}" for what in project.half_made(self.here)]
        faults += self._unlike(self.here, VERSIONS)
        faults += [f"data: {fault}" for fault in tracked_faults(self.here, "data")]
        fresh = tracked_faults(self.here, "fresh")
        if (self.here / "fresh.stemma").exists() or done == "add":
            faults += [f"fresh: {fault}" for fault in fresh]
        return {"faults": faults}

    def _look_there(self, done: str) -> Answer:
        faults = [f"there: {problem}" for problem in project.doctor(self.there)["problems"]]
        seen = [row[1] for row in project.overview(self.there, [MODEL])["log"][MODEL]]
        expected: tuple[str, ...] = VERSIONS[:1] if done == "pull" else ()
        faults += [f"there: no {number}" for number in expected if number not in seen]
        return {"faults": faults + self._unlike(self.there, seen)}

    def _look_from_elsewhere(self, done: str) -> Answer:
        """Look with the eyes of a third one, who pulls from the remote now."""
        third = self._work / "third"
        shutil.rmtree(third, ignore_errors=True)
        shutil.copytree(self._kept / "there", third, symlinks=True)
        answer = project.command(third, "pull")
        if answer["code"]:
            return {"faults": [f"pulling from the remote: {answer}"]}
        faults = [f"third: {problem}" for problem in project.doctor(third)["problems"]]
        seen = [row[1] for row in project.overview(third, [MODEL])["log"][MODEL]]
        expected = VERSIONS if done == "push" else VERSIONS[:1]
        faults += [f"third: no {number}" for number in expected if number not in seen]
        return {"faults": faults + self._unlike(third, seen)}

    def _unlike(self, root: Path, numbers: tuple[str, ...] | list[str]) -> list[str]:
        """Name each version that does not read as it did when it was made."""
        faults = []
        for number in numbers:
            try:
                files = project.version(root, f"{MODEL}@{number}")["files"]
            except NotFoundError as error:
                faults.append(f"{root.name} {number}: {error.message}")
                continue
            if files != self.known[number]:
                faults.append(f"{root.name} {number} reads differently")
        return faults


def tracked_faults(root: Path, name: str) -> list[str]:
    """Compare what the pointer of a folder leads to with the files in that folder."""
    try:
        pointer = read_pointer(root / f"{name}.stemma")
    except NotFoundError:
        return ["it has no pointer"]
    with closing(open_hub(root)) as hub:
        stored = {
            entry.path: hashlib.sha256(hub.objects.read_bytes(entry.digest)).hexdigest()
            for entry in hub.objects.read_tree(pointer.content).entries
            if entry.digest is not None
        }
    there = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / name).iterdir()
    }
    return [] if stored == there else [f"it reads differently: {stored} {there}"]


def _state(folder: Path) -> str:
    """Return a digest of everything in a folder: names, modes, moments and bytes."""
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        named = f"{path.relative_to(folder)} {facts.st_mode} {facts.st_mtime_ns} {facts.st_size}\n"
        hasher.update(named.encode())
        if path.is_file():
            hasher.update(path.read_bytes())
    return hasher.hexdigest()


def fill(folder: Path, seed: int) -> None:
    """Write small files, and one of many chunks."""
    chance = random.Random(seed)
    folder.mkdir()
    for number in range(_SMALL_FILES):
        (folder / f"{number}.bin").write_bytes(chance.randbytes(chance.randrange(9000)))
    (folder / "big.bin").write_bytes(chance.randbytes(300_000))


def safetensors(weights: np.ndarray) -> bytes:
    """Return a model file of two tensors."""
    half = weights.nbytes // 2
    shape = [weights.shape[0] // 2, weights.shape[1]]
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [place * half, (place + 1) * half]}
        for place, name in enumerate(("a", "b"))
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + weights.tobytes()


def said(answer: Answer) -> Answer:
    """Return an answer that is no error.

    Raises:
        RuntimeError: If it is one.
    """
    if answer["code"]:
        raise RuntimeError(str(answer))
    return answer
