"""What users may send: wrong in every way, and still one clear answer each."""

from __future__ import annotations

import http.client
import json
from contextlib import closing, suppress
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PREDICT = "/v1/models/prices:predict"
INFER = "/v2/models/prices/infer"


def tensor(**changes: Any) -> dict[str, Any]:
    """Return an Open Inference Protocol body, right but for the changes."""
    whole = {"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], **changes}
    return {"inputs": [{key: value for key, value in whole.items() if value is not None}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "names"),
    [
        (PREDICT, {"instances": [[1, 2, 3]]}, 400, "X"),
        (PREDICT, {"instances": [1, 2]}, 400, "X"),
        (PREDICT, {"instances": [["a", "b"]]}, 400, "X"),
        (PREDICT, {"instances": [[1, 2], [3]]}, 400, "X"),
        (PREDICT, {"instances": []}, 400, "X"),
        (PREDICT, {"rows": [[1, 2]]}, 400, "instances"),
        (PREDICT, [[1, 2]], 400, "object"),
        (INFER, tensor(shape=[1, 3]), 400, "X"),
        (INFER, tensor(shape=[1, 3], data=[1, 2, 3]), 400, "X"),
        (INFER, tensor(shape=[-1, 2]), 400, "X"),
        (INFER, tensor(datatype="BYTES", data=["a", "b"]), 400, "X"),
        (INFER, tensor(datatype="FP99"), 400, "FP99"),
        (INFER, tensor(name="Y"), 400, "Y"),
        (INFER, tensor(data=None), 400, "X"),
        (INFER, {"inputs": []}, 400, "X"),
        (INFER, {}, 400, "inputs"),
        (INFER, {**tensor(), "outputs": [{"name": "colour"}]}, 400, "colour"),
        ("/invocations", {"dataframe_split": {"columns": ["a"], "data": [[1]]}}, 400, "X"),
        ("/invocations", {"something": 1}, 400, "dataframe_split"),
        ("/v1/models/nobody:predict", {"instances": [[1, 2]]}, 404, "served: prices"),
        ("/v2/models/nobody/infer", tensor(), 404, "served: prices"),
        ("/v2/models/prices/versions/7.0.0/infer", tensor(), 404, "7.0.0"),
        ("/v1/models/prices:explain", {"instances": [[1, 2]]}, 404, "explain"),
    ],
)
def test_a_wrong_request_is_answered_with_the_field_that_is_wrong(
    shared: Any, path: str, body: Any, status: int, names: str
) -> None:
    """The caller would search all of a request, or take the server for broken."""
    answer = shared.http("POST", path, body)
    assert answer.status == status, answer.body
    assert names in answer.body.decode()
    assert "Traceback" not in answer.body.decode()
    assert answer.headers["content-type"].startswith("application/json")
    assert shared.predict(1, 2).json == {"predictions": [5.0]}


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"", b"[" * 100_000, b'{"instances": NaN}'])
@pytest.mark.parametrize("path", [PREDICT, INFER, "/invocations"])
def test_what_is_no_json_is_refused(shared: Any, path: str, body: bytes) -> None:
    """A process would end, or the caller see a page of its insides."""
    answer = shared.http("POST", path, body)
    assert answer.status == 400, answer.body
    assert {"error", "message"} & set(answer.json), "MLflow's callers read message"
    assert shared.predict(1, 2).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PREDICT, 405),
        ("DELETE", "/v2/models/prices", 405),
        ("PUT", INFER, 405),
        ("GET", "/v2/health/live", 200),
        ("GET", "/ping", 200),
        ("GET", "/v2/models/prices/ready", 200),
        ("GET", "/v2/models/prices/versions/1.0.0", 200),
    ],
)
def test_a_method_is_answered_where_it_belongs(
    shared: Any, method: str, path: str, status: int
) -> None:
    """A probe would be refused, or a wrong method taken for a prediction."""
    assert shared.http(method, path).status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ],
)
@pytest.mark.parametrize("path", [PREDICT, "/api/serving", "/healthz"])
def test_a_page_from_elsewhere_cannot_ask(shared: Any, path: str, headers: dict[str, str]) -> None:
    """A web page a user visits would read predictions, or post metrics."""
    body = {"instances": [[1, 2]]} if path == PREDICT else None
    method = "POST" if body else "GET"
    assert shared.http(method, path, body, headers=headers).status == 403
    near = {"host": "localhost:1", "origin": "http://localhost:3000"}
    assert shared.http(method, path, body, headers=near).status == 200


def test_a_hundred_megabytes_are_refused_and_harm_nobody(shared: Any) -> None:
    """One request would take the memory of all."""
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=40)
    block = b"1," * (512 * 1024)
    size_bytes = 100 * len(block)
    connection.putrequest("POST", PREDICT)
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(size_bytes))
    connection.endheaders()
    with closing(connection):
        with suppress(OSError):  # It may be refused before everything was sent.
            for _ in range(100):
                connection.send(block)
        answer = connection.getresponse()
        assert answer.status == 413
        assert "bytes" in answer.read().decode()
    assert shared.predict(1, 2).status == 200
    assert shared.slot("1.0.0")["replicas"][0]["restarts"] == 0


def test_a_missing_number_is_null_both_ways(shared: Any) -> None:
    """JSON knows no NaN, and a model that fills gaps in could not be asked."""
    answer = shared.http("POST", PREDICT, {"instances": [[1, None], [1, 2]]})
    assert answer.json == {"predictions": [None, 5.0]}


def test_a_request_keeps_its_number(shared: Any) -> None:
    """A user's complaint could not be found in the log."""
    answer = shared.http(
        "POST", PREDICT, {"instances": [[1, 2]]}, headers={"x-request-id": "from-the-user-1"}
    )
    assert answer.status == 200
    log = shared.state / "plane" / "access.jsonl"
    shared.until(lambda: "from-the-user-1" in log.read_text(encoding="utf-8"), seconds=5)
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    found = next(line for line in lines if line["i"] == "from-the-user-1")
    assert (found["m"], found["v"], found["s"]) == ("prices", "1.0.0", 200)
