"""The contract every ``DataPlane`` passes: subclass it and say how to make one.

Example:
    >>> class TestMyPlane(DataPlaneContract):
    ...     def make(self, folder: Path, port: int, sockets: Path) -> DataPlane:
    ...         return MyPlane(folder, "127.0.0.1", port, sockets=sockets)

Slots are ``StandInSlot``: real servers on Unix sockets, so what is checked is what users see.
"""

# ruff: noqa: S101, PLR2004 — a contract suite is made of asserts and small numbers

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from stemma.delivery.access_log import read_intervals, read_lines
from stemma.delivery.planes.base import DataPlane
from stemma.domain.errors import ConflictError
from stemma.domain.rollout import LogPosition
from stemma.domain.traffic import SideCounts
from stemma.testing.data_plane_world import INFER, World, free_port


class _Contract:
    """How a suite makes the data plane under test."""

    def make(self, folder: Path, port: int, sockets: Path) -> DataPlane:
        """Return the data plane under test, not started."""
        raise NotImplementedError

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        """Return a started data plane with a stable slot and a canary without traffic."""
        sockets = Path(tempfile.mkdtemp(prefix="dp-"))
        world = World(self.make, tmp_path / "plane", free_port(), sockets)
        try:
            world.plane.start()
            world.publish(0)
            yield world
        finally:
            world.close()
            shutil.rmtree(sockets)


