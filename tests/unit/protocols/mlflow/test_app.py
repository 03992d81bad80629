"""Routes, who may call them, and what is said to bad requests."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from stemma.domain.access import Needs, Role, allows
from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    IntegrityError,
    InvalidInputError,
    LockedError,
    NotFoundError,
    StemmaError,
    UnavailableError,
)
from stemma.protocols.mlflow.app import MlflowApplication, RouteIndex
from stemma.protocols.mlflow.endpoints import ENDPOINTS
from stemma.protocols.mlflow.errors import problem_of
from stemma.protocols.mlflow.routes import MAX_BODY_BYTES, MlflowRequest, MlflowRoute
from stemma.protocols.mlflow.table import ROUTES

API = "/api/2.0/mlflow"
DEEP = 100_000


class _Roles:
    """Admits by a role that is sent in plain words."""

    async def admit(self, headers: Mapping[str, str], needs: Needs) -> str:
        role = headers.get("authorization", "")
        if needs in {Needs.OPEN, Needs.SIGNED}:
            return ""
        if not role:
            raise DeniedError("who are you", code="no-token")
        if not allows(Role(role), needs):
            raise DeniedError("not you", code="role-too-low")
        return role


async def _done(_: MlflowRequest) -> object:
    return {}


def _filled(path: str) -> str:
    return path.replace(":path}", "}").replace("{", "").replace("}", "")


def test_every_route_asks_who_calls(ask: Any) -> None:
    """One route that forgot to ask would be open to the network."""
    routes = [replace(route, handler=_done) for route in ROUTES]
    ask.application = MlflowApplication(ask.services, routes, _Roles())
    for route in routes:
        # What is answered for browsers is the same route, so that one address of it is enough.
        url = _filled(route.path).replace("/api/", "/ajax-api/", 1)
        free = route.needs in {Needs.OPEN, Needs.SIGNED}
        assert ask(route.method, url).status == (200 if free else 401), url
        for role in Role:
            expected = 200 if free or allows(role, route.needs) else 403
            assert ask(route.method, url, authorization=role.value).status == expected, url


def test_what_is_not_built_or_unknown_tells_strangers_nothing(ask: Any) -> None:
    """A stranger would learn which version runs."""
    ask.application = MlflowApplication(ask.services, ROUTES, _Roles())
    for url in ("/api/3.0/mlflow/traces/x", "/api/2.0/nothing"):
        answer = ask("GET", url)
        assert (answer.status, answer.json["error_code"]) == (401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"].startswith("Basic")


def test_what_changes_records_needs_to_write() -> None:
    """A token for looking could change records, or could not look."""
    reading = {
        "search",
        "get-latest-versions",
        "search-datasets",
        "presigned-download-url",
        "batchGetInfos",
    }
    for route in ROUTES:
        is_reading = route.method == "GET" or route.path.rsplit("/", 1)[1] in reading
        if route.needs not in {Needs.OPEN, Needs.SIGNED}:
            assert (route.needs is Needs.READ) == is_reading, route.path


def test_every_endpoint_of_mlflow_is_answered(ask: Any) -> None:
    """A client would try again for minutes, or take our fault for its own."""
    index = RouteIndex(ROUTES)
    built = {(route.method, route.path) for route in ROUTES}
    for method, path in ENDPOINTS:
        found = index.find(method, _filled(path))
        if (method, path) not in built and not isinstance(found, tuple):
            assert found.error_code == "NOT_IMPLEMENTED", path
        elif (method, path) in built:
            assert isinstance(found, tuple), path
    answer = ask("POST", f"{API}/webhooks", {})
    assert (answer.status, answer.json["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert "docs/compat/mlflow.md" in answer.json["message"]
    assert answer.headers["x-content-type-options"] == "nosniff"


NO_ENDPOINTS = (
    ("GET", f"{API}/nothing"),
    ("DELETE", f"{API}/runs/get"),
    ("GET", f"{API}/runs/get/"),
    ("GET", "/api/2.0/"),
    ("GET", "/api/4.0/mlflow/traces"),
    ("GET", f"{API}/../mlflow/runs/get"),
    ("PUT", "/ajax-api/2.0/mlflow/runs/create"),
)


def test_what_is_no_endpoint_is_a_404_of_mlflows(ask: Any) -> None:
    """Clients fall back to older endpoints on this answer only."""
    for method, url in NO_ENDPOINTS:
        answer = ask(method, url)
        assert (answer.status, answer.json["error_code"]) == (404, "ENDPOINT_NOT_FOUND"), url


WRONG_BODIES = (
    b"[]",
    b'"text"',
    b"3",
    b"null",
    b"{",
    b"\xff\xfe",
    b'{"experiment_id": []}',
    b'{"experiment_id": "x"}',
    b'{"experiment_id": 1e400}',
    b'{"experiment_id": -1}',
    b'{"experiment_id": 99999999999999999999999}',
    b'{"name": NaN}',
    b"[" * DEEP,
    b"[" * DEEP + b"]" * DEEP,
    b'{"experiment_id": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    b'{"unknown": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"unknown": null, "more": ' + b"[" * DEEP + b"]" * DEEP + b"}",
)


def test_a_bad_body_is_the_callers_fault(ask: Any) -> None:
    """The server would crash, or the client try again for minutes."""
    for body in WRONG_BODIES:
        answer = ask("POST", f"{API}/experiments/delete", body, content_type="application/json")
        found = (answer.status, answer.json["error_code"])
        assert found == (400, "INVALID_PARAMETER_VALUE"), body[:40]


def test_a_page_of_others_cannot_send_what_is_read(ask: Any) -> None:
    """A form on a foreign page could change records."""
    url, body = f"{API}/experiments/create", b'{"name": "x"}'
    for said in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = ask("POST", url, body, content_type=said)
        assert answer.status == 400
        assert "application/json" in answer.json["message"]
    assert ask("POST", url, body, content_type="application/json; charset=utf-8").status == 200


def test_a_large_body_is_refused_before_it_is_read(ask: Any) -> None:
    """A hundred megabytes would be kept in memory for each caller."""
    url, kind = f"{API}/runs/log-batch", {"content_type": "application/json"}
    announced = {**kind, "content-length": str(100 * 2**20)}
    refused = ask.send("POST", url, [b"{}"], announced)
    assert (refused.status, refused.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    parts: list[bytes | None] = [bytes(2**20)] * 9
    chunked = ask.send("POST", url, parts, {**kind, "content-length": "x"})
    assert chunked.status == 400
    assert str(MAX_BODY_BYTES) in chunked.json["message"]


def test_who_hangs_up_is_not_answered(ask: Any) -> None:
    """A broken connection would be logged as a fault of ours."""
    headers = {"content_type": "application/json"}
    assert ask.send("POST", f"{API}/runs/create", [b"{", None], headers).status == 0


def test_a_query_or_path_that_cannot_be_decoded_is_the_callers_fault(ask: Any) -> None:
    """The server would fail, or look for another name."""
    for query in ("run_id=%ff", "run_id=" + "&a=1" * 10_001):
        assert ask("GET", f"{API}/runs/get?{query}").status == 400
    assert ask("GET", f"{API}/logged-models/m-%ff").status == 400


def test_fields_may_be_null_unknown_or_twice(ask: Any) -> None:
    """Clients in other languages would be refused for what protobuf allows."""
    body = b'{"name": "a", "name": "b", "tags": null, "unknown": [1], "artifact_location": null}'
    made = ask("POST", f"{API}/experiments/create", body, content_type="application/json")
    assert made.status == 200
    assert ask("GET", f"{API}/experiments/get-by-name?experiment_name=b").status == 200


def test_a_fault_of_ours_is_told_without_its_traceback(
    ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger would read our source, and nobody would find the fault."""

    async def fail(_: MlflowRequest) -> object:
        raise ZeroDivisionError("secret")

    route = MlflowRoute(method="GET", path="/api/x", handler=fail, needs=Needs.READ)
    ask.application = MlflowApplication(ask.services, [route])
    with caplog.at_level(logging.ERROR):
        answer = ask("GET", "/api/x")
    assert (answer.status, answer.json["error_code"]) == (500, "INTERNAL_ERROR")
    assert b"secret" not in answer.body
    assert "ZeroDivisionError" in caplog.text


