"""Envoy when something is wrong with it or with what it is told."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemma.delivery.planes.envoy import EnvoyPlane
from stemma.domain.errors import InvalidInputError
from stemma.domain.routing import Endpoint, ModelRoute, RouteTable
from stemma.testing.data_plane_world import free_port


@pytest.fixture
def sockets() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ep-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def plane(tmp_path: Path, sockets: Path) -> Iterator[EnvoyPlane]:
    plane = EnvoyPlane(tmp_path / "plane", "127.0.0.1", free_port(), sockets=sockets)
    yield plane
    plane.stop()


def table(revision: int, slot: str = "s1", model: str = "digits") -> RouteTable:
    endpoint = Endpoint(slot=slot, version="1.0.0", sockets=("/run/nobody.sock",))
    return RouteTable(revision=revision, models=(ModelRoute(model=model, stable=endpoint),))


def test_an_envoy_that_was_never_started_is_said_to_be_so(plane: EnvoyPlane) -> None:
    """The status page must not raise."""
    status = plane.status()
    assert (status.is_alive, status.pid, status.revision) == (False, 0, -1)
    assert not plane.wait_for(0, 0.01)
    plane.stop()


@pytest.mark.slow
def test_routes_written_while_it_is_dead_are_in_force_when_it_starts(plane: EnvoyPlane) -> None:
    """A rollback must work while the server is down."""
    plane.apply(table(5))
    plane.start()
    assert plane.wait_for(5, 2)


@pytest.mark.slow
def test_a_refused_table_is_reported_with_the_reason(plane: EnvoyPlane) -> None:
    """Traffic that does not move must not look as if it had."""
    plane.start()
    plane.apply(table(1))
    assert plane.wait_for(1, 2)
    plane.apply(RouteTable(revision=2, models=(bad_route(),)))
    assert not plane.wait_for(2, 0.7)
    status = plane.status()
    assert status.revision == 1
    assert "route table 2 is written, 1 is in force; Envoy refused" in status.detail
    plane.apply(table(3))
    assert plane.wait_for(3, 2)
    assert plane.status().detail == ""


def bad_route() -> ModelRoute:
    endpoint = Endpoint(slot="s1", version="1.0.0", sockets=("/run/nobody.sock",))
    return ModelRoute(model="digits", stable=endpoint, timeout_seconds=-5)


@pytest.mark.slow
def test_a_table_that_came_before_its_clusters_is_read_again(
    plane: EnvoyPlane, tmp_path: Path
) -> None:
    """A rollback that was refused for a moment's disorder must not stay so."""
    plane.apply(table(1))
    clusters_file = tmp_path / "plane" / "envoy" / "clusters.json"
    complete = clusters_file.read_bytes()
    clusters_file.write_text('{"version_info": "none", "resources": []}')
    plane.start()
    assert not plane.wait_for(1, 0)
    later = tmp_path / "later"
    later.write_bytes(complete)
    later.replace(clusters_file)
    assert plane.wait_for(1, 3)


@pytest.mark.slow
def test_a_host_name_is_as_good_as_an_address(tmp_path: Path, sockets: Path) -> None:
    """``serve --host localhost`` is what people write."""
    plane = EnvoyPlane(tmp_path / "plane", "localhost", free_port(), sockets=sockets)
    plane.start()
    assert plane.status().is_alive
    plane.stop()


@pytest.mark.slow
def test_clusters_of_old_slots_go_once_the_new_table_is_confirmed(
    plane: EnvoyPlane, tmp_path: Path
) -> None:
    """A year of releases must not pile up, nor may a slot vanish under a request."""
    plane.start()
    clusters_file = tmp_path / "plane" / "envoy" / "clusters.json"
    for revision in range(1, 5):
        plane.apply(table(revision, slot=f"slot-{revision}"))
        assert plane.wait_for(revision, 2)
        text = clusters_file.read_text()
        assert f"slot/slot-{revision}" in text
        assert f"slot/slot-{revision - 2}" not in text


@pytest.mark.slow
def test_a_lost_record_does_not_lose_the_process(plane: EnvoyPlane, tmp_path: Path) -> None:
    """A server killed right after it started Envoy must find it again."""
    plane.start()
    pid = plane.status().pid
    (tmp_path / "plane" / "envoy-process.json").unlink()
    plane.start()
    assert plane.status().pid == pid


@pytest.mark.slow
def test_a_frozen_envoy_is_replaced(plane: EnvoyPlane) -> None:
    """A process that holds the port and answers nobody must not be adopted."""
    plane.start()
    pid = plane.status().pid
    os.kill(pid, signal.SIGSTOP)
    assert not plane.status().is_alive
    plane.start()
    assert plane.status().is_alive
    assert plane.status().pid != pid


@pytest.mark.slow
def test_a_server_at_another_port_replaces_it(
    plane: EnvoyPlane, tmp_path: Path, sockets: Path
) -> None:
    """``serve --port`` must move the address, not keep the old one."""
    plane.start()
    moved = EnvoyPlane(tmp_path / "plane", "127.0.0.1", free_port(), sockets=sockets)
    moved.start()
    assert moved.status().is_alive
    moved.stop()


def test_an_address_of_another_machine_is_refused(tmp_path: Path, sockets: Path) -> None:
    """The user must read which option is wrong."""
    for host in ("192.0.2.77", "no such host"):
        plane = EnvoyPlane(tmp_path / "plane", host, free_port(), sockets=sockets)
        with pytest.raises(InvalidInputError) as caught:
            plane.start()
        assert caught.value.code == "bad-address"