class SpreadingContract(_Contract):
    """Who answers: by weight, and when somebody fails."""

    @pytest.mark.slow
    @pytest.mark.parametrize(("weight_bp", "least", "most"), [(0, 0, 0), (3000, 72, 170)])
    def test_requests_are_spread_by_weight(
        self, world: World, weight_bp: int, least: int, most: int
    ) -> None:
        """A canary at 30 % must not see half of the users (5 sigma of 400 draws)."""
        world.publish(weight_bp)
        slots = Counter(world.ask(INFER).slot for _ in range(400))
        assert least <= slots["canary-slot"] <= most
        assert sum(slots.values()) == 400

    @pytest.mark.slow
    def test_all_traffic_is_all(self, world: World) -> None:
        """After promotion no request may reach the old version."""
        world.publish(10_000)
        assert {world.ask(INFER).slot for _ in range(50)} == {"canary-slot"}

    @pytest.mark.slow
    def test_no_request_fails_while_weights_change(self, world: World) -> None:
        """Moving traffic must cost no user anything."""
        with world.load(threads=4) as replies:
            for number in range(100):
                world.publish(number * 100)
        assert len(replies) > 100
        assert {reply.status for reply in replies} == {200}

    @pytest.mark.slow
    def test_a_killed_canary_fails_nobody(self, world: World) -> None:
        """A canary that dies at half of the traffic must be covered by stable."""
        world.publish(5000)
        with world.load(threads=4) as replies:
            world.until(lambda: len(replies) > 100)
            world.canary.kill()
            world.until(lambda: len(replies) > 400)
        failed = [reply for reply in replies if reply.status != 200]
        assert len(failed) <= len(replies) // 100
        canary = world.interval(len(replies)).canary
        assert canary.errors > 50
        assert canary.rescued >= canary.errors - len(failed)

    @pytest.mark.slow
    def test_a_hanging_canary_is_covered_in_time(self, world: World) -> None:
        """A canary that never answers must not use up the user's whole timeout."""
        world.canary.behaviour = "hang"
        world.publish(10_000, timeout_seconds=1.0)
        reply = world.ask(INFER)
        assert (reply.status, reply.slot) == (200, "stable-slot")
        assert 0.4 < reply.seconds < 0.95
        assert world.interval(1).canary == SideCounts(requests=1, errors=1, rescued=1)

    @pytest.mark.slow
    def test_a_canary_that_answers_500_is_covered_and_blamed(self, world: World) -> None:
        """The judge must see the error that the user did not."""
        world.canary.behaviour = "error"
        world.publish(10_000)
        assert {world.ask(INFER).slot for _ in range(20)} == {"stable-slot"}
        assert world.interval(20).canary == SideCounts(requests=20, errors=20, rescued=20)

    @pytest.mark.slow
    def test_when_both_sides_fail_the_user_is_told(self, world: World) -> None:
        """A bad request must not be asked for ever, nor counted as rescued."""
        world.canary.behaviour = world.stable.behaviour = "error"
        world.publish(10_000)
        assert world.ask(INFER).status == 500
        assert len(world.canary.seen) == len(world.stable.seen) == 1
        assert world.interval(1).canary == SideCounts(requests=1, errors=1, rescued=0)

    @pytest.mark.slow
    def test_a_slow_stable_ends_with_504(self, world: World) -> None:
        """A request must not hang longer than the route allows, nor be asked twice."""
        world.stable.behaviour = "hang"
        world.publish(0, timeout_seconds=0.5)
        reply = world.ask(INFER)
        assert reply.status == 504
        assert 0.4 < reply.seconds < 1.5
        assert "error" in reply.json
        assert len(world.stable.seen) == 1
        assert world.interval(1).stable == SideCounts(requests=1, errors=1)

    @pytest.mark.slow
    def test_a_rollback_is_immediate(self, world: World) -> None:
        """The bad version must see no user a second after the call."""
        world.publish(5000)
        with world.load(threads=4) as replies:
            world.until(lambda: len(replies) > 100)
            called_at = world.apply(0)
            world.until_longer(replies, 300)
        assert world.canary.seen[-1][0] < called_at + 1
        assert {reply.status for reply in replies} == {200}

    @pytest.mark.slow
    def test_a_replica_that_dies_is_covered_by_the_next(self, world: World) -> None:
        """One of two processes may be restarted at any time; that is no error of the version."""
        second = world.add_slot("second-replica", "1.0.0")
        both = replace(world.stable.endpoint, sockets=(str(world.stable.path), str(second.path)))
        world.publish(0, stable=both)
        with world.load(threads=4) as replies:
            world.until_longer(replies, 100)
            second.kill()
            world.until_longer(replies, 300)
        assert {reply.slot for reply in replies} == {"stable-slot", "second-replica"}
        assert {reply.status for reply in replies} == {200}
        assert world.interval(len(replies)).stable == SideCounts(requests=len(replies))

    @pytest.mark.slow
    def test_a_replica_that_is_loading_leaves_users_to_the_next(self, world: World) -> None:
        """A process that was restarted answers before it has loaded: half of the users fail."""
        second = world.add_slot("second-replica", "1.0.0")
        second.behaviour = "loading"
        both = replace(world.stable.endpoint, sockets=(str(world.stable.path), str(second.path)))
        world.publish(0, stable=both)
        with world.load(threads=4) as replies:
            world.until_longer(replies, 200)
        assert {reply.status for reply in replies} == {200}
        assert second.seen
        world.stable.behaviour = "loading"
        assert world.ask(INFER).status == 503

    @pytest.mark.slow
    def test_a_request_under_way_outlives_its_slot(self, world: World) -> None:
        """A slow request must not break because traffic moved on, twice."""
        world.stable.delay_seconds = 1.0
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(world.ask, INFER)
            world.until(lambda: bool(world.stable.seen))
            for name in ("next-slot", "last-slot"):
                world.stable = world.canary = world.add_slot(name, "3.0.0")
                world.publish(0)
                assert world.ask(INFER).slot == name
            reply = waiting.result()
        assert (reply.status, reply.slot) == (200, "stable-slot")

    @pytest.mark.slow
    def test_a_body_that_is_kept_is_sent_again(self, world: World) -> None:
        """A rescued request must reach stable whole."""
        world.canary.behaviour = "error"
        world.publish(10_000)
        reply = world.ask(INFER, body=bytes(1_000_000))
        assert (reply.slot, reply.json["bytes"]) == ("stable-slot", 1_000_000)


