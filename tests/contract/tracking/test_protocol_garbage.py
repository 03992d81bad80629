"""Generated requests at every route of the tracking protocol, on both engines.

Each is nearly right: its message has the fields the route asks for, filled with ids that are
there, with what no client of good will sends, and with neither.  Whatever comes, the answer is
the route's or an error in MLflow's words, never a fault of ours, and nothing but the records
and the store of the project is written.
"""

from __future__ import annotations

import asyncio
import json
import random
import string
import types
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import quote, urlencode

import msgspec
import pytest

from stemma.domain.errors import StemmaError
from stemma.protocols.mlflow.app import MlflowApplication, OpenGuard
from stemma.protocols.mlflow.routes import MlflowRoute
from stemma.protocols.mlflow.table import ROUTES
from stemma.server.mlflow_wiring import tracking_application
from stemma.server.wiring import init_project, open_hub

_REQUESTS = 600
_SEED = 5
_JSON = "application/json"
_SELDOM = 0.1
_OURS = ("project/.stemma/objects/", "project/.stemma/tmp/", "project/.stemma/store.lock")
_STATUSES = {
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_CONFLICT": 409,
    "NOT_IMPLEMENTED": 501,
}
_TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "é\u202e\U0001f9ec",
    "n" * 10_000,
    "../../etc/passwd",
    "..%2f..%2fetc",
    "%252e%252e%252f",
    "/etc/passwd",
    "..\\..\\windows",
    "file:///etc/passwd",
    "http://example.com/x",
    "local:/etc",
    "dbfs:/x",
    "mlflow-artifacts:/0/../../x",
    "runs:/r-00/model",
    "models:/clf/1",
    "'; DROP TABLE runs; --",
    "name = 'clf'",
    "metrics.loss > 1e999",
    "tags.x LIKE '%\0%'",
    "attributes.start_time > 99999999999999999999",
    "(" * 500,
    " AND ".join(["metrics.loss > 0"] * 300),
    f"run_id IN ({', '.join(repr('r-00') for _ in range(2000))})",
    f"name = '{'x' * 100_000}'",
    "name LIKE '" + "%_" * 30_000 + "'",
    "eyJhIjoxfQ==",
    "[1,2,3]",
    "999999999999999999999",
    "-1",
    "NaN",
    "0",
    "1",
    "ALL",
    "READY",
    "FINISHED",
    "Staging",
    "None",
    "true",
)
_NUMBERS = (0, 1, 2, -1, 10**6, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**30, 10**400)
_VALUES = (0.0, 1.5, -1e308, 1e999, float("nan"), "NaN", "Infinity", "-Infinity", 10**400)
_WRONG: tuple[Any, ...] = (None, True, [], {}, [[]], {"a": {"b": []}}, "x", 3, 1.5, ["x"], [None])
_BODIES = (
    b"",
    b"[]",
    b'"x"',
    b"7",
    b"null",
    b"{",
    b"\xff\xfe{}",
    b'{"name": "\xff"}',
    b'{"name": "\\ud800"}',
    b'{"name": NaN}',
    b"[" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"tags": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
)


@dataclass(frozen=True)
class Known:
    """What is in the project, by the fields that name it."""

    ids: dict[str, list[Any]]

    def of(self, field: str) -> list[Any]:
        """Return values of a field that are there."""
        return self.ids.get(field, [])


class _FoundError(Exception):
    """A handler asked for its message."""


class _Asks:
    """A request that only looks for which message a handler asks."""

    def __init__(self) -> None:
        self.query: dict[str, list[str]] = {}
        self.headers: dict[str, str] = {}
        self.path: dict[str, str] = {}
        self.message: type[msgspec.Struct] | None = None

    async def body(self, message: type[msgspec.Struct]) -> Any:
        self.message = message
        raise _FoundError


def message_of(route: MlflowRoute) -> type[msgspec.Struct] | None:
    """Return the message that a route asks for; ``None`` when it asks for none at first."""
    asks = _Asks()
    asking: Any = route.handler(asks)  # type: ignore[arg-type]
    with suppress(_FoundError, AttributeError, KeyError, StemmaError, StopIteration):
        asking.send(None)
    asking.close()
    return asks.message


