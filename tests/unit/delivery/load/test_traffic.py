"""Traffic that goes on until it is told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stemma.delivery.load.made_up import make_up_requests
from stemma.domain.errors import UnavailableError

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Start]:
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"instances": [[1, 2]]}\n')
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "stemma.delivery.load.traffic", "--model", "digits"]
        child = subprocess.Popen(
            [*command, "--requests", str(requests), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.mark.slow
def test_it_sends_until_it_is_told_to_stop_and_then_says_what_came_of_it(
    upstream: Callable[..., Any], traffic: Start
) -> None:
    """A demonstration could not be ended, or nobody would learn how many users failed."""
    server = upstream(lambda number, _at: (500 if number == 3 else 200, 0.0))
    child = traffic("--socket", server.path, "--rate", "100")
    end = time.monotonic() + 10
    while len(server.seen) < 20 and time.monotonic() < end:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    output, complaint = child.communicate(timeout=10)
    assert (child.returncode, complaint) == (0, "")
    summary = json.loads(output)
    assert summary["sent"] == len(server.seen) >= 20
    assert summary["by_status"] == {"200": summary["sent"] - 1, "500": 1}
    assert summary["by_version"] == {"1.0.0": summary["sent"]}
    assert summary["errors"] == {"HTTP 500": 1}
    assert summary["p99_ms"] > 0


@pytest.mark.slow
def test_it_tells_each_second_when_asked_to_and_writes_the_summary_where_asked(
    upstream: Callable[..., Any], traffic: Start, tmp_path: Path
) -> None:
    """A demonstration would be blind while it runs."""
    server = upstream(lambda _number, _at: (200, 0.0))
    file = tmp_path / "summary.json"
    child = traffic(
        *("--socket", server.path, "--rate", "50", "--seconds", "1.3"),
        *("--progress", "json", "--summary", str(file)),
    )
    output, _ = child.communicate(timeout=15)
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["second"] for line in lines] == [1]
    assert 20 < lines[0]["sent"] <= json.loads(file.read_text())["sent"]


@pytest.mark.slow
def test_it_ends_with_whoever_started_it(
    upstream: Callable[..., Any], traffic: Start, tmp_path: Path
) -> None:
    """A killed demonstration would go on sending for ever."""
    server = upstream(lambda _number, _at: (200, 0.0))
    (tmp_path / "r.jsonl").write_text('{"instances": [[1, 2]]}\n')
    parent = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-m', 'stemma.delivery.load.traffic',"
        "'--model', 'digits', '--with-parent', *sys.argv[1:]]);"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    arguments = ("--requests", str(tmp_path / "r.jsonl"), "--socket", server.path)
    with subprocess.Popen(
        [sys.executable, "-c", parent, *arguments], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        end = time.monotonic() + 10
        while not server.seen and time.monotonic() < end:
            time.sleep(0.01)
        starter.kill()
    try:
        while _runs(pid) and time.monotonic() < end:
            time.sleep(0.02)
        assert not _runs(pid)
    finally:
        if _runs(pid):
            os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_bad_requests_are_said_in_one_line(traffic: Start, tmp_path: Path) -> None:
    """The user would get a stack trace."""
    (tmp_path / "requests.jsonl").write_text("{\n")
    child = traffic()
    _, complaint = child.communicate(timeout=10)
    assert child.returncode == 2
    assert complaint.startswith("stemma: bad-request-line: ")
    assert len(complaint.splitlines()) == 1


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        inputs = [
            {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "n", "datatype": "INT64", "shape": [-1]},
            {"name": "c", "datatype": "BYTES", "shape": [-1]},
            {"name": "b", "datatype": "BOOL", "shape": [-1]},
        ]
        is_known = self.path == "/v2/models/digits"
        self.send_response(200 if is_known else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"inputs": inputs} if is_known else {}).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def test_requests_are_made_up_from_what_the_model_says_it_takes() -> None:
    """A demonstration would need a file of requests, or send what every model refuses."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Metadata)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        found = make_up_requests(url, "digits", 1)
        with pytest.raises(UnavailableError, match="answers 404"):
            make_up_requests(url, "irises", 1)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    inputs = {tensor["name"]: tensor for tensor in json.loads(found.requests[0].body)["inputs"]}
    assert inputs["x"]["shape"] == [1, 3]
    assert len(inputs["x"]["data"]) == 3
    assert isinstance(inputs["n"]["data"][0], int)
    assert isinstance(inputs["c"]["data"][0], str)
    assert isinstance(inputs["b"]["data"][0], bool)
    with pytest.raises(UnavailableError, match="does not answer"):
        make_up_requests(url, "digits", 1)
