"""A controller and people at once, and controllers that are killed: one truth, no line lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from stemma.catalog.doctor import examine
from stemma.delivery.values import MetricPost
from stemma.domain.errors import ConflictError
from stemma.domain.rollout import Decision, LogPosition, Rollout, RolloutState, Step

Project = Any
Start = Callable[..., "subprocess.Popen[str]"]

OPENING = """
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from stemma.catalog.service import CatalogService
from stemma.db.chunk_index import SqlChunkIndex
from stemma.db.engine import Database
from stemma.delivery.records.service import DeliveryService
from stemma.domain.rollout import Decision, LogPosition, RolloutId, RolloutState, Step
from stemma.store.backends.local import LocalBackend
from stemma.store.index import ChunkLocation
from stemma.store.objects import ObjectStore

url, folder, rollout, count = sys.argv[1:]
database = Database.open(url, may_create=False)
backend = LocalBackend(Path(folder) / "objects")
objects = ObjectStore(backend, SqlChunkIndex(database, ChunkLocation))
clock = lambda: datetime.now(UTC)
catalog = CatalogService(database, objects, clock=clock)
delivery = DeliveryService(database, objects, catalog, clock=clock)
print("ready", flush=True)
sys.stdin.readline()
"""

LOOKING = (
    OPENING
    + """
def look(newest, metrics):
    # Counts one request a look: position, count and lines must always agree.
    offset = newest.position.offset_bytes + 1
    counted = newest.held_seconds + sum(item.canary_trials for item in metrics.values())
    after = replace(
        newest, position=LogPosition(file="log", offset_bytes=offset), held_seconds=counted
    )
    line = Decision(kind="look", text=str(offset), weight_bp=0, state=after.state)
    return Step(rollout=after, decisions=(line,))

for _ in range(int(count)):
    step = delivery.look_at_rollout(RolloutId(rollout), look)
    print(step.rollout.position.offset_bytes, flush=True)
"""
)

PROMOTING = (
    OPENING
    + """
def live(newest):
    line = Decision(kind="state", text="live", weight_bp=10_000, state=RolloutState.LIVE)
    return Step(rollout=replace(newest, state=RolloutState.LIVE), decisions=(line,))

