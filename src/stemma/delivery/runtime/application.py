"""The ASGI application of a model process.

    GET  /v2  /v2/health/live  /v2/health/ready  /v2/models/NAME[/versions/V][/ready]
    POST /v2/models/NAME[/versions/V]/infer
    GET  /v1/models  /v1/models/NAME             POST /v1/models/NAME:METHOD
    GET  /ping  /health  /version                POST /invocations  /models/NAME/invocations

Invariants:
    * Every response says which version gave it (``x-stemma-version``).
    * It is live at once, and ready only once ``become_ready`` was called.
    * Health is answered while a prediction runs: slow models and large bodies are given to a
      thread. A model is quick when its golden request took less than ``QUICK_SECONDS``; then a
      small body is answered in place, where a thread would cost more than the answer.
    * The errors of one protocol have one form, whatever went wrong.

It loads no model and opens no socket; see ``stemma.sdk.model_process``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import msgspec

from stemma import __version__
from stemma.delivery.runtime import open_inference, scoring
from stemma.delivery.runtime.contract import Contract
from stemma.delivery.runtime.http import (
    WRONG_METHOD,
    ClientGoneError,
    Message,
    Receive,
    Request,
    Response,
    Send,
    read_request,
    send_response,
    status_of,
    too_large,
)
from stemma.delivery.runtime.model import PREDICT, Ready, ServedModel
from stemma.delivery.runtime.recorder import Recorder
from stemma.delivery.runtime.spec import ProcessSpec
from stemma.domain.errors import InvalidInputError, NotFoundError, StemmaError, UnavailableError
from stemma.domain.routing import NOT_READY_HEADER

QUICK_SECONDS: Final = 0.003
"""A golden request faster than this makes a model quick."""

MAX_JSON_BYTES: Final = 16 * 1024 * 1024
"""Largest JSON or CSV: as objects it needs many times its size."""

_INLINE_BYTES: Final = 64 * 1024
_MOST_THREADS: Final = 4
_SERVER_ERROR: Final = 500
_NOT_READY: Final = (NOT_READY_HEADER.encode(), b"1")
_TEXT: Final = b"text/plain; charset=utf-8"

Handler = Callable[[Request], Response]

_log = logging.getLogger(__name__)


class Application:
    """Serves one version of one model.

    Attributes:
        spec: What is served.
        busy: Predictions under way.
    """

    def __init__(self, spec: ProcessSpec, recorder: Recorder | None = None) -> None:
        """Serve ``spec``; not ready yet."""
        self.spec = spec
        self.busy = 0
        self._recorder = recorder
        self._contract = Contract.of(spec.signature)
        self._version = spec.version.encode("latin-1", "replace")
        self._ready: Ready | None = None
        self._failure = ""
        threads = min(_MOST_THREADS, spec.cpus or os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._fixed: dict[str, tuple[str, Handler]] = {
            "/v2": ("GET", self._server),
            "/v2/health/live": ("GET", lambda _: _json({"live": True})),
            "/v2/health/ready": ("GET", lambda _: self._health()),
            "/v1/models": ("GET", lambda _: _json({"models": [spec.model]})),
            "/ping": ("GET", lambda _: self._ping()),
            "/health": ("GET", lambda _: self._ping()),
            "/version": ("GET", lambda _: Response(body=__version__.encode(), content_type=_TEXT)),
            "/invocations": ("POST", self._invocations),
        }

    def become_ready(self, ready: Ready) -> None:
        """Answer predictions from now on."""
        self._ready = ready

    def fail(self, reason: str) -> None:
        """Say from now on why it will never be ready."""
        self._failure = reason

    def close(self) -> None:
        """Let go of threads and write what is still to be recorded."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._recorder is not None:
            self._recorder.close()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        try:
            response = await self._respond(scope, receive)
        except ClientGoneError:
            return
        except StemmaError as error:
            response = _error_response(path, error)
        except Exception:  # noqa: BLE001 - the edge: the client gets an answer, whatever it is
            _log.exception("%s failed", path)
            problem = StemmaError("the request failed inside the model process", code="internal")
            response = _error_response(path, problem)
        if self._ready is None and response.status >= _SERVER_ERROR:
            response = replace(response, headers=(*response.headers, _NOT_READY))
        await send_response(send, response, self._version)

    async def _respond(self, scope: Message, receive: Receive) -> Response:
        path: str = scope["path"]
        allowed, handler = self._route(path)
        if scope["method"] != allowed:
            raise InvalidInputError(
                f"{scope['method']} {path[:200]} is not allowed; use {allowed}",
                code=WRONG_METHOD,
            )
        request = await read_request(scope, receive, self.spec.max_body_bytes)
        if allowed == "GET":
            return handler(request)
        _check_body(request)
        response = await self._run(handler, request)
        if self._recorder is not None:
            self._recorder.keep(request)
        return response

    async def _run(self, handler: Handler, request: Request) -> Response:
        ready = self._model()
        self.busy += 1
        try:
            if ready.is_quick and len(request.body) <= _INLINE_BYTES:
                return handler(request)
            return await asyncio.get_running_loop().run_in_executor(self._threads, handler, request)
        finally:
            self.busy -= 1

    def _route(self, path: str) -> tuple[str, Handler]:
        """Return the method a path takes, and what answers it.

        Raises:
            NotFoundError: If there is no such path, model or version.
        """
        found = self._fixed.get(path) or self._fixed.get(path.rstrip("/"))
        if found is not None:
            return found
        match path.split("/")[1:]:
            case ["v2", "models", name, *rest]:
                self._check_model(name)
                return self._open_inference(path, rest)
            case ["v1", "models", name]:
                model, _, method = name.partition(":")
                self._check_model(model)
                if not method:
                    return "GET", lambda _: self._status()
                return "POST", lambda request: self._predict(request, method)
            case ["models", name, "invocations"]:
                self._check_model(name)
                return "POST", self._invocations
            case ["models", name, "ping"]:
                self._check_model(name)
                return "GET", lambda _: self._ping()
            case _:
                raise _no_path(path)

    def _open_inference(self, path: str, rest: list[str]) -> tuple[str, Handler]:
        match rest:
            case ["versions", version, *after]:
                if version != self.spec.version:
                    raise NotFoundError(
                        f"{self.spec.model} has no version {version[:100]!r} here; "
                        f"it is {self.spec.version}",
                        code="version-not-served",
                        hint=f"GET /v2/models/{self.spec.model}",
                    )
            case after:
                pass
        match after:
            case [] | [""]:
                return "GET", lambda _: self._metadata()
            case ["ready"]:
                return "GET", lambda _: self._health()
            case ["infer"]:
                return "POST", self._infer
            case _:
                raise _no_path(path)

    def _check_model(self, name: str) -> None:
        if name != self.spec.model:
            raise NotFoundError(
                f"no model {name[:100]!r} is served here; it is {self.spec.model!r}",
                code="model-not-served",
                hint="stemma status lists the models",
            )

    def _model(self) -> Ready:
        """Return the model.

        Raises:
            UnavailableError: If it is not ready.
        """
        if self._ready is None:
            name = f"{self.spec.model} {self.spec.version}"
            reason = f" failed: {self._failure}" if self._failure else " is loading"
            raise UnavailableError(name + reason, code="not-ready", hint="stemma status")
        return self._ready

    def _served(self) -> ServedModel:
        return self._model().model

    def _server(self, _: Request) -> Response:
        return _json(
            {"name": "stemma", "version": __version__, "extensions": ["binary_tensor_data"]}
        )

    def _health(self) -> Response:
        known = {"name": self.spec.model, "version": self.spec.version}
        if self._failure:
            return _json(known | {"ready": False, "error": self._failure}, 500)
        is_ready = self._ready is not None
        return _json(known | {"ready": is_ready}, 200 if is_ready else 503)

    def _ping(self) -> Response:
        return Response(status=self._health().status, body=b"\n", content_type=_TEXT)

    def _status(self) -> Response:
        """Answer as TensorFlow Serving and KServe's first protocol do, in one object."""
        is_ready = self._ready is not None
        entry = {
            "version": self.spec.version,
            "state": "AVAILABLE" if is_ready else "END" if self._failure else "LOADING",
            "status": {
                "error_code": "INTERNAL" if self._failure else "OK",
                "error_message": self._failure,
            },
        }
        return _json(
            {"name": self.spec.model, "ready": is_ready, "model_version_status": [entry]},
            200 if is_ready else 503,
        )

    def _metadata(self) -> Response:
        return _json(open_inference.metadata(self.spec, self._contract, self._served()))

    def _infer(self, request: Request) -> Response:
        return open_inference.infer(request, self.spec, self._contract, self._served())

    def _invocations(self, request: Request) -> Response:
        return scoring.invocations(request, self._contract, self._served())

    def _predict(self, request: Request, method: str) -> Response:
        return scoring.predict(request, self._contract, self._served(), method or PREDICT)