class RequestsContract(_Contract):
    """What one request meets: paths, headers, bodies, and its line in the log."""

    @pytest.mark.slow
    def test_headers_alone_are_answered(self, world: World) -> None:
        """Load balancers and curl ask with HEAD."""
        for _ in range(2):
            reply = world.ask("/ping", method="HEAD")
            assert (reply.status, reply.body) == (200, b"")
            assert int(reply.headers["content-length"]) > 10

    @pytest.mark.slow
    def test_only_its_header_reaches_a_probe(self, world: World) -> None:
        """A drill must neither touch users nor silently test the wrong slot."""
        probe = world.add_slot("probe-slot", "3.0.0")
        world.publish(5000, probe=probe)
        reply = world.ask(INFER, headers={"x-stemma-slot": "probe-slot"})
        assert (reply.slot, reply.headers["x-stemma-version"]) == ("probe-slot", "3.0.0")
        assert world.ask(INFER, headers={"x-stemma-slot": "canary-slot"}).status == 404
        assert "probe-slot" not in {world.ask(INFER).slot for _ in range(50)}
        (line,) = [line for line in world.lines(52) if line.side == "probe"]
        assert (line.slot, line.status) == ("probe-slot", 200)
        assert world.interval(52).stable.requests + world.interval(52).canary.requests == 50

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Host": "localhost:1"}, 200),
            ({"Host": "127.0.0.1"}, 200),
            ({"Host": "[::1]:8700"}, 200),
            ({"Host": "evil.example"}, 403),
            ({"Host": "localhost.evil.example:80"}, 403),
            ({"Origin": "http://localhost:3000"}, 200),
            ({"Origin": "https://127.0.0.1"}, 200),
            ({"Origin": "http://localhost.evil.example"}, 403),
            ({"Origin": "null"}, 403),
        ],
    )
    @pytest.mark.slow
    def test_pages_of_others_are_refused(
        self, world: World, headers: dict[str, str], status: int
    ) -> None:
        """A web page that the user visits must not reach the models on this machine."""
        reply = world.ask(INFER, headers=headers)
        assert reply.status == status
        assert status == 200 or "error" in reply.json

    @pytest.mark.slow
    def test_paths_reach_their_model_and_no_other(self, world: World) -> None:
        """``digits`` must not answer for ``digits2``, whatever the protocol."""
        other = world.add_slot("other-slot", "1.0.0")
        world.publish(0, others={"digits-2.x": other})
        ours = ("/v2/models/digits", "/v1/models/digits:predict", "/models/digits/invocations")
        default = (
            "/invocations",
            "/ping",
            "/v2",
            "/v2/health/ready",
            "/v2/models/digits/ready?x=/",
        )
        theirs = ("/v2/models/digits-2.x/infer", "/v1/models/digits-2.x:predict")
        assert {world.ask(path).slot for path in (*ours, *default)} == {"stable-slot"}
        assert {world.ask(path).slot for path in theirs} == {"other-slot"}
        assert world.ask("/v2/models/digits/ready?x=/").json["path"].endswith("/ready?x=/")
        for path in ("/v2/models/digits2/infer", "/v2/models/digits-2zx", "/v1/models/d:predict"):
            reply = world.ask(path)
            assert reply.status == 404
            assert "digits, digits-2.x" in reply.json["error"]

    @pytest.mark.slow
    def test_other_paths_reach_the_control_application(self, world: World) -> None:
        """The status page must work, and say so when the server is gone."""
        control = world.add_slot("control", "")
        world.publish(0, control=str(control.path))
        assert world.ask("/api/status").slot == "control"
        assert world.ask("/v2/models").slot == "control"
        control.kill()
        reply = world.ask("/api/status")
        assert reply.status == 503
        assert "server is not running" in reply.json["error"]
        assert world.ask(INFER).slot == "stable-slot"

    @pytest.mark.slow
    def test_each_request_is_one_line(self, world: World) -> None:
        """The judge and the status page count lines."""
        world.publish(10_000)
        reply = world.ask(INFER, headers={"x-request-id": "mine-1"})
        assert reply.headers["x-request-id"] == "mine-1"
        assert reply.headers["x-stemma-version"] == "2.0.0"
        assert world.canary.seen[-1][1] == "mine-1"
        assert len(world.ask(INFER).headers["x-request-id"]) == 36
        line, _ = world.lines(2)
        assert (line.request_id, line.model, line.side) == ("mine-1", "digits", "canary")
        assert (line.slot, line.version, line.status) == ("canary-slot", "2.0.0", 200)
        assert (line.attempts, line.wanted_slot) == (1, "canary-slot")
        assert 0 < line.duration_us <= reply.seconds * 1e6
        assert abs(line.at_ms / 1000 - reply.ended_at) < 2

    @pytest.mark.slow
    def test_a_client_that_leaves_is_no_error(self, world: World) -> None:
        """An impatient user must not roll back a version."""
        world.stable.behaviour = "hang"
        world.leave(INFER)
        assert world.interval(1).stable == SideCounts(requests=1)

    @pytest.mark.slow
    def test_a_large_body_arrives(self, world: World) -> None:
        """Images and batches are larger than any buffer."""
        world.publish(5000)
        for _ in range(4):
            assert world.ask(INFER, body=bytes(20_000_000)).json["bytes"] == 20_000_000