delivery.step_rollout(RolloutId(rollout), live)
print("live", flush=True)
"""
)


@pytest.fixture
def start(project: Project) -> Iterator[Start]:
    """Return what starts a process on the project; all are ended afterwards."""
    started: list[subprocess.Popen[str]] = []

    def run(script: str, rollout: Rollout, count: int = 1) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", script),
                *(project.url, str(project.folder), rollout.id, str(count)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def begin(project: Project) -> Rollout:
    """Begin a rollout of 1.1.0 while 1.0.0 serves."""
    rollout = project.rollout(project.serve("1.0.0"), project.released("1.1.0"))
    begun: Rollout = project.delivery.begin_rollout(rollout, ())
    return begun


def said(state: RolloutState) -> Callable[[Rollout], Step]:
    """Return a command that leaves one line."""
    line = Decision(kind="command", text=state.value, weight_bp=0, state=state)
    return lambda newest: Step(rollout=replace(newest, state=state), decisions=(line,))


@pytest.mark.slow
def test_a_controller_and_people_at_once_lose_no_line(project: Project, start: Start) -> None:
    """A pause would be overwritten by the look that went on beside it."""
    rollout = begin(project)
    process = start(LOOKING, rollout, 60)
    commands = [RolloutState.PAUSED, RolloutState.CANARY] * 15
    for state in commands:
        project.delivery.step_rollout(rollout.id, said(state), by="bob")
        time.sleep(0.005)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [int(line) for line in output.split()] == list(range(1, 61))
    found = project.delivery.rollout(rollout.id)
    events = project.delivery.events(rollout.id)
    assert [event.sequence for event in events] == list(range(1, 91))
    assert [event.decision.state for event in events if event.by == "bob"] == commands
    assert found.position.offset_bytes == 60
    assert found.state is RolloutState.CANARY
    assert [event.at for event in events] == sorted(event.at for event in events)
    # Each look kept the state that the command before it had set.
    state = RolloutState.VALIDATING
    for event in events:
        if event.by == "bob":
            state = event.decision.state
        assert event.decision.state is state


@pytest.mark.slow
def test_looks_and_commands_of_two_threads_are_all_there(project: Project) -> None:
    """The server's own threads would lose each other's steps."""
    rollout = begin(project)
    is_over = Event()

    def look(newest: Rollout) -> Step:
        position = LogPosition(file="log", offset_bytes=newest.position.offset_bytes + 1)
        return Step(rollout=replace(newest, position=position))

    def control() -> None:
        while not is_over.is_set():
            try:
                project.delivery.step_rollout(rollout.id, look)
            except ConflictError as error:
                assert error.code == "rollout-ended"  # noqa: PT017
                return

    thread = Thread(target=control)
    thread.start()
    try:
        for state in (RolloutState.PAUSED, RolloutState.CANARY) * 5:
            project.delivery.step_rollout(rollout.id, said(state), by="bob")
        project.delivery.roll_back_to(
            "digits",
            rollout.stable,
            by="bob",
            reason="bad",
            abort=rollout.id,
            make=said(RolloutState.ROLLED_BACK),
        )
    finally:
        is_over.set()
        thread.join(timeout=30)
    events = project.delivery.events(rollout.id)
    assert [event.sequence for event in events] == list(range(1, 12))
    assert project.delivery.rollout(rollout.id).state is RolloutState.ROLLED_BACK
    assert project.delivery.deployment("digits").kind == "rollback"


@pytest.mark.slow
def test_a_killed_controller_counts_everything_once(project: Project, start: Start) -> None:
    """Requests and posted metrics would be counted twice, or not at all."""
    rollout = begin(project)
    chance = random.Random(5)
    announced = 0
    posted = 0
    for _ in range(8):
        process = start(LOOKING, rollout, 10_000)
        for _ in range(3):
            posted += 1
            project.delivery.post_metric(
                MetricPost(
                    model="digits",
                    metric="returns",
                    version="canary",
                    events=0,
                    trials=1,
                    key=str(posted),
                )
            )
            time.sleep(chance.uniform(0.0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        lines = process.communicate()[0].split()
        announced = int(lines[-1]) if lines else announced
        found = project.delivery.rollout(rollout.id)
        events = project.delivery.events(rollout.id)
        assert found.position.offset_bytes >= announced
        assert [event.decision.text for event in events] == [
            str(number) for number in range(1, found.position.offset_bytes + 1)
        ]
    project.delivery.look_at_rollout(
        rollout.id,
        lambda newest, metrics: Step(
            rollout=replace(
                newest,
                held_seconds=newest.held_seconds
                + sum(counts.canary_trials for counts in metrics.values()),
            )
        ),
    )
    assert project.delivery.rollout(rollout.id).held_seconds == posted
    assert examine(project.database, project.objects).problems == ()


@pytest.mark.slow
def test_a_controller_killed_while_it_promotes_leaves_all_of_it_or_nothing(
    project: Project, start: Start
) -> None:
    """Routes, deployment and ``stable`` would name different versions."""
    deployed = {version: project.released(version) for version in ("1.0.0", "1.1.0")}
    stable, canary = deployed["1.0.0"], deployed["1.1.0"]
    project.delivery.deploy("digits", stable, kind="serve", by="ada", reason="", moves_stable=True)
    outcomes = set()
    for number in range(10):
        rollout = project.rollout(stable, canary, number)
        project.delivery.begin_rollout(rollout, ())
        process = start(PROMOTING, rollout)
        if number == 9:  # the last one comes to its end
            process.wait(timeout=60)
        time.sleep(number / 100)
        process.kill()
        is_announced = "live" in process.communicate()[0]
        is_live = project.delivery.rollout(rollout.id).state is RolloutState.LIVE
        outcomes.add(is_live)
        serving = canary if is_live else stable
        assert project.delivery.deployment("digits").deployed == serving
        assert project.catalog.channels("digits")["stable"] == serving.version
        assert len(project.delivery.events(rollout.id)) == is_live
        assert is_live or not is_announced
        if is_live:
            stable, canary = canary, stable
        else:
            project.delivery.step_rollout(rollout.id, said(RolloutState.ROLLED_BACK))
    problems = examine(project.database, project.objects).problems
    assert [problem for problem in problems if not problem.is_harmless] == []
    assert True in outcomes


@pytest.mark.slow
def test_a_reader_is_not_kept_waiting_by_a_write(sqlite_project: Project) -> None:
    """``stemma status`` would hang while the server writes."""
    project = sqlite_project
    rollout = begin(project)
    other = type(project)(project.url, Path(project.folder), project.clock)

    def make(newest: Rollout) -> Step:
        return said(RolloutState.CANARY)(newest)

    try:
        with project.database.write():
            started = time.monotonic()
            assert other.delivery.production().rollouts == {"digits": rollout}
            assert other.delivery.events(rollout.id) == []
            assert time.monotonic() - started < 5
        project.delivery.step_rollout(rollout.id, make)
        assert other.delivery.active_rollout("digits").state is RolloutState.CANARY
    finally:
        other.close()
