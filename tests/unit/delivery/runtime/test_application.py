"""Wrong here: a request is answered by the wrong model, not at all, or takes the process down."""

from __future__ import annotations

import ast
import asyncio
import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stemma.delivery.runtime.model import Inputs, Ready
from stemma.delivery.runtime.recorder import KEPT, Recorder

INFER = "/v2/models/digits/infer"
PREDICT = "/v1/models/digits:predict"


def _tensor(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "X", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}
    return {"inputs": [tensor | changes]}


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/digits",
        "/v2/models/digits/ready",
        "/v2/models/digits/versions/1.2.0",
        "/v2/models/digits/versions/1.2.0/ready",
        "/v1/models",
        "/v1/models/digits",
        "/ping",
        "/health",
        "/version",
        "/models/digits/ping",
    ],
)
def test_every_question_about_it_is_answered(make_asker: Callable[..., Any], path: str) -> None:
    """Clients ask before they send; each answer names the version that gave it."""
    reply = make_asker().get(path)
    assert reply.status == 200
    assert reply.headers["x-stemma-version"] == "1.2.0"


@pytest.mark.parametrize("path", [PREDICT, "/invocations", "/models/digits/invocations"])
def test_rows_are_answered_in_each_plain_protocol(
    make_asker: Callable[..., Any], path: str
) -> None:
    """The same rows give the same predictions wherever they are sent."""
    reply = make_asker().post(path, {"instances": [[1, 2], [3, 4.5]]})
    assert (reply.status, reply.json) == (200, {"predictions": [3.0, 7.5]})


def test_before_the_golden_answer_it_is_live_and_not_ready(
    make_asker: Callable[..., Any],
) -> None:
    """Traffic must not reach a model that has not proven itself."""
    asker = make_asker(is_ready=False)
    assert asker.get("/v2/health/live").status == 200
    assert asker.get("/v2/health/ready").status == 503
    assert asker.get("/v1/models/digits").status == 503
    unready = asker.post(PREDICT, {"instances": [[1, 2]]})
    # A data plane sends the request to another replica when it sees this.
    assert (unready.status, unready.headers["x-stemma-not-ready"]) == (503, "1")
    asker.application.fail("it answered 7 instead of 2")
    reply = asker.get("/v2/health/ready")
    assert (reply.status, reply.error) == (500, "it answered 7 instead of 2")
    assert "7 instead of 2" in asker.post("/invocations", {"instances": [[1, 2]]}).error


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v2/models/other", 404, "no model 'other' is served here; it is 'digits'"),
        ("POST", "/v2/models/other/infer", 404, "no model 'other'"),
        ("POST", "/v1/models/other:predict", 404, "no model 'other'"),
        ("GET", "/v2/models/digits/versions/9", 404, "no version '9' here; it is 1.2.0"),
        ("GET", "/v2/models/digits/config", 404, "nothing is served at"),
        ("GET", "/nothing", 404, "nothing is served at /nothing"),
        ("GET", INFER, 405, "use POST"),
        ("POST", "/v2/health/live", 405, "use GET"),
        ("DELETE", "/invocations", 405, "use POST"),
        ("POST", "/v1/models/digits:fly", 404, "no method 'fly'; it has predict, predict_proba"),
    ],
)
def test_a_wrong_address_is_named(
    make_asker: Callable[..., Any], method: str, path: str, status: int, said: str
) -> None:
    """Who asks at the wrong place must be told the right one."""
    body = json.dumps({"instances": [[1, 2]]}).encode()
    reply = asyncio.run(make_asker().send(method, path, [body]))
    assert reply.status == status
    assert said in reply.error
    assert reply.headers["x-stemma-version"] == "1.2.0"


def test_a_large_body_is_refused_unread(make_asker: Callable[..., Any]) -> None:
    """A body of 100 MB must cost neither memory nor time."""
    asker = make_asker(max_body_bytes=1000)
    reply = asyncio.run(
        asker.send("POST", INFER, [b"x" * 100_000_000], {"content-length": "100000000"})
    )
    assert (reply.status, asker.parts_read) == (413, 0)
    assert "100,000,000 bytes; at most 1,000" in reply.error
    reply = asyncio.run(asker.send("POST", "/invocations", [b"x" * 600] * 50))
    assert (reply.status, asker.parts_read) == (413, 2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b"[" * 1_000_000,
        b'{"instances": ' + b"[" * 1_000_000,
        b'{"instances": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"inputs": ' + b'{"a":' * 100_000,
        b'{"instances": [[1, NaN]]}',
        b'{"instances": [[1, 1e999]]}',
        b'{"instances": [[1, 2], [3]]}',
        b'{"instances": []}',
        b'{"instances": [[]]}',
        b'{"instances": {}}',
        b'{"instances": [[1, "2"]]}',
        b'{"instances": [[1, 2]], "inputs": [[1, 2]]}',
        b'{"rows": [[1, 2]]}',
        b'{"instances": [[1, 2]], "params": {"colour": 1}}',
        b'{"instances": [{"X": [1]}]}',
        b'{"instances": [{"Y": [1, 2]}]}',
    ],
)
@pytest.mark.parametrize("path", [INFER, PREDICT, "/invocations"])
def test_a_broken_body_is_a_clear_error(
    make_asker: Callable[..., Any], path: str, body: bytes
) -> None:
    """Whatever is sent, the answer is one line, soon, and the process goes on."""
    asker = make_asker()
    started = time.perf_counter()
    reply = asker.post(path, body)
    assert time.perf_counter() - started < 0.5
    assert reply.status == 400
    assert reply.error
    assert "\n" not in reply.error
    assert asker.post(PREDICT, {"instances": [[1, 2]]}).status == 200