def test_headers_alone_are_answered(ask: Any) -> None:
    """A probe that asks with HEAD would take the server for dead."""
    answer = ask("HEAD", "/health")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "2")


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (NotFoundError("x"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (NotFoundError("x", code="alias-not-found"), 400, "INVALID_PARAMETER_VALUE"),
        (ConflictError("x", code="experiment-exists"), 400, "RESOURCE_ALREADY_EXISTS"),
        (ConflictError("x", code="artifact-immutable"), 409, "RESOURCE_CONFLICT"),
        (InvalidInputError("x"), 400, "INVALID_PARAMETER_VALUE"),
        (DeniedError("x"), 403, "PERMISSION_DENIED"),
        (DeniedError("x", code="no-token"), 401, "UNAUTHENTICATED"),
        (LockedError("x"), 503, "TEMPORARILY_UNAVAILABLE"),
        (UnavailableError("x"), 503, "TEMPORARILY_UNAVAILABLE"),
        (IntegrityError("x"), 500, "INTERNAL_ERROR"),
    ],
)
def test_each_of_our_errors_has_one_of_mlflows(error: StemmaError, status: int, name: str) -> None:
    """A client would retry what never works, or give up what would."""
    found = problem_of(error)
    assert (found.status, found.error_code) == (status, name)
