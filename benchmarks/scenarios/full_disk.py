"""A disk that is full: one clear answer, nothing lost, and the same command works later.

By hand, as a user who may mount: ``python -m benchmarks.scenarios.full_disk``; with ``brief``,
every third amount of free space.

A small tmpfs is filled up to a given number of free bytes, so that each verb runs out of
space at another step.  It must end with ``disk-full`` (exit code 75) or work; what was
acknowledged before is there; with space again, the same command works.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.durability import forks, project
from benchmarks.durability.forks import Answer
from stemma.cli.exit_codes import ExitCode
from stemma.domain.errors import UnavailableError

_SIZE: Final = "48m"
_PAGE_BYTES: Final = 4096
_FREE_PAGES: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
_MODEL: Final = "toy"
_NOT_ALLOWED: Final = 77
_DATA_BYTES: Final = 150_000


class NotAllowedError(Exception):
    """This user may not mount a file system."""


def run(*, every: int = 1) -> dict[str, object]:
    """Fill the disk under each verb; figures, and every failure in words."""
    project.preload()
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    failures: list[str] = []
    with _small_disk() as disk:
        root = disk / "project"
        forks.call(partial(project.make, root))
        forks.call(partial(project.make, _elsewhere(root)))
        for place in (root, _elsewhere(root)):
            remote = str(disk / "remote")
            forks.call(partial(project.command, place, "remote", "add", "origin", remote))
        first = forks.call(partial(project.record_file, root, _MODEL, b"first" * 1000))
        forks.call(partial(project.release, root, _MODEL))
        known = forks.call(partial(project.version, root, f"{_MODEL}@1.0.0"))
        for number, pages in enumerate(_FREE_PAGES[::every]):
            for verb, work in _verbs(root, number).items():
                name = f"{verb} with {pages} pages free"
                with _filled(disk, pages):
                    answer = forks.watch(work).answer or {"error": "died"}
                code, said = _read(answer)
                counts[f"{verb}: {said or code}"] += 1
                if code not in {ExitCode.DONE, ExitCode.TRY_AGAIN}:
                    failures.append(f"{name}: {code} {said} {str(answer)[-1200:]}")
                answer = forks.watch(work).answer or {"error": "died"}
                code, said = _read(answer)
                if code != ExitCode.DONE:
                    failures.append(
                        f"{name}, with space again: {code} {said} {str(answer)[-1200:]}"
                    )
                failures += [
                    f"{name}: {problem}"
                    for place in (root, _elsewhere(root))
                    for problem in forks.call(partial(project.doctor, place))["problems"]
                ]
        failures += _lost(root, first["run"], known)
        there = forks.call(partial(project.version, _elsewhere(root), f"{_MODEL}@1.0.0"))
        if there["files"] != known["files"]:
            failures.append("the first release reads differently where it was pulled")
    return {
        "trials": sum(counts.values()),
        "answers": dict(counts),
        "failures": failures,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _elsewhere(root: Path) -> Path:
    """Return the project that pulls."""
    return root.with_name("elsewhere")


def _lost(root: Path, run: str, known: Answer) -> list[str]:
    """Name what was acknowledged first and is not there at the end."""
    failures: list[str] = []
    seen = forks.call(partial(project.overview, root, [_MODEL]))
    if seen["runs"][run][0] != "finished":
        failures.append("the first run is lost")
    if forks.call(partial(project.version, root, f"{_MODEL}@1.0.0"))["files"] != known["files"]:
        failures.append("the first release is lost")
    sequences = [row[0] for row in seen["log"][_MODEL]]
    if sequences != list(range(len(sequences), 0, -1)):
        failures.append(f"sequences {sequences}")
    return failures


def _verbs(root: Path, number: int) -> dict[str, Callable[[], Answer]]:
    data = root / f"data-{number}.bin"
    data.write_bytes(os.urandom(_DATA_BYTES))
    model = b"weights\0" + os.urandom(60_000)
    return {
        "add": partial(project.command, root, "add", data.name),
        "run": partial(_record, root, model),
        "release": partial(project.release, root, _MODEL),
        "push": partial(project.command, root, "push"),
        "pull": partial(project.command, _elsewhere(root), "pull"),
        "gc": partial(project.command, root, "gc", "--grace", "0", "--yes"),
        "gc --empty-trash": partial(
            project.command, root, "gc", "--grace", "0", "--yes", "--empty-trash"
        ),
        "log": partial(project.command, root, "log", _MODEL),
    }


def _record(root: Path, data: bytes) -> Answer:
    """Record as a verb that has a code."""
    (root / "model.bin").unlink(missing_ok=True)
    try:
        return {"code": 0, **project.record_file(root, _MODEL, data)}
    except UnavailableError as error:
        return {"code": 75, "payload": {"name": error.code}}


def _read(answer: Answer) -> tuple[int, str]:
    if "error" in answer:
        return ExitCode.FAILED, str(answer["error"])[-1500:]
    payload = answer.get("payload")
    said = payload.get("name", "") if isinstance(payload, dict) and answer["code"] else ""
    return answer["code"], said


@contextmanager
def _small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stemma-full-") as name:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", name],
            check=False,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise NotAllowedError(made.stderr.strip())
        try:
            yield Path(name)
        finally:
            os.chdir("/")
            subprocess.run(["umount", "-l", name], check=True)


@contextmanager
def _filled(disk: Path, free_pages: int) -> Iterator[None]:
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(bytes(max(0, free - free_pages * _PAGE_BYTES)))
    try:
        yield
    finally:
        filler.unlink()


def main() -> int:
    """Run by hand."""
    try:
        figures = run(every=3 if "brief" in sys.argv else 1)
    except NotAllowedError as error:
        print(error)
        return _NOT_ALLOWED
    for key, value in figures.items():
        print(f"{key}: {value}")
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