class LifeContract(_Contract):
    """What the plane survives: restarts, killed writers, a full disk."""

    @pytest.mark.slow
    def test_a_stop_lets_requests_end_and_loses_no_line(self, world: World) -> None:
        """Ctrl-C must not fail the users of that moment, nor hide them from the judge."""
        world.stable.delay_seconds = 0.5
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(world.ask, INFER)
            world.until(lambda: bool(world.stable.seen))
            world.plane.stop()
            assert waiting.result().status == 200
        assert not world.plane.status().is_alive
        assert world.interval(1).stable == SideCounts(requests=1)

    @pytest.mark.slow
    def test_routes_survive_a_restart(self, world: World) -> None:
        """After a crash of the plane, users must be where they were."""
        world.publish(10_000)
        world.plane.stop()
        assert not world.plane.status().is_alive
        world.plane.stop()
        world.plane.start()
        assert world.ask(INFER).slot == "canary-slot"
        assert world.plane.status().revision == world.revision

    @pytest.mark.slow
    def test_a_restarted_server_adopts_the_plane(self, world: World) -> None:
        """Users must not notice that the server was killed and started again."""
        before = world.plane.status()
        second = world.another()
        second.start()
        assert second.status() == before
        second.apply(world.table(10_000))
        assert second.wait_for(world.revision, 5)
        assert world.ask(INFER).slot == "canary-slot"
        second.stop()
        assert not world.plane.status().is_alive

    @pytest.mark.slow
    def test_the_plane_survives_its_starter(self, world: World) -> None:
        """A killed server must not take the models with it."""
        world.plane.stop()
        world.start_and_be_killed(type(self))
        assert world.plane.status().is_alive
        assert world.ask(INFER).slot == "stable-slot"

    @pytest.mark.slow
    def test_a_taken_port_is_named(self, world: World, tmp_path: Path) -> None:
        """The user must learn which port, and what to do."""
        second = self.make(tmp_path / "second", world.port, tmp_path)
        with pytest.raises(ConflictError) as caught:
            second.start()
        assert caught.value.code == "port-in-use"
        assert str(world.port) in str(caught.value)
        assert "--port" in caught.value.hint
        assert not second.status().is_alive

    @pytest.mark.slow
    def test_applying_twice_changes_nothing(self, world: World) -> None:
        """A decision that is replayed after a crash must be harmless."""
        world.publish(10_000)
        table = world.last
        for _ in range(3):
            world.plane.apply(table)
        assert world.plane.wait_for(table.revision, 5)
        assert not world.plane.wait_for(table.revision + 1, 0.05)
        assert world.ask(INFER).slot == "canary-slot"
        assert world.plane.status().detail == ""

    @pytest.mark.slow
    def test_a_killed_writer_does_no_harm(self, world: World) -> None:
        """Kill -9 between the file and its renaming must leave the old table or the new one."""
        with world.load(threads=2) as replies:
            for _ in range(5):
                world.apply_and_be_killed(type(self))
        assert {reply.status for reply in replies} == {200}
        world.publish(10_000)
        assert world.ask(INFER).slot == "canary-slot"

    @pytest.mark.slow
    def test_a_rotated_log_loses_no_line(self, world: World) -> None:
        """Rotation must neither hide a request from the judge nor show it twice."""
        position, counted = LogPosition(), 0
        with world.load(threads=2) as replies:
            for _ in range(4):
                world.until_longer(replies, 50)
                world.plane.rotate(100)
                intervals, position = read_intervals(world.plane.access_log, position)
                counted += sum(found.stable.requests for found in intervals.values())
        world.lines(len(replies))
        for _ in range(5):
            intervals, position = read_intervals(world.plane.access_log, position)
            counted += sum(found.stable.requests for found in intervals.values())
        assert counted == len(replies)
        reading = read_lines(world.plane.access_log, LogPosition())
        assert len({line.request_id for line in reading.lines}) == len(replies)

    @pytest.mark.slow
    def test_a_full_disk_stops_no_traffic(self, world: World) -> None:
        """Users come first; the log can wait."""
        world.plane.stop()
        world.plane.access_log.unlink(missing_ok=True)
        world.plane.access_log.symlink_to("/dev/full")
        world.plane.start()
        assert {world.ask(INFER).status for _ in range(50)} == {200}
        time.sleep(0.5)  # lines are written every 0.2 s
        assert {world.ask(INFER).status for _ in range(50)} == {200}
        assert world.plane.status().is_alive


class DataPlaneContract(SpreadingContract, RequestsContract, LifeContract):
    """What every data plane must do; a subclass says how to ``make`` one."""
