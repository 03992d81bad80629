"""Where the built-in proxy sends one request."""

from __future__ import annotations

from stemma.delivery.planes.builtin_routing import Refusal, Routing, ToControl, ToModel
from stemma.domain.routing import Endpoint, ModelRoute, RouteTable

STABLE = Endpoint(slot="s1", version="1.0.0", sockets=("/run/s1.sock",))
CANARY = Endpoint(slot="s2", version="2.0.0", sockets=("/run/s2.sock",))
HEADERS = {"Host": "localhost:8700"}


def routing(weight_bp: int = 2500, control: str = "/run/c.sock") -> Routing:
    route = ModelRoute(
        model="digits", stable=STABLE, canary=CANARY, canary_weight_bp=weight_bp, timeout_seconds=8
    )
    return Routing(RouteTable(revision=1, models=(route,), control_socket=control), ())


def decide(given: Routing, draw: float = 0.0, path: str = "/ping") -> Refusal | ToControl | ToModel:
    return given.decide(path, HEADERS, draw)


def test_the_draw_decides_the_side() -> None:
    """A quarter must be a quarter, and none none."""
    found = [decide(routing(), draw) for draw in (0.0, 0.2499, 0.25, 0.9999)]
    assert [one.side for one in found if isinstance(one, ToModel)] == [
        "canary",
        "canary",
        "stable",
        "stable",
    ]
    none, everything = decide(routing(0), 0.0), decide(routing(10_000), 0.9999)
    assert isinstance(none, ToModel)
    assert isinstance(everything, ToModel)
    assert (none.side, everything.side) == ("stable", "canary")


def test_stable_covers_the_canary_with_half_of_the_time() -> None:
    """A canary that hangs must not use up the user's whole timeout."""
    found = decide(routing())
    assert isinstance(found, ToModel)
    first, second = found.attempts
    assert (first.endpoint, first.timeout_seconds, first.is_final_on_error) == (CANARY, 4, False)
    assert (second.endpoint, second.is_final_on_error) == (STABLE, True)


def test_without_a_control_application_other_paths_are_refused() -> None:
    """The user must read why there is no status page."""
    assert decide(routing(), path="/x") == ToControl(socket="/run/c.sock")
    refused = decide(routing(control=""), path="/x")
    assert isinstance(refused, Refusal)
    assert (refused.status, "not running" in refused.text) == (503, True)


def test_a_request_without_a_host_is_refused() -> None:
    """What says not whom it is for may be for anybody."""
    found = routing().decide("/ping", {}, 0.0)
    assert isinstance(found, Refusal)
    assert found.status == 403


def test_every_host_is_taken_where_callers_say_who_they_are() -> None:
    """A server beyond this machine would answer to its address only, not to its names."""
    open_to_all = Routing(RouteTable(revision=1, control_socket="/run/c.sock"), ("*",))
    assert isinstance(open_to_all.decide("/x", {"Host": "gpu.lan"}, 0.0), ToControl)
    from_a_page = {"Host": "gpu.lan", "Origin": "http://evil.example"}
    assert isinstance(open_to_all.decide("/x", from_a_page, 0.0), Refusal)
