"""Drives a load in a process of its own, so that nothing else's work is taken for latency.

The child is ``python -m stemma.delivery.load.driver``: a plan on standard input, the result on
standard output, both msgpack.

Invariants:
    * It ends: the child is killed when it takes longer than the schedule and every timeout,
      or when it is stopped.
    * A child that cannot run is an error, never an empty result.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import IO, Final, Protocol, final

import msgspec
from typing_extensions import override

from stemma.delivery.load.plan import LoadPlan
from stemma.delivery.load.result import LoadResult
from stemma.domain.errors import InvalidInputError, UnavailableError

_DRIVER: Final = "stemma.delivery.load.driver"
_PATIENCE_SECONDS: Final = 30.0
_ROUND_SECONDS: Final = 0.02


class Sending(Protocol):
    """A load under way."""

    def result(self) -> LoadResult | None:
        """Return what came of it; ``None`` while it goes on.

        Raises:
            UnavailableError: If it could not run.
        """
        ...

    def stop(self) -> None:
        """End it; safe to repeat, and after its end."""
        ...


StartLoad = Callable[[LoadPlan], Sending]
"""Begins to send a plan's requests."""


@final
class ChildSending(Sending):
    """A load that a child process sends."""

    def __init__(self, plan: LoadPlan) -> None:
        """Start the child.

        Raises:
            InvalidInputError: If there is nothing to send.
        """
        if not plan.requests or not plan.offsets:
            raise InvalidInputError(
                "there are no requests to send", code="no-requests", hint="name a file of requests"
            )
        self._limit = plan.seconds + plan.timeout_seconds * (1 + plan.warm_up) + _PATIENCE_SECONDS
        self._end = time.monotonic() + self._limit
        # Files instead of pipes: neither side ever waits for the other to read.
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._complaint: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as above
        with tempfile.TemporaryFile() as given:
            given.write(msgspec.msgpack.encode(plan))
            given.seek(0)
            self._child = subprocess.Popen(
                [sys.executable, "-m", _DRIVER],
                stdin=given,
                stdout=self._output,
                stderr=self._complaint,
            )

    @override
    def result(self) -> LoadResult | None:
        code = self._child.poll()
        if code is None:
            if time.monotonic() > self._end:
                raise _failed(f"did not end within {self._limit:.0f} s")
            return None
        self._output.seek(0)
        try:
            return msgspec.msgpack.decode(self._output.read(), type=LoadResult)
        except msgspec.DecodeError as error:
            self._complaint.seek(0)
            last = self._complaint.read().decode(errors="replace").strip().splitlines()[-1:]
            raise _failed(last[0] if last else f"ended with {code}") from error

    @override
    def stop(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        self._output.close()
        self._complaint.close()


def measure(plan: LoadPlan) -> LoadResult:
    """Send a plan's requests from a child process; takes as long as the plan.

    Raises:
        InvalidInputError: If there is nothing to send.
        UnavailableError: If the child could not run.
    """
    sending = ChildSending(plan)
    try:
        while (result := sending.result()) is None:
            time.sleep(_ROUND_SECONDS)
        return result
    finally:
        sending.stop()


def _failed(why: str) -> UnavailableError:
    is_missing = find_spec("aiohttp") is None
    return UnavailableError(
        f"the load generator failed: {why}",
        code="load-generator-failed",
        hint="pip install 'stemma-ml[serve]'" if is_missing else "try again with a lower rate",
    )
