"""What no client of good will sends, over HTTP through the data plane, against a served project.

Each is answered in MLflow's words and with its status, never with a fault of the server's, and
neither a file beside the project's store is read nor one is written.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

pytestmark = pytest.mark.slow

_API = "/api/2.0/mlflow"
_FILES = "/api/2.0/mlflow-artifacts/artifacts"
_INVALID = (400, "INVALID_PARAMETER_VALUE")
_MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
_UPWARD = (
    "../secret.txt",
    "../../../../../../etc/passwd",
    "a/../../secret.txt",
    "/etc/passwd",
    "..\\..\\secret.txt",
    "a/./b",
    "a//b",
    "C:/secret.txt",
    "a\0b",
    ".",
    "..",
)
_ELSEWHERE = (
    "file:///etc",
    "file:secret",
    "http://127.0.0.1:1/x",
    "https://example.com/x",
    "local:/etc",
    "dbfs:/x",
    "s3://bucket/x",
    "/etc",
    "../x",
    "mlflow-artifacts:/0/../../etc",
    "mlflow-artifacts://example.com/0/r-00/artifacts",
    "runs:/../../etc/passwd",
    "models:/../x",
)


@dataclass(frozen=True)
class Caller:
    """Sends bytes as they are given, as no HTTP library would.

    Attributes:
        host: Host and port of the server.
        experiment: An experiment with one run.
        run: The run.
        model: A logged model.
    """

    host: str
    experiment: str = ""
    run: str = ""
    model: str = ""

    def __call__(
        self, method: str, target: str, body: bytes = b"", **headers: str
    ) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            sent = {"host": self.host, "content-length": str(len(body)), **headers}
            for name, value in sent.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Send a message; bytes are sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers.setdefault("content_type", "application/json")
        status, answer = self("POST", f"{_API}/{path}", data, **headers)
        return status, json.loads(answer)

    def refuses(self, path: str, body: Any, expected: tuple[int, str] = _INVALID) -> None:
        """Insist that a message is refused."""
        status, answer = self.post(path, body)
        assert (status, answer.get("error_code")) == expected, (path, str(body)[:200], answer)
        assert set(answer) == {"error_code", "message"}


@pytest.fixture(scope="module")
def call(tracking_address: str, tracking_project: Path) -> Iterator[Caller]:
    """A caller, and after all it sent: nothing else was written than records and objects."""
    host = urlsplit(tracking_address).netloc
    (tracking_project / "secret.txt").write_text("top secret", encoding="utf-8")
    plain = Caller(host)
    _, made = plain.post("experiments/create", {"name": "attacked"})
    experiment = made["experiment_id"]
    _, made = plain.post("runs/create", {"experiment_id": experiment})
    run = made["run"]["info"]["run_id"]
    _, made = plain.post("logged-models", {"experiment_id": experiment, "name": "attacked"})
    plain.post("registered-models/create", {"name": "attacked"})
    before = _tree(tracking_project)
    yield Caller(host, experiment, run, made["model"]["info"]["model_id"])
    assert _tree(tracking_project) == before
    assert (tracking_project / "secret.txt").read_text(encoding="utf-8") == "top secret"
    assert _post_is_fine(plain)


def _tree(project: Path) -> set[str]:
    ours = tuple(f".stemma/{name}" for name in ("objects", "tmp", "serve", "stemma.db", "store"))
    names = {str(path.relative_to(project)) for path in project.rglob("*")}
    beside = {f"../{path.name}" for path in project.parent.iterdir()}
    return {name for name in names if not name.startswith((*ours, "server.log"))} | beside


def _post_is_fine(caller: Caller) -> bool:
    return caller.post("experiments/search", {"max_results": 1})[0] == 200


def _spellings(path: str) -> list[str]:
    once = quote(path, safe="")
    dots = once.replace(".", "%2e")
    return [quote(path, safe="/."), once, dots, quote(once, safe=""), quote(dots, safe="")]


@pytest.mark.parametrize("path", _UPWARD)
def test_a_path_that_leads_elsewhere_names_no_artifact(call: Caller, path: str) -> None:
    """A client could read or overwrite any file of the server's user."""
    root = f"{_FILES}/{call.experiment}/{call.run}/artifacts"
    models = f"{_FILES}/{call.experiment}/models/{call.model}/artifacts"
    for spelling in _spellings(path):
        for folder in (root, models, _FILES, "/api/2.0/mlflow-artifacts/presigned"):
            for method in ("GET", "PUT", "DELETE"):
                status, answer = call(method, f"{folder}/{spelling}", b"x" * (method == "PUT"))
                assert b"top secret" not in answer
                assert b"root:" not in answer
                # Encoded twice, it is an odd name that leads nowhere.  Bare slashes and dots
                # the data plane folds, as far as that stays inside of the folder.
                is_odd = "%25" in spelling
                is_folded = ".." not in path and spelling == path
                assert 400 <= status < 500 or is_odd or is_folded, (method, spelling, answer)


