"""Runs a function in a forked process: to its end, or to its death at a chosen moment.

Invariants:
    * The parent opens no project, so a child never inherits a connection or a lock.
    * What a child answered before it died is kept: that is what "acknowledged" means.
"""

from __future__ import annotations

import gc
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Answer = dict[str, Any]
Work = Callable[[], Answer]

POINTS: Final = (
    "fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,"
    "mkdir,mkdirat,pwrite64,write,ftruncate"
)
"""System calls that change what is on the disk: a kill before each of them is an exact point."""

_READY: Final = b"!"
_TIMEOUT_SECONDS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a child ended.

    Attributes:
        answer: What it answered; ``None`` when it died before.
        was_killed: It died by SIGKILL.
        seconds: From the start of its work to its end.
    """

    answer: Answer | None
    was_killed: bool
    seconds: float


def call(work: Work) -> Answer:
    """Run ``work`` in a fork and return its answer.

    Raises:
        RuntimeError: If it raised; with its traceback.
    """
    end = watch(work)
    if end.answer is None or "error" in end.answer:
        raise RuntimeError((end.answer or {"error": "the child died"})["error"])
    return end.answer


def watch(work: Work, *, kill_after_seconds: float | None = None) -> End:
    """Run ``work`` in a fork; with ``kill_after_seconds``, SIGKILL it then."""
    child = _Child(work)
    child.release()
    return child.finish(kill_after_seconds)


def together(works: Sequence[Work], kill_after_seconds: Sequence[float | None] = ()) -> list[End]:
    """Run each of ``works`` in a fork of its own, all at once; SIGKILL each after its time."""
    children = [_Child(work) for work in works]
    for child in children:
        child.release()
    limits = [*kill_after_seconds, *[None] * (len(works) - len(kill_after_seconds))]
    # Those that die first are waited for first, so that no death comes late.
    order = sorted(range(len(works)), key=lambda number: limits[number] or _TIMEOUT_SECONDS)
    ends = {number: children[number].finish(limits[number]) for number in order}
    return [ends[number] for number in range(len(works))]


def kill_at_call(work: Work, number: int, points: str = POINTS) -> End:
    """Run ``work`` in a fork and SIGKILL it as a thread of it enters its N-th call of these."""
    child = _Child(work)
    rule = f"inject={points}:signal=SIGKILL:when={number}"
    with _Tracer(child.pid, ["-e", f"trace={points}", "-e", rule], Path(os.devnull)):
        child.release()
        return child.finish(None)


def trace(work: Work, log: Path) -> End:
    """Run ``work`` in a fork and write every call that changes the disk to ``log``, whole."""
    child = _Child(work)
    with _Tracer(child.pid, ["-y", "-xx", "-s", "2000000", "-e", f"trace=openat,{POINTS}"], log):
        child.release()
        return child.finish(None)


def count_calls(work: Work, log: Path) -> tuple[int, End]:
    """Return how many calls of POINTS the main thread of ``work`` makes."""
    child = _Child(work)
    with _Tracer(child.pid, ["-e", f"trace={POINTS}"], log):
        child.release()
        end = child.finish(None)
    calls = re.compile(rf"^{child.pid} +[a-z0-9_]+\(")
    return sum(bool(calls.match(line)) for line in log.read_text().splitlines()), end


def most_calls(log: Path, points: str) -> int:
    """Return how many of these calls the thread made that made most of them."""
    names = "|".join(points.split(","))
    call = re.compile(rf"^(\d+) +(?:{names})\(")
    found = (call.match(line) for line in log.read_text().splitlines())
    return max(Counter(line[1] for line in found if line is not None).values(), default=0)


def has_tracer() -> bool:
    """Whether strace is here and may attach."""
    if shutil.which("strace") is None:
        return False
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True)
    return probe.returncode == 0


class _Child:
    """A forked process that waits for a word before it works."""

    def __init__(self, work: Work) -> None:
        gate_out, self._gate = os.pipe()
        self._answers, answers_in = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            os.close(self._answers)
            _work(work, gate_out, answers_in)
        os.close(gate_out)
        os.close(answers_in)

    def release(self) -> None:
        """Let it work, and wait until it begins."""
        os.write(self._gate, _READY)
        os.close(self._gate)
        os.read(self._answers, 1)
        self._began = time.perf_counter()

    def finish(self, kill_after_seconds: float | None) -> End:
        """Wait for its end, or bring it about."""
        data = b""
        limit = _TIMEOUT_SECONDS if kill_after_seconds is None else kill_after_seconds
        while True:
            left = self._began + limit - time.perf_counter()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                os.kill(self.pid, signal.SIGKILL)
                limit = _TIMEOUT_SECONDS
            block = os.read(self._answers, 1 << 16)
            if not block:
                break
            data += block
        _, status = os.waitpid(self.pid, 0)
        seconds = time.perf_counter() - self._began
        os.close(self._answers)
        return End(
            answer=json.loads(data) if data.endswith(b"\n") else None,
            was_killed=os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
            seconds=seconds,
        )


def _work(work: Work, gate: int, answers: int) -> None:
    """Do the work in the child; never returns."""
    try:
        os.read(gate, 1)
        os.write(answers, _READY)
        try:
            answer = work()
        except BaseException:  # noqa: BLE001 - the edge of the process
            answer = {"error": traceback.format_exc()}
        gc.collect()  # a process that ends by itself lets go of its temporary folder
        os.write(answers, json.dumps(answer).encode() + b"\n")
    finally:
        os._exit(0)


class _Tracer:
    """strace on a child and all its threads."""

    def __init__(self, pid: int, options: list[str], log: Path) -> None:
        self._command = ["strace", "-f", "-p", str(pid), "-o", str(log), *options]

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        if "attached" not in line:
            raise RuntimeError(line)

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
