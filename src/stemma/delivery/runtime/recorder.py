"""Keeps a sample of the requests that were answered, so that staging can replay them.

One file per request, ``request-<replica>-<place>.json``, one JSON object each:
    * ``path``: with query, as it was requested.
    * ``content_type``: as sent; may be empty.
    * ``headers``: ``inference-header-content-length`` where it was sent.
    * ``body_base64``: the body.

Invariants:
    * At most ``KEPT`` files; each request of this process has the same chance to be among them.
    * A file appears whole or not at all.
    * The answer never waits: a thread writes, and what it cannot keep up with is left out.
    * A full disk is one warning, and the end of recording until the process starts anew.
"""

from __future__ import annotations

import base64
import logging
import queue
import random
import threading
from pathlib import Path
from typing import Final

import msgspec

from stemma.delivery.runtime.http import Request

KEPT: Final = 200
"""Most files of one replica."""

_LARGEST_BODY_BYTES: Final = 700 * 1024
"""In base64, and with the rest, less than a mebibyte."""

_WAITING: Final = 16
_log = logging.getLogger(__name__)


class Recorder:
    """A sample of requests on disk."""

    def __init__(self, folder: Path, replica: int, *, seed: int | None = None) -> None:
        """Write into ``folder``, which is made when missing."""
        self._folder = folder
        self._replica = replica
        self._seen = 0
        # Chooses a sample; nothing secret hangs on it.
        self._random = random.Random(seed)  # noqa: S311
        self._waiting: queue.Queue[tuple[int, Request] | None] = queue.Queue(_WAITING)
        self._has_failed = False
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def keep(self, request: Request) -> None:
        """Perhaps keep a request; returns at once."""
        if self._has_failed or len(request.body) > _LARGEST_BODY_BYTES:
            return
        place = self._seen
        self._seen += 1
        if place >= KEPT:
            place = self._random.randrange(self._seen)
            if place >= KEPT:
                return
        try:
            self._waiting.put_nowait((place, request))
        except queue.Full:
            return

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Write what waits, as far as there is time."""
        try:
            self._waiting.put(None, timeout=timeout_seconds)
        except queue.Full:
            return
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._has_failed:
                continue
            try:
                self._write(*item)
            except OSError as error:
                self._has_failed = True
                _log.warning("requests are no longer recorded: %s", error)

    def _write(self, place: int, request: Request) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"request-{self._replica}-{place:03d}.json"
        unfinished = self._folder / f".{name}.tmp"
        query = f"?{request.query.decode('latin-1')}" if request.query else ""
        length = request.headers.get(b"inference-header-content-length")
        document = {
            "path": request.path + query,
            "content_type": request.headers.get(b"content-type", b"").decode("latin-1"),
            "headers": {}
            if length is None
            else {"inference-header-content-length": length.decode("latin-1")},
            "body_base64": base64.b64encode(request.body).decode("ascii"),
        }
        try:
            unfinished.write_bytes(msgspec.json.encode(document) + b"\n")
            unfinished.replace(self._folder / name)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