@pytest.mark.parametrize("path", _UPWARD)
def test_a_query_that_leads_elsewhere_names_no_artifact(call: Caller, path: str) -> None:
    """A client could list any folder of the server's user."""
    for value in (path, quote(path, safe=""), quote(quote(path, safe=""), safe="")):
        for target, fields in (
            (f"{_API}/artifacts/list", {"run_id": call.run, "path": value}),
            (f"{_API}/artifacts/list", {"run_id": value, "path": ""}),
            (_FILES, {"path": value}),
            (_FILES, {"path": f"{call.experiment}/{call.run}/artifacts/{value}"}),
            ("/get-artifact", {"run_id": call.run, "path": value}),
            ("/model-versions/get-artifact", {"name": "attacked", "version": "1", "path": value}),
            (
                f"{_API}/logged-models/{call.model}/artifacts/directories",
                {"artifact_directory_path": value},
            ),
            (f"{_API}/runs/get", {"run_id": value}),
            (f"{_API}/experiments/get", {"experiment_id": value}),
            (f"{_API}/model-versions/get", {"name": value, "version": value}),
        ):
            status, answer = call("GET", f"{target}?{urlencode(fields)}")
            found = json.loads(answer)
            is_empty = status == 200 and not found.get("files")
            assert is_empty or 400 <= status < 500 or status == 501, (target, fields, answer)


@pytest.mark.parametrize("place", _ELSEWHERE)
def test_no_place_but_the_servers_own_is_taken(call: Caller, place: str) -> None:
    """The server would read files or ask hosts that a client names."""
    call.refuses("experiments/create", {"name": f"at {place}", "artifact_location": place})
    body = {"name": "attacked", "source": place, "run_id": call.run}
    status, answer = call.post("model-versions/create", body)
    assert status in {400, 404}, answer


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'"text"',
        b"7",
        b"true",
        b"{",
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b'{"name": NaN}',
        b'{"name": 7}',
        b'{"name": ["a"]}',
        b'{"name": ""}',
        b'{"name": "a\\u0000b"}',
        b"[" * 100_000,
        b'{"name":' * 100_000,
        b'{"other": ' + b"[" * 100_000 + b"]" * 100_000 + b', "name": "x"}',
        b'{"name": "' + b"n" * 10_000 + b'"}',
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_a_body_that_is_no_message_is_refused(call: Caller, body: bytes) -> None:
    """A crooked body would be a fault of the server's, which clients send again and again."""
    for path in ("experiments/create", "registered-models/create"):
        call.refuses(path, body)


def test_a_body_beyond_all_measure_is_refused(call: Caller) -> None:
    """One request could take the server's memory."""
    body = b'{"name": "' + b"n" * 100_000_000 + b'"}'
    try:
        status, answer = call.post("experiments/create", body)
    except (ConnectionError, BrokenPipeError):
        return  # it hung up in the middle of it, which is as good
    assert (status, answer["error_code"]) == _INVALID


