"""What a data plane costs, and what moving traffic costs users: Envoy beside the built-in proxy.

By hand: ``python -m benchmarks.scenarios.data_planes 5``.

Slots are stand-ins that answer at once, so that latency is the plane's.  Load is open loop
(Poisson, 200 requests a second) from a process of its own, timed from the scheduled send.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stemma.delivery.load.measuring import measure
from stemma.delivery.load.plan import LoadPlan
from stemma.delivery.load.requests import LoadRequest
from stemma.delivery.load.result import LoadResult
from stemma.delivery.load.schedule import poisson
from stemma.delivery.planes.base import DataPlane
from stemma.delivery.planes.builtin import BuiltinPlane
from stemma.delivery.planes.envoy import EnvoyPlane
from stemma.testing.data_plane_world import INFER, World, free_port

_RATE: Final = 200.0
_CHANGES: Final = 100
_ROLLBACKS: Final = 20
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")

Figures = dict[str, float]


def run(seconds: float = 5.0, rounds: int = 3) -> dict[str, object]:
    """Measure both planes; figures by plane."""
    figures: dict[str, dict[str, object]] = {}
    with _world(_envoy) as envoy, _world(_builtin) as builtin:
        for name, values in _costs(envoy, builtin, seconds, rounds).items():
            figures[name] = dict(values)
    for name, make in (("envoy", _envoy), ("builtin", _builtin)):
        with _world(make) as world:
            figures[name] |= _changes(world) | _rollbacks(world) | _killed(world, seconds)
    return {"rate_per_second": _RATE, "planes": figures}


def _envoy(folder: Path, port: int, sockets: Path) -> DataPlane:
    return EnvoyPlane(folder, "127.0.0.1", port, sockets=sockets)


def _builtin(folder: Path, port: int, sockets: Path) -> DataPlane:
    return BuiltinPlane(folder, "127.0.0.1", port, sockets=sockets)


@contextmanager
def _world(make: Callable[[Path, int, Path], DataPlane]) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="dp-"))
    world = World(make, folder / "plane", free_port(), folder)
    try:
        world.plane.start()
        world.publish(0)
        yield world
    finally:
        world.close()
        shutil.rmtree(folder)


def _costs(envoy: World, builtin: World, seconds: float, rounds: int) -> dict[str, Figures]:
    """Added latency and CPU, interleaved; the least of the rounds."""
    best: dict[str, Figures] = {}
    for _ in range(rounds):
        direct = measure(_plan(seconds, sockets=(str(envoy.stable.path),)))
        found = {"direct": _latency(direct)}
        for name, world in (("envoy", envoy), ("builtin", builtin)):
            before = _cpu_seconds(world)
            result = measure(_plan(seconds, port=world.port))
            cpu_us = (_cpu_seconds(world) - before) / result.sent * 1e6
            found[name] = {**_latency(result), "cpu_us_per_request": round(cpu_us, 1)}
        for name, values in found.items():
            kept = best.setdefault(name, values)
            best[name] = {key: min(kept[key], values[key]) for key in values}
    for name in ("envoy", "builtin"):
        for key in ("p50_ms", "p99_ms"):
            best[name][f"added_{key}"] = round(best[name][key] - best["direct"][key], 3)
    return best


def _changes(world: World) -> dict[str, object]:
    """Change the weight over and over under load; count who failed."""
    with _load(world, _CHANGES * 0.06 + 2) as results:
        for number in range(_CHANGES):
            world.publish(number * 100)
            time.sleep(0.05)
    (result,) = results
    return {
        "weight_changes": _CHANGES,
        "requests_meanwhile": result.sent,
        "failed_while_changing": result.failed,
    }


def _rollbacks(world: World) -> dict[str, object]:
    """Roll back under load; time from the call to the last request at the bad version."""
    last_ms: list[float] = []
    confirmed_ms: list[float] = []
    with _load(world, _ROLLBACKS * 0.75 + 2) as results:
        for _ in range(_ROLLBACKS):
            world.publish(5000)
            time.sleep(0.3)
            called_at = world.apply(0)
            world.plane.wait_for(world.revision, 5)
            confirmed_ms.append((time.monotonic() - called_at) * 1000)
            time.sleep(0.3)
            last_ms.append(max(0.0, (world.canary.seen[-1][0] - called_at) * 1000))
    (result,) = results
    return {
        "rollbacks": _ROLLBACKS,
        "requests_during_rollbacks": result.sent,
        "failed_during_rollbacks": result.failed,
        "last_request_to_bad_version_ms": {
            "p50": round(_quantile(last_ms, 0.5), 2),
            "p99": round(_quantile(last_ms, 0.99), 2),
        },
        "confirmed_ms": {
            "p50": round(_quantile(confirmed_ms, 0.5), 2),
            "p99": round(_quantile(confirmed_ms, 0.99), 2),
        },
    }


def _killed(world: World, seconds: float) -> dict[str, object]:
    """Kill the canary at half of the traffic; count who failed from then on."""
    world.publish(5000)
    with _load(world, seconds * 2) as results:
        time.sleep(seconds)
        asked = len(world.canary.seen) + len(world.stable.seen)
        world.canary.kill()
    (result,) = results
    after = max(1, result.sent - asked)
    return {
        "canary_killed_requests_after": after,
        "canary_killed_failed": result.failed,
        "canary_killed_failed_share": round(result.failed / after, 5),
    }


@contextmanager
def _load(world: World, seconds: float) -> Iterator[list[LoadResult]]:
    """Send requests meanwhile; the result is in the list when the block has ended."""
    for slot in (world.stable, world.canary):
        slot.seen.clear()
    results: list[LoadResult] = []
    sender = threading.Thread(
        target=lambda: results.append(measure(_plan(seconds, port=world.port)))
    )
    sender.start()
    world.until(lambda: len(world.stable.seen) + len(world.canary.seen) > 20)
    yield results
    sender.join()


def _plan(seconds: float, *, port: int = 0, sockets: tuple[str, ...] = ()) -> LoadPlan:
    return LoadPlan(
        requests=(LoadRequest(path=INFER, body=b"{}"),),
        offsets=poisson(_RATE, seconds, seed=7),
        seconds=seconds,
        url="" if sockets else f"http://127.0.0.1:{port}",
        sockets=sockets,
        warm_up=20,
    )


def _latency(result: LoadResult) -> Figures:
    return {
        "p50_ms": round(result.quantile_ms(0.5), 3),
        "p99_ms": round(result.quantile_ms(0.99), 3),
    }


def _cpu_seconds(world: World) -> float:
    """Return what the plane's process has used so far."""
    text = Path(f"/proc/{world.plane.status().pid}/stat").read_text(encoding="utf-8")
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    print(run(float(sys.argv[1]) if sys.argv[1:] else 5.0))