@dataclass
class Generator:
    """Draws requests.

    Attributes:
        chance: Draws.
        known: What is there.
    """

    chance: random.Random
    known: Known

    def target(self, route: MlflowRoute) -> str:
        """Return a path of a route."""
        path = route.path
        while "{" in path:
            before, _, rest = path.partition("{")
            name, _, after = rest.partition("}")
            name = name.removesuffix(":path")
            text = str(self.text(name)).encode("utf-8", "replace")
            safe = "/" if self.chance.random() < 0.7 else ""
            quoted = quote(text, safe=safe)
            if self.chance.random() < _SELDOM:
                quoted = quote(quoted, safe="")
            path = before + (quoted or "x").replace("{", "") + after
        return path

    def text(self, name: str) -> Any:
        """Return text for a field of this name."""
        known = self.known.of(name)
        if known and self.chance.random() < 0.75:
            return self.chance.choice(known)
        if self.chance.random() < 0.2:
            return "".join(self.chance.choices(string.printable, k=self.chance.randrange(1, 40)))
        return self.chance.choice(_TEXTS)

    def value(self, kind: Any, name: str) -> Any:
        """Return a value for a field of this type, seldom one of another."""
        if self.chance.random() < 0.04:
            return self.chance.choice(_WRONG)
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if get_origin(kind) in {Union, types.UnionType}:
            kind = self.chance.choice(get_args(kind))
        if get_origin(kind) in {list, tuple}:
            count = self.chance.choice((0, 1, 1, 1, 2, 3))
            return [self.value(get_args(kind)[0], name) for _ in range(count)]
        if get_origin(kind) is dict:
            return {str(self.text("key")): self.value(str, name) for _ in range(2)}
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.message(kind)
        return self.plain(kind, name)

    def plain(self, kind: Any, name: str) -> Any:
        """Return a value for a field of a type without parts."""
        known = self.known.of(name)
        if kind is int and known and self.chance.random() < 0.7:
            return self.chance.choice(known)
        drawn_from = {bool: (True, False, "true", 1), int: _NUMBERS, float: _VALUES}.get(kind)
        return self.chance.choice(drawn_from) if drawn_from else self.text(name)

    def message(self, kind: type[msgspec.Struct]) -> dict[str, Any]:
        """Return a message, with a field too many or too few now and then."""
        filled = {
            field.encode_name: self.value(field.type, field.encode_name)
            for field in msgspec.structs.fields(kind)
            if field.required or self.chance.random() < 0.7
        }
        if filled and self.chance.random() < 0.03:
            filled.pop(self.chance.choice(list(filled)))
        if self.chance.random() < _SELDOM:
            filled["unknown"] = self.chance.choice(_WRONG)
        return filled


