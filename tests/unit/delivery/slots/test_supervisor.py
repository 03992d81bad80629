"""What users are told and served while processes start, crash, hang, grow and are handed over."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import Any

import pytest

from stemma.delivery.slots.base import SlotState
from stemma.delivery.slots.process import is_running, look_at
from stemma.delivery.slots.statuses import read_statuses
from stemma.domain.errors import NotFoundError, UnavailableError

NAME = "digits-1.0.0-c1"
pytestmark = pytest.mark.slow


def test_a_slot_is_ready_with_every_replica_on_its_own_socket(stage: Any, serve: Any) -> None:
    """Traffic would be sent to processes that are not there."""
    supervisor = stage.supervisor()
    status = serve(supervisor, [stage.spec(replicas=2)])
    assert len(set(status.sockets)) == 2
    assert {r.state for r in status.replicas} == {SlotState.READY}
    assert all(r.memory_bytes > 0 for r in status.replicas)


def test_wanting_the_same_again_changes_nothing(stage: Any, serve: Any) -> None:
    """Each round of the controller would restart what serves."""
    supervisor = stage.supervisor()
    before = serve(supervisor, [stage.spec()])
    supervisor.want([stage.spec()])
    supervisor.tick()
    assert supervisor.statuses()[NAME].replicas[0].pid == before.replicas[0].pid
    assert stage.starts() == 1


def test_a_spec_with_other_contents_replaces_the_processes(
    stage: Any, serve: Any, until: Any
) -> None:
    """A changed configuration would never take effect."""
    supervisor = stage.supervisor()
    before = serve(supervisor, [stage.spec()])
    changed = replace(stage.spec(), version="1.0.1")
    supervisor.want([changed])
    until(supervisor, lambda: supervisor.statuses()[NAME].state is SlotState.READY)
    after = supervisor.statuses()[NAME]
    assert after.spec == changed
    assert after.replicas[0].pid != before.replicas[0].pid
    assert look_at(before.replicas[0].pid) is None


def test_a_crash_is_told_and_mended(stage: Any, serve: Any, until: Any) -> None:
    """A process that died once would stay away, or nobody would learn why."""
    supervisor = stage.supervisor()
    first = serve(supervisor, [stage.spec()]).replicas[0]
    os.kill(first.pid, signal.SIGKILL)
    until(supervisor, lambda: supervisor.statuses()[NAME].replicas[0].restarts == 1)
    until(supervisor, lambda: supervisor.statuses()[NAME].state is SlotState.READY)
    again = supervisor.statuses()[NAME]
    assert "SIGKILL" in again.detail
    assert [i.kind for i in supervisor.incidents()] == ["crash"]
    assert stage.prepared == [NAME]


def test_a_process_that_never_becomes_ready_is_given_up_with_its_own_words(
    stage: Any, serve: Any
) -> None:
    """A broken version would be started for ever, and a rollout would wait for ever."""
    stage.behave("crash")
    status = serve(stage.supervisor(), [stage.spec()], SlotState.FAILED)
    assert status.detail == "gave up after 3 starts: no-luck: it crashed"
    assert stage.starts() == 3


def test_a_golden_mismatch_is_final_at_once(stage: Any, serve: Any) -> None:
    """A version that answers wrongly would be tried again instead of being refused."""
    stage.behave("golden")
    status = serve(stage.supervisor(), [stage.spec()], SlotState.FAILED)
    assert status.detail == "golden-mismatch: answered 3 instead of 4"
    assert stage.starts() == 1


def test_a_hanging_process_is_ended_and_started_again(stage: Any, serve: Any, until: Any) -> None:
    """Requests would be sent into a process that never answers."""
    supervisor = stage.supervisor()
    first = serve(supervisor, [stage.spec()]).replicas[0].pid
    stage.behave("hang")
    until(supervisor, lambda: supervisor.statuses()[NAME].state is SlotState.UNREADY)
    assert supervisor.statuses()[NAME].sockets == ()
    until(supervisor, lambda: look_at(first) is None)
    stage.behave("")
    until(supervisor, lambda: supervisor.statuses()[NAME].state is SlotState.READY)
    assert [i.kind for i in supervisor.incidents()] == ["hang"]


def test_a_process_over_its_memory_is_ended_with_the_figures(
    stage: Any, serve: Any, until: Any
) -> None:
    """One model would take the machine's memory from all others."""
    supervisor = stage.supervisor()
    serve(supervisor, [stage.spec(memory_mib=60)])
    stage.behave("grow")
    until(supervisor, lambda: bool(supervisor.incidents()))
    stage.behave("")
    incident = supervisor.incidents()[0]
    assert incident.kind == "memory"
    assert incident.detail.startswith("used ")
    assert incident.detail.endswith(" MiB of 60 MiB allowed")


def test_a_start_that_takes_too_long_counts_as_failed(stage: Any, serve: Any) -> None:
    """A process that loads for ever would block its slot for ever."""
    stage.behave("unready")
    spec = stage.spec(start_timeout_seconds=0)
    status = serve(stage.supervisor(), [spec], SlotState.FAILED)
    assert "not ready within 0 s of its start" in status.detail


def test_a_process_that_says_it_is_not_ready_lives_on(stage: Any, serve: Any, until: Any) -> None:
    """A process would be killed for being honest, or get requests it cannot answer."""
    supervisor = stage.supervisor()
    first = serve(supervisor, [stage.spec()]).replicas[0].pid
    stage.behave("unready")
    until(supervisor, lambda: supervisor.statuses()[NAME].state is SlotState.UNREADY)
    assert supervisor.statuses()[NAME].detail == "not warm yet"
    stage.behave("")
    until(supervisor, lambda: supervisor.statuses()[NAME].state is SlotState.READY)
    assert supervisor.statuses()[NAME].replicas[0].pid == first


