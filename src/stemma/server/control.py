"""The control application: what the server answers beside the models, behind the data plane.

Invariants:
    * Every route stands in ``ROUTES``, or in the table of a protocol, with what it needs of its
      caller; nothing else answers.
    * It listens on a private Unix socket; the data plane in front checks Host and Origin.
    * A body is read up to a limit, and no path or URL a client sent is ever opened.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import anyio.to_thread
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stemma.delivery.records.service import DeliveryService
from stemma.delivery.values import MetricPost, ServingView
from stemma.domain.access import Needs
from stemma.domain.errors import (
    ConflictError,
    DeniedError,
    InvalidInputError,
    NotFoundError,
    StemmaError,
)
from stemma.protocols.mlflow.app import Guard, MlflowApplication
from stemma.protocols.mlflow.errors import NO_TOKEN
from stemma.protocols.mlflow.routes import target_of

MAX_BODY_BYTES: Final = 64 * 1024
_START_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRoute:
    """One line of the authorisation matrix.

    Attributes:
        method: HTTP method.
        path: Path with its parameters.
        needs: What its caller must be allowed to do, where callers have to say who they are.
        purpose: What it is for.
    """

    method: str
    path: str
    needs: Needs
    purpose: str


ROUTES: Final = (
    ControlRoute(method="GET", path="/healthz", needs=Needs.OPEN, purpose="the server runs"),
    ControlRoute(
        method="GET", path="/api/serving", needs=Needs.READ, purpose="what `stemma status` shows"
    ),
    ControlRoute(
        method="POST",
        path="/api/rollouts/{model:path}/metrics",
        needs=Needs.WRITE,
        purpose="observations of a metric of your own, judged as a guardrail",
    ),
)
"""Every route of our own; on loopback everybody may call them all."""

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
Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]


@final
class ControlApplication:
    """Answers the control routes from the services of this process."""

    def __init__(
        self,
        service: DeliveryService,
        serving: Callable[[], ServingView],
        *,
        guard: Guard,
        tracking: MlflowApplication,
    ) -> None:
        """Answer from ``service`` and ``serving``, and leave to ``tracking`` what is its own."""
        self._service = service
        self._serving = serving
        self._guard = guard
        self._tracking = tracking
        self._own = self._make_own()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_tracking = scope["type"] == "http" and self._tracking.knows(target_of(scope))
        if is_tracking:
            await self._tracking(scope, receive, send)
        else:
            await self._own(dict(scope), receive, send)

    def _make_own(self) -> Starlette:
        handlers: dict[str, Handler] = {
            "/healthz": self._health,
            "/api/serving": self._show,
            "/api/rollouts/{model:path}/metrics": self._post_metric,
        }
        return Starlette(
            routes=[
                Route(
                    route.path, self._guarded(handlers[route.path], route), methods=[route.method]
                )
                for route in ROUTES
            ],
            exception_handlers={StemmaError: _refused, 404: _unknown, 405: _unknown},
        )

    def _guarded(self, handler: Handler, route: ControlRoute) -> Handler:
        async def admit_first(request: Request) -> Response:
            await self._guard.admit(request.headers, route.needs)
            return await handler(request)

        return admit_first

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
    if error.code == NO_TOKEN:
        return _json({"error": {"code": error.code, "message": error.message}}, 401)
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
            application,
            uds=str(socket),
            access_log=False,
            server_header=False,
            log_level="error",
            lifespan="off",
        )
        self._server = uvicorn.Server(configuration)
        self._thread = threading.Thread(target=self._server.run, name="control", daemon=True)

    def start(self) -> None:
        """Listen; returns once it does."""
        self._socket.unlink(missing_ok=True)
        self._thread.start()
        end = time.monotonic() + _START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)

    def stop(self) -> None:
        """Let requests under way end, and end."""
        self._server.should_exit = True
        self._thread.join(timeout=5.0)
        self._socket.unlink(missing_ok=True)