def test_a_raising_model_is_one_line_and_a_traceback_in_the_log(
    make_asker: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Users see what went wrong, not our stack; whoever runs the model sees both."""
    reply = make_asker(is_table=True).post(PREDICT, {"instances": [["fail", 1, 2.0]]})
    assert reply.status == 500
    assert reply.error == "the model raised RuntimeError: cannot add text"
    assert "Traceback" in caplog.text


class _Slow:
    """Answers when it is let."""

    methods = ("predict",)
    outputs = ()

    def __init__(self) -> None:
        self.gate = threading.Event()

    def answer(self, inputs: Inputs, method: str) -> NDArray[Any]:
        """Wait."""
        del inputs, method
        assert self.gate.wait(10)
        return np.zeros(1)

    def infer(self, inputs: Inputs, names: tuple[str, ...]) -> list[NDArray[Any]]:
        """Not asked."""
        del inputs, names
        return []


def test_health_is_answered_while_a_prediction_runs(make_asker: Callable[..., Any]) -> None:
    """A slow model is not a dead one: a probe that waits would have it restarted."""
    asker = make_asker(is_ready=False)
    model = _Slow()
    asker.application.become_ready(Ready(model=model, is_quick=False))
    body = json.dumps({"instances": [[1, 2]]}).encode()

    async def ask() -> tuple[int, int, int]:
        asking = asyncio.create_task(asker.send("POST", PREDICT, [body]))
        await asyncio.sleep(0.02)
        health = await asker.send("GET", "/v2/health/ready")
        busy = asker.application.busy
        model.gate.set()
        return health.status, busy, (await asking).status

    assert asyncio.run(ask()) == (200, 1, 200)
    asker.application.close()


def test_answered_requests_are_recorded(make_asker: Callable[..., Any], tmp_path: Path) -> None:
    """Staging replays what users really sent; refused requests would only fail again."""
    asker = make_asker(recorder=Recorder(tmp_path / "digits", 1))
    body = json.dumps(_tensor()).encode()
    headers = {
        "content-type": "application/json",
        "inference-header-content-length": str(len(body)),
    }
    assert asker.post(INFER + "?a=b", body, headers).status == 200
    assert asker.post(INFER, {"inputs": []}).status == 400
    asker.application.close()
    (file,) = (tmp_path / "digits").iterdir()
    assert file.name == "request-1-000.json"
    assert json.loads(file.read_bytes()) == {
        "path": INFER + "?a=b",
        "content_type": "application/json",
        "headers": {"inference-header-content-length": str(len(body))},
        "body_base64": base64.b64encode(body).decode(),
    }


@pytest.mark.slow
def test_recording_keeps_a_bounded_sample(make_asker: Callable[..., Any], tmp_path: Path) -> None:
    """A busy week must not fill the disk."""
    asker = make_asker(recorder=Recorder(tmp_path, 0, seed=1))
    for _ in range(KEPT * 2):
        assert asker.post(PREDICT, {"instances": [[1, 2]]}).status == 200
        time.sleep(0.0002)
    asker.application.close()
    assert KEPT / 2 < len(list(tmp_path.iterdir())) <= KEPT


def test_a_folder_that_cannot_be_written_is_one_warning(
    make_asker: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk must not cost a single answer."""
    (tmp_path / "file").write_text("in the way")
    asker = make_asker(recorder=Recorder(tmp_path / "file" / "folder", 0))
    for _ in range(5):
        assert asker.post(PREDICT, {"instances": [[1, 2]]}).status == 200
    asker.application.close()
    assert caplog.text.count("requests are no longer recorded") == 1


@pytest.mark.slow
def test_the_runtime_needs_no_database_and_no_web_framework() -> None:
    """It runs in the version's own environment, which has neither."""
    code = (
        "import sys, stemma.sdk.model_process, stemma.delivery.runtime.application as a; "
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    assert not loaded & {
        "sqlalchemy",
        "alembic",
        "starlette",
        "aiohttp",
        "yaml",
        "pandas",
        "sklearn",
    }
    foreign = {"uvicorn", "h11", "httptools", "uvloop", "click"}
    ours = {"stemma", "blake3", "msgspec", "numpy", "typing_extensions"}
    installed = {
        path.name.partition(".")[0]
        for path in Path(np.__file__).parents[1].iterdir()
        if not path.name.startswith(("_", "."))
    }
    assert loaded & installed <= foreign | ours
