"""The data plane is watched: routes get in force, and users are not left without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stemma.delivery.layout import ServeLayout
from stemma.delivery.planes.base import PlaneStatus
from stemma.delivery.production.plane_watch import SILENCE_SECONDS, PlaneWatch
from stemma.delivery.production.routes import RoutePublisher
from stemma.domain.routing import RouteTable


@dataclass
class MemoryPlane:
    """A data plane that is as a test says, and counts what it is asked."""

    found: PlaneStatus
    access_log: Path
    name: str = "memory"
    started: int = 0
    asked: int = 0
    applied: list[RouteTable] = field(default_factory=list)

    def start(self) -> None:
        self.started += 1
        self.found = PlaneStatus(is_alive=True, pid=2, revision=self.found.revision)

    def apply(self, table: RouteTable) -> None:
        self.applied.append(table)

    def status(self) -> PlaneStatus:
        self.asked += 1
        return self.found

    def wait_for(self, revision: int, timeout_seconds: float) -> bool:
        return self.found.revision >= revision and timeout_seconds >= 0

    def rotate(self, max_bytes: int) -> None:
        """Keep the log."""

    def stop(self) -> None:
        """Go on: nothing runs."""


@dataclass
class Hands:
    """Seconds that a test moves on."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Watched:
    """A watch and what it watches."""

    plane: MemoryPlane
    watch: PlaneWatch
    hands: Hands


@pytest.fixture
def watched(tmp_path: Path) -> Callable[[PlaneStatus], Watched]:
    def make(status: PlaneStatus) -> Watched:
        plane = MemoryPlane(found=status, access_log=tmp_path / "access.jsonl")
        routes = RoutePublisher(ServeLayout(state=tmp_path), plane, lambda *_: (), "control.sock")
        hands = Hands()
        return Watched(plane, PlaneWatch(plane, routes, hands), hands)

    return make


def test_routes_that_do_not_get_in_force_are_handed_over_again(
    watched: Callable[[PlaneStatus], Watched],
) -> None:
    """Or a table refused before its clusters were known would never send users anywhere."""
    here = watched(PlaneStatus(is_alive=True, pid=1, revision=3))
    here.watch.look(4)
    assert not here.plane.applied
    here.hands.now += 0.6
    here.watch.look(4)
    assert len(here.plane.applied) == 1
    here.plane.found = PlaneStatus(is_alive=True, pid=1, revision=4)
    here.hands.now += 0.6
    here.watch.look(4)
    here.hands.now += 0.6
    here.watch.look(4)
    assert len(here.plane.applied) == 1


def test_a_plane_whose_process_is_gone_is_started_at_once(
    watched: Callable[[PlaneStatus], Watched],
) -> None:
    """Or users would be cut off until somebody looks."""
    here = watched(PlaneStatus(is_alive=False))
    here.watch.look(1)
    assert here.watch.keep()
    assert here.plane.started == 1
    assert not here.watch.keep()


def test_a_plane_that_is_slow_to_answer_keeps_its_users(
    watched: Callable[[PlaneStatus], Watched],
) -> None:
    """Or a busy machine would have its data plane ended, and every request with it."""
    here = watched(PlaneStatus(is_alive=False, pid=1))
    here.watch.look(1)
    here.hands.now += SILENCE_SECONDS - 1
    here.watch.look(1)
    assert not here.watch.keep()
    here.hands.now += 2
    here.watch.look(1)
    assert here.watch.keep()
    assert here.plane.started == 1


def test_a_plane_at_rest_is_asked_rarely(watched: Callable[[PlaneStatus], Watched]) -> None:
    """Or a server with nothing to do would keep a core busy with asking."""
    here = watched(PlaneStatus(is_alive=True, pid=1, revision=4))
    for _ in range(50):
        here.watch.look(4)
        here.hands.now += 0.1
    assert here.plane.asked <= 11
