"""Tokens: made, listed, revoked, and asked for by every route."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from stemma.delivery.planes.base import DataPlane
from stemma.delivery.server_file import ServerRecord
from stemma.domain.access import Needs, Role
from stemma.domain.errors import ConflictError, DeniedError, InvalidInputError, NotFoundError
from stemma.domain.routing import Endpoint, ModelRoute, RouteTable
from stemma.hub.local import LocalHub
from stemma.server import token_guard
from stemma.server.delivery_wiring import delivery_sources
from stemma.server.reach import check_reach, make_guard, tracking_address
from stemma.server.token_guard import TokenGuard
from stemma.server.tracking_only import TrackingOnlyPlane, is_loopback
from stemma.server.wiring import init_project, open_hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """Return an empty project."""
    init_project(tmp_path)
    with closing(open_hub(tmp_path)) as opened:
        yield opened


def admitted(guard: TokenGuard, authorization: str, needs: Needs = Needs.READ) -> str:
    """Return who is admitted with a header."""
    return anyio.run(guard.admit, {"authorization": authorization}, needs)


def test_a_token_is_admitted_as_bearer_and_as_password(hub: LocalHub) -> None:
    """One of MLflow's two ways to send a token would not work."""
    _, text = hub.create_token("trainer", Role.WRITE, None)
    guard = TokenGuard(hub.parts.database, hub.parts.clock)
    basic = base64.b64encode(f"ada:{text}".encode()).decode()
    for header in (f"Bearer {text}", f"bearer  {text} ", f"Basic {basic}"):
        assert admitted(guard, header, Needs.WRITE) == "trainer"
    assert admitted(guard, "", Needs.OPEN) == admitted(guard, "", Needs.SIGNED) == ""


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer stemma_x",
        "Basic",
        "Basic ?",
        "Basic /w==",
        "Digest a=b",
        "x",
    ],
)
def test_what_is_no_token_is_refused(hub: LocalHub, header: str) -> None:
    """A stranger would get in, or a bad header be a fault of the server's."""
    hub.create_token("trainer", Role.ADMIN, None)
    guard = TokenGuard(hub.parts.database, hub.parts.clock)
    with pytest.raises(DeniedError) as refused:
        admitted(guard, header)
    assert refused.value.code == "no-token"


def test_a_lower_role_is_refused_and_told_which_is_needed(hub: LocalHub) -> None:
    """A token for looking could change records."""
    _, text = hub.create_token("team", Role.READ, None)
    guard = TokenGuard(hub.parts.database, hub.parts.clock)
    with pytest.raises(DeniedError, match="has the role read; this needs write") as refused:
        admitted(guard, f"Bearer {text}", Needs.WRITE)
    assert refused.value.code == "role-too-low"


def test_tokens_end_when_they_expire_or_are_revoked(hub: LocalHub) -> None:
    """A token that leaked could not be stopped."""
    moments = [datetime.now(UTC)]
    _, short = hub.create_token("short", Role.READ, timedelta(hours=1))
    _, leaked = hub.create_token("leaked", Role.READ, None)
    guard = TokenGuard(hub.parts.database, lambda: moments[-1])
    assert admitted(guard, f"Bearer {short}") == "short"
    moments.append(moments[0] + timedelta(hours=2))
    with pytest.raises(DeniedError):
        admitted(guard, f"Bearer {short}")
    assert [token.name for token in hub.list_tokens()] == ["leaked", "short"]
    hub.revoke_token("leaked")
    assert token_guard.AGE_SECONDS <= 1
    again = TokenGuard(hub.parts.database, hub.parts.clock)
    with pytest.raises(DeniedError):
        admitted(again, f"Bearer {leaked}")
    with pytest.raises(NotFoundError):
        hub.revoke_token("leaked")


def test_names_of_tokens_are_plain_and_taken_once(hub: LocalHub) -> None:
    """Two tokens of one name could not be told apart when one leaks."""
    hub.create_token("a@b.example", Role.READ, None)
    with pytest.raises(ConflictError):
        hub.create_token("a@b.example", Role.WRITE, None)
    for name in ("", "-x", "a b", "x" * 65, "../x", "a\n"):
        with pytest.raises(InvalidInputError):
            hub.create_token(name, Role.READ, None)


def test_nobody_listens_beyond_this_machine_without_tokens_or_with_models(hub: LocalHub) -> None:
    """Everybody in the network could read, write and ask models."""
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        check_reach(hub, host, ("digits",))
        assert is_loopback(host)
    with pytest.raises(DeniedError) as refused:
        check_reach(hub, "0.0.0.0", ())  # noqa: S104 - refused
    assert refused.value.code == "no-tokens"
    hub.create_token("team", Role.READ, None)
    check_reach(hub, "0.0.0.0", ())  # noqa: S104 - tokens say who
    assert isinstance(make_guard(hub.parts, "0.0.0.0"), TokenGuard)  # noqa: S104 - as above
    with pytest.raises(DeniedError) as refused:
        check_reach(hub, "192.0.2.1", ("digits@1.0.0",))
    assert refused.value.code == "models-on-loopback-only"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8700"),
        ("::1", "http://[::1]:8700"),
        ("0.0.0.0", f"http://{socket.gethostname()}:8700"),  # noqa: S104 - not bound to
    ],
)
def test_the_address_that_is_told_can_be_called(host: str, address: str) -> None:
    """Whoever copies the line would reach nothing, or another machine."""
    since = datetime(2026, 1, 1, tzinfo=UTC)
    record = ServerRecord(pid=1, host=host, port=8700, plane="envoy", since=since)
    assert tracking_address(record) == address


def test_no_route_of_a_model_comes_into_force_beyond_this_machine(hub: LocalHub) -> None:
    """A rollback from another terminal would open a model to the network."""
    plane: DataPlane = hub.parts.delivery.plane()
    endpoint = Endpoint(slot="a", version="1.0.0", sockets=("/s",))
    table = RouteTable(
        revision=3, models=(ModelRoute(model="digits", stable=endpoint),), control_socket="/c"
    )
    TrackingOnlyPlane(plane).apply(table)
    written = "".join(
        path.read_text(encoding="utf-8")
        for path in delivery_sources(hub.parts).state.glob("serve/plane/*/*.json")
    )
    assert "/c" in written
    assert "digits" not in written
