"""A traffic generator as a child process, for trying a rollout where no users are.

Invariants:
    * The generator ends with the block that started it, whatever ends the block.
    * One that dies by itself is told, with its last words.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from stemma.delivery.layout import ServeLayout
from stemma.delivery.load.requests import requests_of_rows
from stemma.delivery.runtime.golden import read_golden
from stemma.domain.errors import NotFoundError, UnavailableError

if TYPE_CHECKING:
    from stemma.delivery.values import ModelServing
    from stemma.hub.base import Hub

_MODULE: Final = "stemma.delivery.load.traffic"
_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is sent, and where.

    Attributes:
        address: Where the model is served, ``http://127.0.0.1:8700``.
        model: Name of the model.
        rate_per_second: Requests per second.
        requests: File of requests, one JSON object per line.
    """

    address: str
    model: str
    rate_per_second: float
    requests: Path


def write_golden_requests(
    hub: Hub, model: str, served: Sequence[ModelServing], target: Path
) -> None:
    """Write the golden rows of what serves a model as requests, one per line.

    Args:
        hub: Where the version is found.
        model: Name of the model.
        served: What serves it; empty when nothing does.
        target: The file.

    Raises:
        UnavailableError: If nothing serves the model.
        NotFoundError: If the version has no golden rows.
    """
    if not served:
        raise _not_served(model)
    version = served[0].deployment.deployed.version
    view = hub.resolve(f"{model}@{version}")
    folder = ServeLayout(state=hub.project_root / ".stemma").version(str(view.digest))
    try:
        golden = read_golden(folder / "golden.npz")
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{model} {version} has no golden rows to send",
            code="no-demo-requests",
            hint="--requests FILE names requests of yours, one JSON object per line",
        ) from error
    rows = requests_of_rows(golden.fitted_to(view.manifest.architecture.signature), model)
    target.write_bytes(b"".join(request.body + b"\n" for request in rows.requests))


def _not_served(model: str) -> UnavailableError:
    return UnavailableError(
        f"{model} is not served, so no requests can be sent to it",
        code="no-server",
        hint=f"stemma serve {model}",
    )


@contextmanager
def demo_traffic(traffic: Traffic) -> Iterator[Callable[[], str]]:
    """Send requests while the block runs; yields what says that the generator died.

    Args:
        traffic: What is sent, and where.

    Raises:
        UnavailableError: If nothing serves.
    """
    if not traffic.address:
        raise _not_served(traffic.model)
    with tempfile.TemporaryFile() as said:
        # A session of its own: Ctrl-C reaches the watch, which ends it in order.
        child = subprocess.Popen(
            _command(traffic),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield _watcher(child, said)
        finally:
            _end(child)


def _command(traffic: Traffic) -> list[str]:
    return [
        *(sys.executable, "-m", _MODULE, "--with-parent"),
        *("--url", traffic.address),
        *("--model", traffic.model),
        *("--rate", f"{traffic.rate_per_second:g}"),
        *("--requests", str(traffic.requests)),
    ]


def _watcher(child: subprocess.Popen[bytes], said: IO[bytes]) -> Callable[[], str]:
    def look() -> str:
        if child.poll() is None:
            return ""
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1]}" if lines else ""
        return f"the demo traffic ended by itself (exit {child.returncode}){last}"

    return look


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
