"""What Envoy is told about a route table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stemma.delivery.planes.envoy_files import (
    EnvoySettings,
    bootstrap,
    clusters,
    discovery,
    routes,
)
from stemma.domain.routing import Endpoint, ModelRoute, RouteTable


def endpoint(slot: str, version: str, replicas: int = 1) -> Endpoint:
    sockets = tuple(f"/run/{slot}-{number}.sock" for number in range(replicas))
    return Endpoint(slot=slot, version=version, sockets=sockets)


STABLE = endpoint("digits-1.0.0-c1", "1.0.0", 2)
CANARY = endpoint("digits-1.1.0-c1", "1.1.0")
PROBE = endpoint("digits-0.9.0-c1-drill", "0.9.0")


def table(weight_bp: int = 0, canary: Endpoint | None = CANARY) -> RouteTable:
    route = ModelRoute(
        model="digits",
        stable=STABLE,
        canary=canary,
        canary_weight_bp=weight_bp,
        probe=PROBE,
        timeout_seconds=8,
    )
    return RouteTable(revision=7, models=(route,), control_socket="/run/control.sock")


def local_routes(given: RouteTable) -> list[dict[str, Any]]:
    hosts: Any = routes(given, hosts=())["virtual_hosts"]
    return list(hosts[0]["routes"])


def sides(given: RouteTable) -> list[str]:
    labels = [
        route["metadata"]["filter_metadata"]["stemma"]
        for route in local_routes(given)
        if "metadata" in route
    ]
    return [label["side"] for label in labels]


def test_a_change_of_weight_changes_no_cluster() -> None:
    """A rollback would wait for clusters instead of being one rename."""
    assert clusters(table(0)) == clusters(table(500)) == clusters(table(10_000))


def test_clusters_are_slots_pairs_and_the_control_application() -> None:
    """A request would meet a cluster that is not there."""
    found: Any = clusters(table(500))
    assert list(found) == [
        "control",
        "pair/digits-1.1.0-c1/digits-1.0.0-c1",
        "slot/digits-0.9.0-c1-drill",
        "slot/digits-1.0.0-c1",
        "slot/digits-1.1.0-c1",
    ]
    pair = found["pair/digits-1.1.0-c1/digits-1.0.0-c1"]["cluster_type"]["typed_config"]
    assert pair["clusters"] == ["slot/digits-1.1.0-c1", "slot/digits-1.0.0-c1"]
    (replicas,) = found["slot/digits-1.0.0-c1"]["load_assignment"]["endpoints"]
    paths = [one["endpoint"]["address"]["pipe"]["path"] for one in replicas["lb_endpoints"]]
    assert paths == list(STABLE.sockets)


def test_every_cluster_that_routes_name_is_there() -> None:
    """Envoy refuses a whole table that names an unknown cluster."""
    for given in (table(500), table(0, None), RouteTable(revision=1)):
        named = {route["route"]["cluster"] for route in local_routes(given) if "route" in route}
        assert named <= clusters(given).keys()


@pytest.mark.parametrize(
    ("weight_bp", "expected"),
    [
        (0, ["probe", "stable"]),
        (1, ["probe", "canary", "stable"]),
        (10_000, ["probe", "canary", "stable"]),
    ],
)
def test_the_canary_comes_before_stable(weight_bp: int, expected: list[str]) -> None:
    """The first route that matches wins, so stable's would hide the canary's."""
    assert sides(table(weight_bp)) == expected


def test_a_share_is_counted_in_basis_points() -> None:
    """Five percent must be five percent."""
    (canary,) = [r for r in local_routes(table(500)) if "runtime_fraction" in r["match"]]
    share = canary["match"]["runtime_fraction"]["default_value"]
    assert share == {"numerator": 500, "denominator": "TEN_THOUSAND"}
    assert not [r for r in local_routes(table(10_000)) if "runtime_fraction" in r["match"]]


def test_only_the_canary_is_cut_short_and_asked_again_after_an_error() -> None:
    """Stable's slow answers must not be thrown away, nor its failures doubled."""
    by_side = {
        route["metadata"]["filter_metadata"]["stemma"]["side"]: route["route"]
        for route in local_routes(table(500))
        if "metadata" in route
    }
    assert by_side["canary"]["retry_policy"]["per_try_timeout"] == "4.000s"
    assert "5xx" in by_side["canary"]["retry_policy"]["retry_on"]
    assert "per_try_timeout" not in by_side["stable"]["retry_policy"]
    assert "5xx" not in by_side["stable"]["retry_policy"]["retry_on"]
    assert {route["timeout"] for route in by_side.values()} == {"8.000s"}


def test_named_hosts_are_allowed_beside_loopback() -> None:
    """A server that listens at a named address must answer to that name."""
    hosts: Any = routes(table(), hosts=("gpu.lan",))["virtual_hosts"]
    assert hosts[0]["domains"] == ["127.0.0.1", "localhost", "[::1]", "gpu.lan"]
    assert hosts[1]["domains"] == ["*"]
    assert hosts[1]["routes"][0]["direct_response"]["status"] == 403
    (everybody,) = [*routes(table(), hosts=("*",))["virtual_hosts"]]  # type: ignore[misc]
    assert everybody["domains"][-1] == "*"


def test_the_control_application_has_all_the_time_and_no_second_try() -> None:
    """A long upload would be cut off, or sent twice."""
    (control,) = [
        route["route"]
        for route in local_routes(table())
        if route.get("route", {}).get("cluster") == "control"
    ]
    assert control == {"cluster": "control", "timeout": "0s", "idle_timeout": "3600s"}


def test_the_same_table_gives_the_same_bytes() -> None:
    """Whoever compares files would see changes where there are none."""
    first, second = (json.dumps(discovery("7", [routes(table(500), hosts=())])) for _ in range(2))
    assert first == second
    assert json.loads(first)["version_info"] == "7"


def test_the_port_is_not_shared() -> None:
    """A second server at the same port would take half of the users unnoticed."""
    settings = EnvoySettings(
        host="127.0.0.1",
        port=8700,
        admin_socket="/run/envoy.sock",
        clusters_file="/plane/clusters.json",
        routes_file="/plane/routes.json",
        access_log="/plane/access.jsonl",
    )
    found: Any = bootstrap(settings)
    (listener,) = found["static_resources"]["listeners"]
    assert listener["enable_reuse_port"] is False
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8700}
