"""The control application: what the server answers beside the models, behind the data plane.

Invariants:
    * Every route stands in ``ROUTES`` with who may call it; nothing else answers.
    * It listens on a private Unix socket; the data plane in front checks Host and Origin.
    * A body is read up to a limit, and no path or URL a client sent is ever opened.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import anyio.to_thread
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stemma.delivery.records.service import DeliveryService
from stemma.delivery.values import MetricPost, ServingView
from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    InvalidInputError,
    NotFoundError,
    StemmaError,
)

MAX_BODY_BYTES: Final = 64 * 1024
_LOCAL: Final = "anybody on this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRoute:
    """One line of the authorisation matrix.

    Attributes:
        method: HTTP method.
        path: Path with its parameters.
        allowed: Who may call it.
        purpose: What it is for.
    """

    method: str
    path: str
    allowed: str
    purpose: str


ROUTES: Final = (
    ControlRoute(method="GET", path="/healthz", allowed=_LOCAL, purpose="the server runs"),
    ControlRoute(
        method="GET", path="/api/serving", allowed=_LOCAL, purpose="what `stemma status` shows"
    ),
    ControlRoute(
        method="POST",
        path="/api/rollouts/{model:path}/metrics",
        allowed=_LOCAL,
        purpose="observations of a metric of your own, judged as a guardrail",
    ),
)
"""Every route with who may call it.  The server binds loopback only."""

_STATUS: Final[dict[type, int]] = {
    InvalidInputError: 400,
    DeniedError: 403,
    NotFoundError: 404,
    ConflictError: 409,
}


class PostedMetric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of ``POST /api/rollouts/MODEL/metrics``.

    Attributes:
        metric: Name of the metric.
        version: Version that the trials were answered by.
        events: Bad events among the trials.
        trials: Chances of one.
        key: The same key posted again is not counted again.
    """

    metric: str
    version: str
    events: int
    trials: int
    key: str


Handler = Callable[[Request], Awaitable[Response]]


@final
class ControlApplication:
    """Answers the control routes from the services of this process."""

    def __init__(self, service: DeliveryService, serving: Callable[[], ServingView]) -> None:
        """Answer from ``service`` and ``serving``."""
        self._service = service
        self._serving = serving

    def asgi(self) -> Starlette:
        """Return the ASGI application."""
        handlers: dict[str, Handler] = {
            "/healthz": self._health,
            "/api/serving": self._show,
            "/api/rollouts/{model:path}/metrics": self._post_metric,
        }
        return Starlette(
            routes=[
                Route(route.path, handlers[route.path], methods=[route.method]) for route in ROUTES
            ],
            exception_handlers={StemmaError: _refused, 404: _unknown, 405: _unknown},
        )

    async def _health(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def _show(self, _: Request) -> Response:
        return _json(await anyio.to_thread.run_sync(self._serving))

    async def _post_metric(self, request: Request) -> Response:
        body = await _read(request)
        try:
            posted = msgspec.json.decode(body, type=PostedMetric)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"the body is not understood: {error}", code="bad-body") from (
                error
            )
        post = MetricPost(
            model=request.path_params["model"],
            metric=posted.metric,
            version=posted.version,
            events=posted.events,
            trials=posted.trials,
            key=posted.key,
        )
        is_new = await anyio.to_thread.run_sync(self._service.post_metric, post)
        return _json({"is_new": is_new}, status=202)


async def _read(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise InvalidInputError(
                f"the body has more than {MAX_BODY_BYTES} bytes", code="body-too-large"
            )
    return body


def _json(payload: object, status: int = 200) -> Response:
    data = msgspec.json.encode(payload, enc_hook=str)
    headers = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
    return Response(data, status_code=status, media_type="application/json", headers=headers)


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, StemmaError):
        raise error
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    problem = {"code": error.code, "message": error.message, "hint": error.hint}
    return _json({"error": problem}, status)


async def _unknown(request: Request, _: Exception) -> Response:
    problem = {
        "code": "no-such-route",
        "message": f"{request.method} {request.url.path} is not answered here",
        "hint": "models answer at /v2/models/NAME/infer and /v1/models/NAME:predict",
    }
    return _json({"error": problem}, 404)


@final
class ControlServer:
    """Runs the control application in a thread, on a Unix socket."""

    def __init__(self, application: Any, socket: Path) -> None:
        """Name the socket; nothing listens before ``start``."""
        self._socket = socket
        configuration = uvicorn.Config(
            application, uds=str(socket), access_log=False, log_level="error", lifespan="off"
        )
        self._server = uvicorn.Server(configuration)
        self._thread = threading.Thread(target=self._server.run, name="control", daemon=True)

    def start(self) -> None:
        """Listen."""
        self._socket.unlink(missing_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """Let requests under way end, and end."""
        self._server.should_exit = True
        self._thread.join(timeout=5.0)
        self._socket.unlink(missing_ok=True)
