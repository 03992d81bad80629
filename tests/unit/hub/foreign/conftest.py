"""A tracking server that answers what it is told to, over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typing_extensions import override

from stemma.hub.foreign.mlflow_address import MlflowAddress, parse_mlflow_address
from stemma.hub.foreign.mlflow_pull import pull_mlflow
from stemma.hub.foreign.outcome import ForeignOutcome
from stemma.hub.local_parts import LocalParts
from stemma.server.wiring import init_project, open_hub

RUN = "7" * 32
_API = "/api/2.0/mlflow/"
_FILES = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass(kw_only=True)
class CannedServer:
    """What a server answers.

    Attributes:
        address: Its address.
        answers: By path of the API.
        files: Bytes by path from the root of all artifacts.
        listed: What listings say, where they shall not tell what ``files`` has.
        failures: Statuses that are answered first, in order, whatever is asked.
        asked: Method, path and headers of each request.
    """

    address: MlflowAddress
    answers: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def count(self, word: str) -> int:
        """Return how many requests had this in their path."""
        return sum(word in path for _, path, _ in self.asked)

    def answer(self, path: str, query: dict[str, list[str]]) -> bytes | None:
        """Return a body; nothing for 404."""
        if path.startswith(_FILES + "/"):
            return self.files.get(path.removeprefix(_FILES + "/"))
        if path == _FILES:
            return json.dumps({"files": self._list(query["path"][0])}).encode()
        found = self.answers.get(path.removeprefix(_API))
        return None if found is None else json.dumps(found).encode()

    def _list(self, folder: str) -> list[dict[str, Any]]:
        if folder in self.listed:
            return self.listed[folder]
        return [
            {"path": path.rpartition("/")[2], "is_dir": False, "file_size": len(data)}
            for path, data in self.files.items()
            if path.rpartition("/")[0] == folder
        ]


@pytest.fixture
def server() -> Iterator[CannedServer]:
    """A server with one experiment of one run that ended, with a curve and a file."""
    canned = CannedServer(address=parse_mlflow_address("mlflow://127.0.0.1/"))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self.rfile.read(int(self.headers.get("content-length", "0")))
            canned.asked.append((self.command, self.path, dict(self.headers)))
            body = canned.answer(parts.path, parse_qs(parts.query))
            status = 200 if body is not None else 404
            if canned.failures:
                status, body = canned.failures.pop(0), b""
            self.send_response(status)
            self.send_header("content-length", str(len(body or b"")))
            self.send_header("location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(body or b"")

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        canned.address = parse_mlflow_address(f"mlflow://127.0.0.1:{listening.server_port}/")
        _fill(canned)
        try:
            yield canned
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[LocalParts]:
    """An empty project."""
    init_project(tmp_path)
    with closing(open_hub(tmp_path)) as hub:
        yield hub.parts


class Silent:
    """Is told how far it is, and says nothing."""

    def at(self, doing: str) -> None:
        """Take it in."""

    def advance(self, size_bytes: int) -> None:
        """Take it in."""


@pytest.fixture
def pull(parts: LocalParts, server: CannedServer) -> Callable[..., ForeignOutcome]:
    """Imports the server into the project."""
    return lambda **options: pull_mlflow(parts, server.address, {}, Silent(), **options)


def _fill(canned: CannedServer) -> None:
    point = {"key": "loss", "value": 0.25, "timestamp": 1_767_225_600_000, "step": 1}
    run = {
        "info": {
            "run_id": RUN,
            "experiment_id": "3",
            "run_name": "first",
            "status": "FINISHED",
            "start_time": 1_767_225_600_000,
            "end_time": 1_767_225_660_000,
            "artifact_uri": f"mlflow-artifacts:/3/{RUN}/artifacts",
        },
        "data": {"metrics": [point], "tags": [{"key": "team", "value": "growth"}]},
    }
    canned.answers = {
        "experiments/search": {"experiments": [{"experiment_id": "3", "name": "churn"}]},
        "runs/search": {"runs": [run]},
        "metrics/get-history": {"metrics": [{**point, "value": "NaN", "step": 0}, point]},
        "registered-models/search": {},
    }
    canned.files = {f"3/{RUN}/artifacts/notes.txt": b"hello"}