def test_other_kinds_of_content_are_refused(call: Caller) -> None:
    """A page of somebody else's could post a form to a server on this machine."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        status, answer = call.post("experiments/create", {"name": "form"}, content_type=kind)
        assert (status, answer["error_code"]) == _INVALID, kind


def test_a_foreign_host_or_origin_is_refused(call: Caller) -> None:
    """A page of somebody else's could read and write what is tracked on this machine."""
    for headers in (
        {"host": "evil.example.com"},
        {"host": "evil.example.com:80"},
        {"origin": "https://evil.example.com"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1.evil.example.com"},
    ):
        for target in (f"{_API}/experiments/search?max_results=1", "/health", "/version"):
            status, _ = call("GET", target, b"", **headers)
            assert status == 403, (target, headers)


def test_numbers_out_of_range_are_refused(call: Caller) -> None:
    """What cannot be kept would be kept as something else, or be a fault of the server's."""
    point = {"run_id": call.run, "key": "loss", "value": 1.0, "timestamp": 1, "step": 0}
    for field, value in (
        ("step", 2**63),
        ("step", -(2**63) - 1),
        ("step", 1.5),
        ("step", "x"),
        ("timestamp", 2**63 - 1),
        ("timestamp", 10**400),
        ("value", "x"),
        ("value", []),
        ("key", ""),
        ("key", "../x"),
        ("key", "n" * 10_000),
        ("key", "a\0b"),
    ):
        call.refuses("runs/log-metric", point | {field: value})
    for bare in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        body = json.dumps(point).encode().replace(b"1.0", bare)
        call.refuses("runs/log-metric", body)
    for text in ("NaN", "Infinity", "-Infinity"):
        assert call.post("runs/log-metric", point | {"value": text})[0] == 200
    call.refuses("runs/create", {"experiment_id": call.experiment, "start_time": 2**62})
    call.refuses("logged-models", {"experiment_id": 2**63, "name": "m"})
    call.refuses("runs/search", {"experiment_ids": [2**63]})
    for most in (-1, 10**9, 2**63):
        call.refuses("runs/search", {"experiment_ids": [call.experiment], "max_results": most})


def test_a_token_that_no_page_has_is_refused(call: Caller) -> None:
    """A forged token would show other rows, or be a fault of the server's."""
    for token in ("x", "AAAA", "e30=", "WzEsMiwzXQ==", "W10=", "n" * 10_000, "\0", "é"):
        body = {"experiment_ids": [call.experiment], "page_token": token}
        call.refuses("runs/search", body)
        call.refuses("experiments/search", {"max_results": 5, "page_token": token})
        call.refuses("logged-models/search", body)
        for path in ("registered-models/search", "model-versions/search"):
            status, answer = call("GET", f"{_API}/{path}?{urlencode({'page_token': token})}")
            assert (status, json.loads(answer)["error_code"]) == _INVALID, (path, token)


def test_nothing_is_made_below_what_is_deleted_or_not_there(call: Caller) -> None:
    """What is logged there would never be seen."""
    _, made = call.post("experiments/create", {"name": "to be deleted"})
    gone = made["experiment_id"]
    _, made = call.post("runs/create", {"experiment_id": gone})
    run = made["run"]["info"]["run_id"]
    assert call.post("experiments/delete", {"experiment_id": gone})[0] == 200
    call.refuses("runs/create", {"experiment_id": gone})
    call.refuses("runs/log-parameter", {"run_id": run, "key": "a", "value": "b"})
    call.refuses("runs/create", {"experiment_id": "999999"}, _MISSING)
    call.refuses("runs/set-tag", {"run_id": "0" * 32, "key": "a", "value": "b"}, _MISSING)
    source = f"mlflow-artifacts:/{call.experiment}/{call.run}/artifacts/model"
    call.refuses("model-versions/create", {"name": "nobody", "source": source}, _MISSING)
    target = f"{_FILES}/{gone}/{run}/artifacts/a.txt"
    status, answer = call("PUT", target, b"late")
    assert 400 <= status < 500, answer


def test_fields_that_are_not_known_are_passed_over(call: Caller) -> None:
    """A newer client would be refused for what it says beside."""
    body = {"run_id": call.run, "key": "a", "value": "b", "new": {"deep": [1]}, "x": None}
    assert call.post("runs/set-tag", body)[0] == 200


def test_a_request_that_is_not_http_does_no_harm(call: Caller) -> None:
    """A port scan would stop the server."""
    host, _, port = call.host.partition(":")
    for sent in (b"\0" * 100, b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(sent)
    assert _post_is_fine(call)
