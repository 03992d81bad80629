"""Traffic for a demonstration or a trial: sends requests until it is told to stop.

    python -m stemma.delivery.load.traffic --url http://127.0.0.1:8700 --model digits \
        --rate 100 --requests requests.jsonl

Without ``--requests`` they are made up from what the served model says it takes.

It says nothing meanwhile; ``--progress json`` prints a line per second.  On SIGTERM, SIGINT or
after ``--seconds`` it waits for answers under way and writes a JSON summary: counts by HTTP
status, version and error, and latencies from the scheduled send.

Invariants:
    * Poisson arrivals, open loop: a slow server gets its requests all the same.
    * With ``--with-parent`` it ends when the process that started it is gone.
    * Memory does not grow with time: latencies are counted in the buckets of ``domain.traffic``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from stemma.delivery.load.driver import Sender, open_senders, run_precisely, sleep_until
from stemma.delivery.load.made_up import make_up_requests
from stemma.delivery.load.plan import LoadPlan
from stemma.delivery.load.requests import read_request_file
from stemma.delivery.load.result import Sample
from stemma.delivery.load.schedule import poisson_forever
from stemma.domain.errors import StemmaError
from stemma.domain.traffic import SideCounts, latency_bucket

_LAST_ANSWERS_SECONDS: Final = 5.0
_BAD_INPUT: Final = 2


class Tally:
    """Counts samples."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._statuses: Counter[str] = Counter()
        self._versions: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._latency: Counter[int] = Counter()
        self.sent = 0

    def add(self, sample: Sample) -> None:
        """Count one."""
        self.sent += 1
        self._statuses[str(sample.status)] += 1
        if sample.version:
            self._versions[sample.version] += 1
        if sample.error:
            self._errors[sample.error] += 1
        if sample.status:
            self._latency[latency_bucket(sample.latency_us)] += 1

    def report(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        counts = SideCounts(latency=self._latency)
        return {
            "sent": self.sent,
            "failed": self._errors.total(),
            "by_status": dict(sorted(self._statuses.items())),
            "by_version": dict(sorted(self._versions.items())),
            "errors": dict(self._errors.most_common()),
            "p50_ms": round(counts.quantile_us(0.5) / 1e3, 3),
            "p99_ms": round(counts.quantile_us(0.99) / 1e3, 3),
        }


class Traffic:
    """Sends until it is stopped."""

    def __init__(self, options: argparse.Namespace, plan: LoadPlan) -> None:
        """Take what the command line asks for."""
        self._options = options
        self._plan = plan
        self._total = Tally()
        self._second = Tally()
        self._stopped = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> dict[str, Any]:
        """Send until SIGTERM, SIGINT, ``--seconds`` or, if asked, the parent's end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        start = time.perf_counter()
        async with open_senders(self._plan) as senders:
            others = [asyncio.create_task(self._look_each_second(start))]
            sending = asyncio.create_task(self._send(senders, start))
            waiting = asyncio.create_task(self._stopped.wait())
            await asyncio.wait((sending, waiting), return_when=asyncio.FIRST_COMPLETED)
            for task in (sending, waiting, *others):
                task.cancel()
            await asyncio.gather(sending, waiting, *others, return_exceptions=True)
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=_LAST_ANSWERS_SECONDS)
        return {"seconds": round(time.perf_counter() - start, 3), **self._total.report()}

    async def _send(self, senders: list[Sender], start: float) -> None:
        turn = cycle(senders)
        offsets = poisson_forever(self._options.rate, self._options.seed)
        for offset, request in zip(offsets, cycle(self._plan.requests), strict=False):
            if self._options.seconds and offset >= self._options.seconds:
                return
            await sleep_until(start + offset)
            task = asyncio.create_task(self._count(next(turn), request, offset, start))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _count(self, sender: Sender, *request: Any) -> None:
        sample = await sender.send(*request)
        self._total.add(sample)
        self._second.add(sample)

    async def _look_each_second(self, start: float) -> None:
        parent = os.getppid()
        second = 0
        while True:
            second += 1
            await sleep_until(start + second)
            if self._options.with_parent and os.getppid() != parent:
                self._stopped.set()
            if self._options.progress == "json":
                report = {"second": second, **self._second.report()}
                sys.stdout.write(f"{json.dumps(report)}\n")
                sys.stdout.flush()
            self._second = Tally()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        found = (
            read_request_file(options.requests, options.model)
            if options.requests is not None
            else make_up_requests(options.url, options.model, options.seed)
        )
    except StemmaError as error:
        sys.stderr.write(f"stemma: {error.code}: {error.message}\n")
        return _BAD_INPUT
    plan = LoadPlan(
        requests=found.requests,
        offsets=(),
        seconds=0.0,
        url=options.url,
        sockets=tuple(options.socket),
        connections=options.connections,
        timeout_seconds=options.timeout,
    )
    summary = run_precisely(_run(options, plan))
    text = f"{json.dumps(summary)}\n"
    if options.summary is None:
        sys.stdout.write(text)
    else:
        options.summary.write_text(text, encoding="utf-8")
    return 0


async def _run(options: argparse.Namespace, plan: LoadPlan) -> dict[str, Any]:
    return await Traffic(options, plan).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stemma.delivery.load.traffic", description="Send requests until stopped."
    )
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8700", help="where to send")
    add("--socket", action="append", default=[], help="a Unix socket instead; may be repeated")
    add("--model", required=True, help="name of the model")
    add("--requests", type=Path, help="file of requests, one JSON object per line")
    add("--rate", type=_above_zero, default=100.0, help="requests per second")
    add("--seconds", type=float, default=0.0, help="end after so long; 0: when told to")
    add("--connections", type=int, default=128, help="most connections")
    add("--timeout", type=_above_zero, default=30.0, help="seconds a request may take")
    add("--seed", type=int, default=1, help="of the arrivals")
    add("--progress", choices=("none", "json"), default="none", help="a line per second")
    add("--summary", type=Path, help="write the summary there instead of standard output")
    add("--with-parent", action="store_true", help="end when whoever started it is gone")
    return parser


def _above_zero(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