def _check_body(request: Request) -> None:
    """Refuse encodings, and JSON that would need too much memory.

    Raises:
        InvalidInputError: If the body cannot be taken.
    """
    encoding = request.headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        raise InvalidInputError(
            f"content encoding {encoding.decode('latin-1')[:40]!r} is not taken",
            code="unknown-encoding",
            hint="send the body as it is",
        )
    text = request.headers.get(open_inference.HEADER_LENGTH, b"")
    size = int(text) if text.isdigit() else len(request.body)
    if size > MAX_JSON_BYTES and request.path.endswith("/infer"):
        raise too_large(size, MAX_JSON_BYTES, "the JSON part")
    if len(request.body) > MAX_JSON_BYTES and not request.path.endswith("/infer"):
        raise too_large(len(request.body), MAX_JSON_BYTES)


def _json(value: object, status: int = 200) -> Response:
    return Response(status=status, body=msgspec.json.encode(value))


def _no_path(path: str) -> NotFoundError:
    return NotFoundError(
        f"nothing is served at {path[:200]}",
        code="unknown-path",
        hint="POST /v2/models/NAME/infer, /invocations or /v1/models/NAME:predict",
    )


def _error_response(path: str, error: StemmaError) -> Response:
    """Give an error the form of the protocol it was asked in."""
    status = status_of(error)
    if path.endswith("invocations"):
        known = {400: "INVALID_PARAMETER_VALUE", 404: "RESOURCE_DOES_NOT_EXIST"}
        phrase = HTTPStatus(status).phrase.upper().replace(" ", "_")
        form = {"error_code": known.get(status, phrase), "message": error.message}
    else:
        form = {"error": error.message, "code": error.code}
    return _json(form | ({"hint": error.hint} if error.hint else {}), status)
