"""What the server answers beside the models, through the data plane."""

from __future__ import annotations

from typing import Any

import pytest

from stemma.domain.access import Needs
from stemma.server.control import ROUTES

pytestmark = pytest.mark.slow

METRICS = "/api/rollouts/prices/metrics"


def test_every_route_is_in_the_matrix_and_says_what_it_needs() -> None:
    """A route nobody decided about would be open."""
    assert {(route.method, route.path, route.needs) for route in ROUTES} == {
        ("GET", "/healthz", Needs.OPEN),
        ("GET", "/api/serving", Needs.READ),
        ("POST", "/api/rollouts/{model:path}/metrics", Needs.WRITE),
    }
    assert all(route.purpose for route in ROUTES)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api"),
        ("GET", "/api/nothing"),
        ("POST", "/api/serving"),
        ("DELETE", "/healthz"),
        ("GET", METRICS),
        ("GET", "/../../etc/passwd"),
        ("GET", "/openapi.json"),
    ],
)
def test_what_is_no_route_is_a_plain_404(shared: Any, method: str, path: str) -> None:
    """A stranger would learn what runs here, or a browser guess a type."""
    answer = shared.http(method, path)
    assert answer.status in {404, 400}, answer.body
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json["error"]["code"] == "no-such-route"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad-body"),
        (b"\xff", 400, "bad-body"),
        ({"metric": "returned"}, 400, "bad-body"),
        ({"events": "3"}, 400, "bad-body"),
        ({"unknown": 1}, 400, "bad-body"),
        ({"events": 9}, 400, "bad-metric-post"),
        ({"trials": -1}, 400, "bad-metric-post"),
        ({"key": ""}, 400, "bad-metric-post"),
        ({"metric": "errors"}, 400, "bad-metric-post"),
        ({}, 404, "rollout-not-found"),
        (b" " * 70_000, 400, "body-too-large"),
    ],
)
def test_a_bad_post_of_a_metric_is_refused(shared: Any, body: Any, status: int, code: str) -> None:
    """A wrong number would stop a rollout, or be counted silently."""
    whole: dict[str, Any] = {"metric": "returned", "version": "canary", "events": 1}
    whole |= {"trials": 3, "key": "k"}
    if isinstance(body, dict) and body != {"metric": "returned"}:
        body = {**whole, **body}
    answer = shared.http("POST", METRICS, body)
    assert (answer.status, answer.json["error"]["code"]) == (status, code), answer.body
    assert answer.headers["x-content-type-options"] == "nosniff"
