"""Two commands at once, and commands that are killed: nothing lost, nothing half-made."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from stemma.catalog.doctor import examine

Project = Any

RELEASING = """
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from stemma.catalog.service import CatalogService
from stemma.db.chunk_index import SqlChunkIndex
from stemma.db.engine import Database
from stemma.domain.digest import Digest
from stemma.domain.errors import ConflictError
from stemma.domain.release import Release
from stemma.domain.verdict import Level
from stemma.store.backends.local import LocalBackend
from stemma.store.index import ChunkLocation
from stemma.store.objects import ObjectStore

url, folder, manifest, who, count = sys.argv[1:]
database = Database.open(url, may_create=False)
backend = LocalBackend(Path(folder) / "objects")
objects = ObjectStore(backend, SqlChunkIndex(database, ChunkLocation))
catalog = CatalogService(database, objects, clock=lambda: datetime.now(UTC))
print("ready", flush=True)
sys.stdin.readline()
done = 0
while done < int(count):
    last = catalog.last_release("digits", include_prereleases=True)
    number = 0 if last is None else last.sequence
    release = Release(
        model="digits",
        version=f"1.0.{number}",
        manifest=Digest.parse(manifest),
        sequence=number + 1,
        previous=None if last is None else catalog.release_digest("digits", last.version),
        level=Level.PATCH,
        released_at=datetime.now(UTC),
        released_by=who,
    )
    try:
        catalog.append_release(release)
    except ConflictError as error:
        assert error.code in {"release-raced", "version-exists"}, error.code
        continue
    done += 1
    print(release.version, flush=True)
database.close()
"""


def start(project: Project, manifest: object, who: str, count: int) -> subprocess.Popen[str]:
    """Start a process that releases ``count`` times once it is told to."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", RELEASING),
            *(project.url, str(project.folder), str(manifest), who, str(count)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    """Let a process begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.slow
def test_two_processes_releasing_at_once_share_no_number(project: Project) -> None:
    """Two versions would have one number, or one number would be skipped."""
    _, manifest = project.record(1)
    pair = [start(project, manifest, who, 15) for who in ("ada", "bob")]
    for process in pair:
        go(process)
    printed = [process.communicate(timeout=60)[0].split() for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert sorted(printed[0] + printed[1]) == sorted(f"1.0.{number}" for number in range(30))
    releases = project.catalog.releases("digits", limit=100)
    assert [release.sequence for release in releases] == list(range(30, 0, -1))
    for release in releases:
        mine = printed[0] if release.released_by == "ada" else printed[1]
        assert release.version in mine
    assert examine(project.database, project.objects).problems == ()


@pytest.mark.slow
def test_a_killed_release_is_either_there_or_not(project: Project) -> None:
    """A power cut would leave a version without record, or lose one that was announced."""
    _, manifest = project.record(1)
    chance = random.Random(7)
    announced: list[str] = []
    project.close()
    for _ in range(6):
        process = start(project, manifest, "ada", 1000)
        go(process)
        time.sleep(chance.uniform(0.02, 0.25))
        os.kill(process.pid, signal.SIGKILL)
        announced += process.communicate()[0].split()
        project.open()
        releases = project.catalog.releases("digits", limit=10_000)
        assert {release.version for release in releases} >= set(announced)
        problems = examine(project.database, project.objects).problems
        assert [problem for problem in problems if not problem.is_harmless] == []
        project.close()
    assert announced
    project.open()


LOGGING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from stemma.db.engine import Database
from stemma.domain.run import MetricPoint, RunStart
from stemma.tracking.process import current_process
from stemma.tracking.service import RunService

url, folder = sys.argv[1:]
database = Database.open(url, may_create=False)
journals = Path(folder) / "journal"
runs = RunService(database, clock=lambda: datetime.now(UTC), journal_folder=journals)
while True:
    run = runs.start(RunStart(model="digits", process=current_process()))
    for step in range(20):
        point = MetricPoint(name="loss", value=step / 7, step=step, logged_at=datetime.now(UTC))
        runs.log_points(run, [point])
        print(run, step, flush=True)
    runs.fail(run, "on purpose")
    print(run, "closed", flush=True)
"""


@pytest.mark.slow
def test_a_killed_training_loses_and_doubles_no_point(project: Project) -> None:
    """A learning curve would have holes, or the same step twice."""
    chance = random.Random(11)
    project.close()
    logged: dict[str, list[int]] = {}
    closed: set[str] = set()
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", LOGGING, project.url, str(project.folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(chance.uniform(0.01, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        printed = first + process.communicate()[0]
        for line in printed[: printed.rfind("\n") + 1].splitlines():  # the last may be cut off
            run, word = line.split()
            if word == "closed":
                closed.add(run)
            else:
                logged.setdefault(run, []).append(int(word))
    project.open()
    project.runs.reap()
    for run, steps in logged.items():
        kept = [point.step for point in project.runs.curve(run, "loss")]
        assert kept == list(range(len(kept)))
        assert len(kept) >= len(steps)
        record = project.runs.get(run)
        assert record.state.value == "failed"
        assert record.failure == "on purpose" or run not in closed
    assert not [record for record in project.runs.list(limit=1000) if record.ended_at is None]
