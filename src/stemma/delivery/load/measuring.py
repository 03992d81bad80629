"""Drives a load in a process of its own, so that nothing else's work is taken for latency.

The child is ``python -m stemma.delivery.load.driver``: a plan on standard input, the result on
standard output, both msgpack.

Invariants:
    * It ends: the child is killed when it takes longer than the schedule and every timeout.
    * A child that cannot run is an error, never an empty result.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

import msgspec

from stemma.delivery.load.plan import LoadPlan
from stemma.delivery.load.result import LoadResult
from stemma.domain.errors import InvalidInputError, UnavailableError

Measure = Callable[[LoadPlan], LoadResult]
"""Sends a plan's requests and says what came of them."""

_DRIVER: Final = "stemma.delivery.load.driver"
_PATIENCE_SECONDS: Final = 30.0


def measure(plan: LoadPlan) -> LoadResult:
    """Send a plan's requests from a child process; takes as long as the plan.

    Raises:
        InvalidInputError: If there is nothing to send.
        UnavailableError: If the child could not run.
    """
    if not plan.requests or not plan.offsets:
        raise InvalidInputError(
            "there are no requests to send", code="no-requests", hint="name a file of requests"
        )
    longest = plan.seconds + plan.timeout_seconds * (1 + plan.warm_up) + _PATIENCE_SECONDS
    try:
        done = subprocess.run(
            [sys.executable, "-m", _DRIVER],
            input=msgspec.msgpack.encode(plan),
            capture_output=True,
            timeout=longest,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(f"did not end within {longest:.0f} s") from error
    try:
        return msgspec.msgpack.decode(done.stdout, type=LoadResult)
    except msgspec.DecodeError as error:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise _failed(last[0] if last else f"ended with {done.returncode}") from error


def _failed(why: str) -> UnavailableError:
    is_missing = find_spec("aiohttp") is None
    return UnavailableError(
        f"the load generator failed: {why}",
        code="load-generator-failed",
        hint="pip install 'stemma-ml[serve]'" if is_missing else "try again with a lower rate",
    )
