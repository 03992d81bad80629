"""The ASGI application: one table of routes, who may call them, and errors as MLflow words them.

Invariants:
    * A path without parameters is found by one look-up; the few with parameters by their shape.
    * Every route is asked ``Guard.admit`` before its handler runs.
    * Nothing but an answer in MLflow's words leaves it: a fault of ours is logged and is a 500.
    * What MLflow has and this server has not answers 501, for clients ask again after others.

It listens nowhere; ``stemma.server.control`` mounts it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, final
from urllib.parse import unquote

import msgspec

from stemma.domain.access import Needs
from stemma.domain.errors import InvalidInputError, StemmaError
from stemma.protocols.mlflow.endpoints import ENDPOINTS
from stemma.protocols.mlflow.errors import Problem, broken, not_built, problem_of, unknown
from stemma.protocols.mlflow.ports import Services
from stemma.protocols.mlflow.routes import (
    ClientGoneError,
    MlflowRequest,
    MlflowRoute,
    Response,
    headers_of,
    target_of,
)

Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
Send: TypeAlias = Callable[[Mapping[str, object]], Awaitable[None]]

_LOG: Final = logging.getLogger(__name__)
_API: Final = "/api/"
_BROWSER_API: Final = "/ajax-api/"
_PARAMETER: Final = re.compile(r"\{(\w+)(:path)?\}")
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


class Guard(Protocol):
    """Decides who may call."""

    async def admit(self, headers: Mapping[str, str], needs: Needs) -> str:
        """Return who calls; empty where callers need not say so.

        Args:
            headers: Of the request, names in lower case.
            needs: What the route needs.

        Raises:
            DeniedError: If the caller may not; code ``no-token`` when none was shown.
        """
        ...


@final
class OpenGuard:
    """Admits everybody: the address is loopback, and so is everybody who reaches it."""

    async def admit(self, headers: Mapping[str, str], needs: Needs) -> str:  # noqa: ARG002 - a Protocol's
        """Return nobody's name."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A path with parameters, ready to be compared with."""

    method: str
    pattern: re.Pattern[str]
    route: MlflowRoute | None


@final
class RouteIndex:
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[MlflowRoute]) -> None:
        """Index ``routes``, and what MLflow has beside them as not built."""
        self._exact: dict[tuple[str, str], MlflowRoute | None] = {}
        self._shapes: list[_Shape] = []
        for route in routes:
            for path in mounted_at(route.path):
                self._add(route.method, path, route)
        for method, path in ENDPOINTS:
            for mounted in mounted_at(path):
                self._add(method, mounted, None)

    def find(self, method: str, target: str) -> tuple[MlflowRoute, dict[str, str]] | Problem:
        """Return the route of a request and its path's parameters, or what is wrong."""
        asked = "GET" if method == "HEAD" else method
        found = self._exact.get((asked, target), self)
        if isinstance(found, MlflowRoute):
            return found, {}
        if found is None:
            return not_built(method, target)
        for shape in self._shapes:
            if shape.method == asked and (match := shape.pattern.fullmatch(target)):
                if shape.route is None:
                    return not_built(method, target)
                return shape.route, _decoded(match.groupdict())
        return unknown(method, target)

    def _add(self, method: str, path: str, route: MlflowRoute | None) -> None:
        if "{" not in path:
            self._exact.setdefault((method, path), route)
            return
        shape = _Shape(method=method, pattern=_pattern(path), route=route)
        known = {(one.method, one.pattern) for one in self._shapes}
        if (method, shape.pattern) not in known:
            self._shapes.append(shape)


@final
class MlflowApplication:
    """Answers MLflow's REST protocol."""

    def __init__(
        self, services: Services, routes: Iterable[MlflowRoute], guard: Guard | None = None
    ) -> None:
        """Answer ``routes`` from ``services`` for whom ``guard`` admits."""
        self._services = services
        self._index = RouteIndex(routes)
        self._guard = guard or OpenGuard()

    def knows(self, target: str) -> bool:
        """Whether a path is MLflow's to answer, be it with an error."""
        return target.startswith(_PREFIXES) or target in _PLAIN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(scope, receive)
        except ClientGoneError:
            return
        except StemmaError as error:
            answer = _refusal(problem_of(error))
        except Exception:  # noqa: BLE001 - the process's edge: the client is told, the log says why
            _LOG.exception("%s %s failed", scope["method"], target_of(scope))
            answer = _refusal(broken())
        await _send(answer, send, is_head=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        found = self._index.find(scope["method"], target_of(scope))
        if isinstance(found, Problem):
            await self._guard.admit(headers_of(scope), Needs.READ)
            return _refusal(found)
        route, path = found
        user = await self._guard.admit(headers_of(scope), route.needs)
        request = MlflowRequest(self._services, scope, receive, path=path, user=user)
        answer = await route.handler(request)
        if isinstance(answer, Response):
            return answer
        return Response(body=msgspec.json.encode(answer))


def mounted_at(path: str) -> tuple[str, ...]:
    """Return every path that a route's path is answered at."""
    if path.startswith(_API):
        return path, _BROWSER_API + path.removeprefix(_API)
    return (path,)


def _pattern(path: str) -> re.Pattern[str]:
    parts, end = [], 0
    for match in _PARAMETER.finditer(path):
        parts.append(re.escape(path[end : match.start()]))
        parts.append(f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})")
        end = match.end()
    return re.compile("".join(parts) + re.escape(path[end:]), re.DOTALL)


def _decoded(found: Mapping[str, str]) -> dict[str, str]:
    try:
        return {name: unquote(text, errors="strict") for name, text in found.items()}
    except UnicodeDecodeError as error:
        raise InvalidInputError("the path is not understood", code="bad-path") from error


def _refusal(problem: Problem) -> Response:
    headers = {"www-authenticate": 'Basic realm="stemma"'} if problem.status == _NO_TOKEN else {}
    return Response(body=msgspec.json.encode(problem.body), status=problem.status, headers=headers)


async def _send(answer: Response, send: Send, *, is_head: bool) -> None:
    headers = [*_ALWAYS]
    if answer.media_type:
        headers.append((b"content-type", answer.media_type.encode("latin-1")))
    given = {name: value.encode("latin-1") for name, value in answer.headers.items()}
    if isinstance(answer.body, bytes):
        given.setdefault("content-length", str(len(answer.body)).encode())
    headers = [pair for pair in headers if pair[0].decode() not in given]
    headers += [(name.encode("latin-1"), value) for name, value in given.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if isinstance(answer.body, bytes):
        body = b"" if is_head else answer.body
        await send({"type": "http.response.body", "body": body})
        return
    if not is_head:
        async for part in answer.body:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


_NO_TOKEN: Final = 401
_PREFIXES: Final = ("/api/2.0/", "/api/2.0mlflow/", "/api/3.0/", "/api/4.0/", "/ajax-api/")
_PLAIN: Final = frozenset(path for _, path in ENDPOINTS if not path.startswith(_API))