class Application:
    """The application without a network."""

    def __init__(self, application: MlflowApplication) -> None:
        self._application = application

    async def __call__(
        self, method: str, target: str, query: str = "", body: bytes = b"", kind: str = ""
    ) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: Any) -> None:
            sent.append(event)

        headers = [(b"host", b"127.0.0.1:5000"), (b"content-length", str(len(body)).encode())]
        if kind:
            headers.append((b"content-type", kind.encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": target,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "headers": headers,
        }
        await self._application(scope, receive, send)
        return sent[0]["status"], b"".join(event.get("body", b"") for event in sent[1:])

    async def post(self, path: str, **fields: Any) -> Any:
        """Send a good message and return the answer."""
        body = json.dumps(fields).encode()
        status, answer = await self("POST", f"/api/2.0/mlflow/{path}", "", body, _JSON)
        assert status == 200, (path, answer)
        return json.loads(answer)


async def populate(application: Application) -> Known:
    """Make something of each kind, and return what it is called."""
    experiment = (await application.post("experiments/create", name="known"))["experiment_id"]
    run = (await application.post("runs/create", experiment_id=experiment))["run"]["info"]["run_id"]
    await application.post("runs/log-metric", run_id=run, key="loss", value=1, timestamp=1)
    path = f"{experiment}/{run}/artifacts/model/MLmodel"
    await application("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", "", b"flavors: {}")
    model = await application.post("logged-models", experiment_id=experiment, name="clf")
    model_id = model["model"]["info"]["model_id"]
    await application.post("registered-models/create", name="clf")
    source = f"mlflow-artifacts:/{experiment}/{run}/artifacts/model"
    await application.post("model-versions/create", name="clf", source=source, run_id=run)
    experiments, runs, models = [experiment, experiment, "0"], [run], [model_id]
    return Known(
        {
            "experiment_id": experiments,
            "experiment_ids": experiments,
            "experiment_name": ["known"],
            "run_id": runs,
            "run_uuid": ["", *runs],
            "run_ids": runs,
            "source_run_id": runs,
            "model_id": models,
            "model_ids": models,
            "name": ["clf", "clf", "known", "new"],
            "new_name": ["clf", "known", "other"],
            "alias": ["champion", "stable"],
            "version": ["1", "2"],
            "stage": ["Staging", "Production", "Archived", "None"],
            "stages": ["Staging", "None"],
            "key": [
                "loss",
                "k",
                "mlflow.runName",
                "mlflow.note.content",
                "mlflow.log-model.history",
            ],
            "metric_key": ["loss"],
            "source": [source, f"runs:/{run}/model", f"models:/{model_id}"],
            "path": ["", "model", f"{experiment}/{run}/artifacts", "model/MLmodel"],
            "artifact_path": [path, f"{experiment}/models/{model_id}/artifacts/x"],
            "filter": ["", "", "status = 'OK'", "name = 'clf'", "metrics.loss > 0", "tags.k = 'v'"],
            "order_by": ["name", "metrics.loss DESC", "start_time"],
            "field_name": ["name", "metrics.loss", "creation_timestamp"],
            "page_token": ["", ""],
            "max_results": [1, 10, 100],
            "status": ["FINISHED", "RUNNING", "LOGGED_MODEL_READY", 3],
            "view_type": ["ALL", "ACTIVE_ONLY"],
            "run_view_type": ["ALL", "DELETED_ONLY"],
            "num_parts": [1, 2],
            "trace_id": ["tr-1", "tr-2"],
            "trace_ids": ["tr-1", "tr-2"],
            "request_id": ["tr-1", "tr-2"],
            "request_ids": ["tr-1", "tr-2"],
            "request_time": ["2026-05-01T12:00:00.123Z", "1969-12-31T23:59:59Z"],
            "execution_duration": ["1.5s", "", "9" * 12 + "s"],
            "state": ["OK", "ERROR", 3],
        }
    )


def tree(folder: Path) -> set[str]:
    """Return the files in a folder that no request may add to."""
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {path for path in files if not path.startswith((*_OURS, "stemma.db"))}


@contextmanager
def project(folder: Path, url: str) -> Iterator[Application]:
    """Yield the application of an empty project on a database."""
    folder.mkdir()
    (folder / "stemma.toml").write_text(f'database = "{url}"\n', encoding="utf-8")
    init_project(folder)
    with (
        closing(open_hub(folder)) as hub,
        tracking_application(hub.parts, OpenGuard()) as application,
    ):
        yield Application(application)


async def trial(application: Application, seed: int, count: int) -> list[str]:
    """Send requests; return what was wrong with the answers."""
    generator = Generator(random.Random(seed), await populate(application))
    routes = [(route, message_of(route)) for route in ROUTES]
    wrong = []
    for number in range(count):
        route, message = routes[number % len(routes)]
        target, query, body = generator.target(route), "", b""
        if route.method == "GET" and message is not None:
            query = as_query(generator.message(message))
        elif generator.chance.random() < _SELDOM:
            body = generator.chance.choice(_BODIES)
        elif message is not None:
            body = json.dumps(generator.message(message)).encode()
        status, answer = await application(route.method, target, query, body, _JSON)
        if not is_fine(status, answer):
            asked = f"{route.method} {target[:200]}?{query[:300]} {body[:300]!r}"
            wrong.append(f"{asked}: {status} {answer[:300]!r}")
    return wrong


def as_query(message: dict[str, Any]) -> str:
    """Return a message as the query of a GET."""
    pairs = []
    for name, value in message.items():
        values = value if isinstance(value, list) else [value]
        pairs += [(name, str(each).encode("utf-8", "surrogatepass")) for each in values]
    return urlencode(pairs)


def is_fine(status: int, answer: bytes) -> bool:
    """Whether an answer is the route's, or an error in MLflow's words."""
    if status in {200, 202, 206, 416}:
        return True
    error = json.loads(answer)
    return set(error) == {"error_code", "message"} and _STATUSES.get(error["error_code"]) == status


@pytest.mark.slow
def test_whatever_is_sent_the_answer_is_no_fault_of_ours(database_url: str, tmp_path: Path) -> None:
    """A client with a fault of its own would make the server look broken, or break it."""
    folder = tmp_path / "project"
    with project(folder, database_url) as application:
        before = tree(tmp_path)
        assert asyncio.run(trial(application, _SEED, _REQUESTS)) == []
        assert tree(tmp_path) == before