def test_processes_outlive_their_supervisor_and_are_adopted(
    stage: Any, serve: Any, until: Any
) -> None:
    """A restarted server would interrupt its users."""
    earlier = stage.supervisor()
    spec = stage.spec(replicas=2)
    before = serve(earlier, [spec])
    earlier.close()
    later = stage.supervisor()
    adopted = later.statuses()[NAME]
    assert adopted.state is SlotState.READY
    assert adopted.sockets == before.sockets
    serve(later, [spec])
    assert [r.pid for r in later.statuses()[NAME].replicas] == [r.pid for r in before.replicas]
    assert stage.starts() == 2
    assert stage.prepared == [NAME], "an adopted slot needs no preparing"
    os.kill(before.replicas[0].pid, signal.SIGKILL)
    until(later, lambda: stage.starts() == 3)
    until(later, lambda: later.statuses()[NAME].state is SlotState.READY)


def test_adopted_slots_that_nobody_wants_are_stopped_by_the_first_want(
    stage: Any, serve: Any, until: Any
) -> None:
    """Processes of a withdrawn version would run for ever."""
    earlier = stage.supervisor()
    pid = serve(earlier, [stage.spec()]).replicas[0].pid
    earlier.close()
    later = stage.supervisor()
    later.tick()
    assert look_at(pid) is not None
    later.want([])
    until(later, lambda: look_at(pid) is None)
    assert later.statuses() == {}
    assert not list(stage.layout.slot(NAME).glob("process-*.json"))


def test_processes_of_another_release_are_ended_by_the_first_want(
    stage: Any, serve: Any, until: Any
) -> None:
    """After an upgrade two processes would fight for one socket."""
    earlier = stage.supervisor()
    pid = serve(earlier, [stage.spec()]).replicas[0].pid
    earlier.close()
    (stage.layout.slot(NAME) / "slot.json").write_text('{"is": "of the future"}')
    later = stage.supervisor()
    assert later.statuses() == {}
    assert serve(later, [stage.spec()]).replicas[0].pid != pid
    os.waitpid(pid, 0)


def test_a_full_disk_does_not_end_the_watch(stage: Any, serve: Any, until: Any) -> None:
    """Everything would stop being served for a log that cannot be written."""
    supervisor = stage.supervisor()
    serve(supervisor, [stage.spec()])
    stage.layout.slots_file.unlink()
    stage.layout.slots_file.mkdir()
    stage.behave("unready")
    until(supervisor, lambda: supervisor.statuses()[NAME].state is SlotState.UNREADY)
    stage.layout.slots_file.rmdir()
    supervisor.tick()
    assert read_statuses(stage.layout)[NAME].state is SlotState.UNREADY


def test_stop_all_ends_even_those_who_do_not_listen(stage: Any, serve: Any) -> None:
    """Ctrl-C would leave processes behind."""
    stage.behave("deaf", "digits-1.0.0-c2")
    supervisor = stage.supervisor()
    deaf = stage.spec("digits-1.0.0-c2")
    pids = [
        serve(supervisor, [deaf]).replicas[0].pid,
        serve(supervisor, [stage.spec(), deaf]).replicas[0].pid,
    ]
    begin = time.monotonic()
    supervisor.stop_all()
    assert time.monotonic() - begin < 2
    assert [look_at(pid) for pid in pids] == [None, None]
    assert list(stage.layout.sockets().iterdir()) == []


def test_other_processes_read_what_the_supervisor_sees(stage: Any, serve: Any) -> None:
    """``stemma status`` would show nothing, or processes that have ended."""
    supervisor = stage.supervisor()
    status = serve(supervisor, [stage.spec()])
    assert read_statuses(stage.layout)[NAME].sockets == status.sockets
    pid = status.replicas[0].pid
    supervisor.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    found = read_statuses(stage.layout)[NAME]
    assert found.state is SlotState.STOPPED
    assert found.sockets == ()
    assert not is_running(pid, 0)


def test_what_cannot_be_prepared_is_failed_with_the_reason(stage: Any, serve: Any) -> None:
    """Nobody would learn that a package of the version does not exist any more."""
    stage.failure = NotFoundError("digits 1.0.0: no such package", code="package-not-found")
    status = serve(stage.supervisor(), [stage.spec()], SlotState.FAILED)
    assert status.detail == "digits 1.0.0: no such package"
    assert stage.prepared == [NAME]


def test_what_may_work_later_is_tried_again(stage: Any, serve: Any, until: Any) -> None:
    """A network that was away for a second would fail a rollout."""
    stage.failure = UnavailableError("no network")
    supervisor = stage.supervisor()
    supervisor.want([stage.spec()])
    until(supervisor, lambda: supervisor.statuses()[NAME].detail == "no network")
    stage.failure = None
    until(supervisor, lambda: supervisor.statuses()[NAME].state is SlotState.READY)
    assert supervisor.statuses()[NAME].detail == ""


def test_a_round_never_waits(stage: Any, serve: Any) -> None:
    """The controller could not roll back while some process hangs."""
    supervisor = stage.supervisor()
    serve(supervisor, [stage.spec(replicas=3)])
    stage.behave("hang")
    longest = 0.0
    for _ in range(60):
        begin = time.monotonic()
        supervisor.tick()
        longest = max(longest, time.monotonic() - begin)
        time.sleep(0.005)
    assert longest < 0.1
