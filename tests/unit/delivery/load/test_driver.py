"""Load that is sent: open loop, timed from the scheduled send, every failure counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stemma.delivery.load.driver import drive
from stemma.delivery.load.measuring import measure
from stemma.delivery.load.plan import LoadPlan
from stemma.delivery.load.requests import LoadRequest
from stemma.delivery.load.schedule import constant
from stemma.domain.errors import InvalidInputError

REQUEST = LoadRequest(path="/v1/models/digits:predict", body=b'{"instances": [[1]]}')


def plan_of(path: str, rate: float, seconds: float, **changes: Any) -> LoadPlan:
    return LoadPlan(
        requests=(REQUEST,),
        offsets=constant(rate, seconds),
        seconds=seconds,
        sockets=(path,),
        **changes,
    )


def test_every_request_is_sent_and_its_answer_counted_by_version(
    upstream: Callable[..., Any],
) -> None:
    """A report would count other requests than were sent."""
    server = upstream(lambda _number, _at: (200, 0.0))
    result = drive(plan_of(server.path, 200, 0.2))
    assert result.sent == 40
    assert result.failed == 0
    assert result.versions == {"1.0.0": 40}
    assert server.seen == [(REQUEST.path, REQUEST.body)] * 40
    assert 0 < result.quantile_ms(0.5) < 100


@pytest.mark.slow
def test_a_stall_of_one_second_in_five_shows_in_p99(upstream: Callable[..., Any]) -> None:
    """A server that stalls would look fast, as it does to a generator that waits for it."""
    stalled: list[float] = []

    def behave(number: int, at: float) -> tuple[int, float]:
        is_first = at >= 2 and not stalled
        if is_first:
            stalled.append(at)
        return 200, 1.0 if is_first else 0.000_01

    server = upstream(behave)
    result = measure(plan_of(server.path, 100, 5))
    assert result.failed == 0
    assert result.quantile_ms(0.99) > 800
    assert result.quantile_ms(0.5) < 100
    slow = sum(1 for sample in result.samples if sample.latency_us > 100_000)
    assert 80 <= slow <= 110  # closed loop: one


@pytest.mark.slow
def test_a_server_that_cannot_keep_up_achieves_less_than_offered(
    upstream: Callable[..., Any],
) -> None:
    """A saturated version would pass, for it answers everything in the end."""
    server = upstream(lambda _number, _at: (200, 0.02))
    result = drive(plan_of(server.path, 100, 1))
    assert result.failed == 0
    assert result.keeps_up < 0.8


def test_errors_are_counted_by_kind(upstream: Callable[..., Any]) -> None:
    """A version that fails some requests would pass, or nobody could say how it fails."""
    answers = {1: 500, 2: 0, 3: 422}
    server = upstream(lambda number, _at: (answers.get(number, 200), 0.0))
    result = drive(plan_of(server.path, 100, 0.1))
    assert result.errors == {"HTTP 500": 1, "connection reset": 1, "HTTP 422": 1}
    assert result.statuses[0] == 1


def test_a_request_ends_with_the_timeout(upstream: Callable[..., Any]) -> None:
    """A version that hangs would hang its validation."""
    server = upstream(lambda _number, _at: (200, 5.0))
    result = drive(plan_of(server.path, 20, 0.1, timeout_seconds=0.05))
    assert result.errors == {"timeout": 2}
    assert result.quantile_ms(0.99) == 0


def test_nobody_listening_is_an_error_of_each_request(tmp_path: Path) -> None:
    """A slot that is not there would look like a slot that was not asked."""
    result = drive(plan_of(str(tmp_path / "none.sock"), 20, 0.1))
    assert result.errors == {"no socket": 2}


def test_warm_up_requests_are_sent_but_not_counted(upstream: Callable[..., Any]) -> None:
    """The first connection's cost would be taken for the model's."""
    server = upstream(lambda _number, _at: (200, 0.0))
    result = drive(plan_of(server.path, 20, 0.1, warm_up=5))
    assert result.sent == 2
    assert len(server.seen) == 7


def test_several_replicas_are_asked_in_turn(upstream: Callable[..., Any]) -> None:
    """One replica would take all of the load in staging, unlike in production."""
    servers = [upstream(lambda _number, _at: (200, 0.0)) for _ in range(2)]
    plan = LoadPlan(
        requests=(REQUEST,),
        offsets=constant(100, 0.1),
        seconds=0.1,
        sockets=tuple(server.path for server in servers),
    )
    assert drive(plan).failed == 0
    assert [len(server.seen) for server in servers] == [5, 5]


def test_a_load_without_requests_is_refused() -> None:
    """A validation without requests would pass."""
    with pytest.raises(InvalidInputError, match="no requests"):
        measure(LoadPlan(requests=(), offsets=(0.0,), seconds=1.0))
