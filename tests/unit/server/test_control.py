"""What the server answers beside the models: who may call it, and who answers which path."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from typing_extensions import override

from stemma.domain.access import Needs, Role, allows
from stemma.hub.local import LocalHub
from stemma.server.control import ROUTES, ControlApplication, ControlServer
from stemma.server.mlflow_wiring import tracking_application
from stemma.server.token_guard import TokenGuard
from stemma.server.wiring import init_project, open_hub

_REFUSED: Final = {401, 403}


class Caller(http.client.HTTPConnection):
    """Asks over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))

    def ask(self, method: str, path: str, token: str = "") -> tuple[int, Any]:
        """Return the status and the JSON of an answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.request(method, path, headers=headers)
        response = self.getresponse()
        return response.status, json.loads(response.read())


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """Return an empty project."""
    init_project(tmp_path)
    with closing(open_hub(tmp_path)) as opened:
        yield opened


@pytest.mark.slow
def test_every_route_of_the_server_asks_for_a_token_and_its_role(hub: LocalHub) -> None:
    """Somebody in the network could see what serves, or stop a rollout."""
    tokens = {role: hub.create_token(role.value, role, None)[1] for role in Role}
    guard = TokenGuard(hub.parts.database, hub.parts.clock)
    with (
        tempfile.TemporaryDirectory(prefix="ctl-") as folder,
        tracking_application(hub.parts, guard) as tracking,
    ):
        service = hub.parts.delivery.service
        application = ControlApplication(service, hub.serving, guard=guard, tracking=tracking)
        server = ControlServer(application, Path(folder) / "c.sock")
        server.start()
        with closing(Caller(Path(folder) / "c.sock")) as caller:
            for route in ROUTES:
                path = route.path.replace("{model:path}", "digits")
                is_open = route.needs is Needs.OPEN
                status, answer = caller.ask(route.method, path)
                assert (status == 401) != is_open, path
                assert is_open or answer["error"]["code"] == "no-token"
                for role, token in tokens.items():
                    status, _ = caller.ask(route.method, path, token)
                    assert (status not in _REFUSED) == allows(role, route.needs), path
            tracked, answer = caller.ask("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0")
            assert (tracked, answer["error_code"]) == (401, "UNAUTHENTICATED")
            assert caller.ask("GET", "/nothing")[1]["error"]["code"] == "no-such-route"
        server.stop()
